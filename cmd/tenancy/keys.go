package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// keysCommand looks after the keys that sign tenants.
type keysCommand struct {
	connection
	id, from, fromEnv, to, notBefore string
	lifetime                         time.Duration
	atOnce, only                     bool
	format                           string
	set                              *flag.FlagSet // options may follow the action
}

const keysDetails = `
    tenancy keys list                              show the keys of the database, never their secrets
    tenancy keys add --id 2026-12 --to key.txt     make a key, add it, and write it to a new file that only you can read
    tenancy keys add --id 2026-12 --from key.txt   add a key that exists: from a file, - for the standard input, or --from-env
    tenancy keys retire --id 2026-11               remove the key that does not sign any more

Log in as a member of the role that owns the keys, as the role that migrates is. A key is written as the application reads it: id:secret, with the secret in
base64. It is sent as the data of COPY, which PostgreSQL does not log, and never as SQL text or an argument. The database takes at most two keys.

To replace a key: add the new one; give it to the application behind the old one; when every instance signs with it, wait for the application's ProofLifetime and two
minutes; retire the old one.
`

func (c *keysCommand) flags(fs *flag.FlagSet) {
	c.set = fs
	c.databaseFlag(fs)
	fs.StringVar(&c.id, "id", "", "the `id` of the key: 1 to 32 letters, digits, dots, dashes or underscores")
	fs.StringVar(&c.from, "from", "", "with add, the `file` that has the key, as id:secret or the secret alone in base64; - for the standard input")
	fs.StringVar(&c.fromEnv, "from-env", "", "with add, the environment `variable` that has the key")
	fs.StringVar(&c.to, "to", "", "with add, make a key, and write it to this new `file` with mode 0600; - for the standard output")
	fs.StringVar(&c.notBefore, "not-before", "", "with --to, the `time` from when on the application signs with it, such as 2026-12-01T06:00:00Z (default: at once)")
	fs.DurationVar(&c.lifetime, "proof-lifetime", 5*time.Minute, "with retire, Config.ProofLifetime of the application, as a `duration` (default 5m)")
	fs.BoolVar(&c.atOnce, "dangerously-at-once", false, "with retire, remove the key although statements may still be signed with it: they see no row")
	fs.BoolVar(&c.only, "dangerously-the-only-key", false, "with retire, remove the key although there is no other: no statement sees a row until one is added")
	textOrJSON(fs, &c.format)
}

// keysDone is what was done, for programs.
type keysDone struct {
	Added   string    `json:"added,omitempty"`
	Retired string    `json:"retired,omitempty"`
	File    string    `json:"file,omitempty"` // that the key was written to
	Key     string    `json:"key,omitempty"`  // with its secret, where it was asked for on the standard output
	Keys    []jsonKey `json:"keys"`           // that there are now, the newest first
}

type jsonKey struct {
	ID         string    `json:"id"`
	CreatedAt  time.Time `json:"created_at"`
	AgeSeconds int64     `json:"age_seconds"`
	Newest     bool      `json:"newest"`
}

func (c *keysCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if len(args) == 0 {
		return 0, misused("say what to do: add, list or retire")
	}
	action := args[0]
	if action != "add" && action != "list" && action != "retire" {
		return 0, misused("%s: it must be add, list or retire", unknown("action", action))
	}
	if err := parseRest(c.set, args[1:]); err != nil {
		return 0, err
	}
	if err := c.checkOptions(action); err != nil {
		return 0, err
	}
	var key newKey
	if action == "add" {
		var err error
		if key, err = c.newKey(s); err != nil {
			return 0, err
		}
	}
	done, err := c.work(ctx, action, key, s)
	if err != nil {
		return 0, err
	}
	text := c.asText(done)
	if c.format == "json" {
		if text, err = indented(done); err != nil {
			return 0, err
		}
	}
	return exitClean, write(s, text)
}

// checkOptions refuses options that cannot be meant.
func (c *keysCommand) checkOptions(action string) error {
	sources := 0
	for _, source := range []string{c.from, c.fromEnv, c.to} {
		if source != "" {
			sources++
		}
	}
	switch {
	case action != "add" && (sources > 0 || c.notBefore != ""):
		return misused("--from, --from-env, --to and --not-before are for add")
	case action != "retire" && (c.atOnce || c.only):
		return misused("--dangerously-at-once and --dangerously-the-only-key are for retire")
	case action == "list" && c.id != "":
		return misused("list shows all keys: leave out --id")
	case action == "add" && sources != 1:
		return misused("add needs one of --to, which makes a key, --from and --from-env")
	case c.notBefore != "" && c.to == "":
		return misused("--not-before is for --to")
	case c.id == "" && (action == "retire" || c.to != ""):
		return misused("say which key: --id")
	case c.id != "" && signing.CheckID(c.id) != nil:
		return misused("--id: must be 1 to 32 letters, digits, dots, dashes or underscores (not shown: it may be a secret)")
	case !isFile(c.from) || !isFile(c.to):
		return misused("--from and --to: must be files (not shown: one looks like a DSN)")
	}
	return nil
}

// work does the action in one transaction.
func (c *keysCommand) work(ctx context.Context, action string, key newKey, s streams) (done keysDone, err error) {
	pool, err := c.open(ctx, s)
	if err != nil {
		return keysDone{}, err
	}
	defer pool.Close()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return keysDone{}, err
	}
	defer conn.Close()
	err = conn.Raw(func(driver any) error {
		pg := driver.(*stdlib.Conn).Conn()
		tx, err := pg.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		if err := becomeSigner(ctx, tx); err != nil {
			return err
		}
		switch action {
		case "add":
			err = c.add(ctx, tx, key)
		case "retire":
			_, err = tx.Exec(ctx, "SELECT "+signing.Schema+".retire_key($1, $2, $3, $4)", c.id, c.lifetime, c.atOnce, c.only)
		}
		if err != nil {
			return c.advise(err)
		}
		if done.Keys, err = listKeys(ctx, tx); err != nil {
			return err
		}
		return c.finish(ctx, tx, action, key, &done)
	})
	return done, err
}

// finish writes the new key before it commits: a key that is in the database alone is of no use.
func (c *keysCommand) finish(ctx context.Context, tx pgx.Tx, action string, key newKey, done *keysDone) error {
	if action != "add" || c.to == "" || c.to == "-" {
		if err := tx.Commit(ctx); err != nil {
			return err
		}
	} else {
		if err := key.save(c.to); err != nil {
			return err
		}
		done.File = c.to
		err := tx.Commit(ctx)
		if errors.As(err, new(*pgconn.PgError)) { // the database does not have it
			return errors.Join(err, os.Remove(c.to))
		}
		if err != nil {
			return fmt.Errorf("the key is in %s, and may be in the database: \"tenancy keys list\" shows it: %w", printable(c.to), err)
		}
	}
	switch action {
	case "add":
		done.Added = key.id
		if c.to == "-" {
			done.Key = key.encoded()
		}
	case "retire":
		done.Retired = c.id
	}
	return nil
}

// becomeSigner takes the role that owns the keys, until the transaction ends, and ensures that the functions are those of this version: others could
// keep the secret.
func becomeSigner(ctx context.Context, tx pgx.Tx) error {
	var (
		owner     string
		may, same bool
	)
	err := tx.QueryRow(ctx, signing.OwnerSQL(policy.CanTake)).Scan(&owner, &may)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("the schema %s is missing: migrate with rls.Isolation{Signed: true}", signing.Schema)
	}
	if err != nil {
		return err
	}
	if !may {
		return fmt.Errorf("log in as a member of the role %q, which owns the keys, as the role that migrates is", owner)
	}
	if err := tx.QueryRow(ctx, signing.IsSetUp, owner).Scan(&same); err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("what is in the schema %s is not what this version makes: run Isolation.Migrate first", signing.Schema)
	}
	_, err = tx.Exec(ctx, "SELECT pg_catalog.set_config('role', $1, true)", owner)
	return err
}

// add sends the key as the data of COPY, in the binary format: errors show no data of it either.
func (c *keysCommand) add(ctx context.Context, tx pgx.Tx, key newKey) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{signing.Schema, signing.UploadView}, []string{"id", "secret"}, pgx.CopyFromRows([][]any{{key.id, key.secret()}}))
	return err
}

func listKeys(ctx context.Context, tx pgx.Tx) ([]jsonKey, error) {
	var text string
	err := tx.QueryRow(ctx, `SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('id', k.id, 'created_at', k.created_at,
		'age_seconds', pg_catalog.floor(pg_catalog.date_part('epoch', k.age)), 'newest', k.newest)), '[]')::pg_catalog.text FROM `+signing.Schema+`.list_keys() k`).Scan(&text)
	keys := []jsonKey{}
	if err == nil {
		err = json.Unmarshal([]byte(text), &keys)
	}
	return keys, err
}

// advise says what to do about what the functions refuse.
func (c *keysCommand) advise(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	const uniqueViolation = "23505"
	why := strings.TrimPrefix(pg.Message, "tenancy: ")
	switch pg.Code {
	case uniqueViolation:
		return fmt.Errorf("there is a key of this id already: \"tenancy keys list\" shows all, and a new key needs an id of its own")
	case signing.StateTooManyKeys:
		return fmt.Errorf("there are two keys already, and two are enough to replace one: retire the one that does not sign any more, with \"tenancy keys retire\"")
	case signing.StateUnknownKey:
		return fmt.Errorf("there is no key of this id: \"tenancy keys list\" shows all")
	case signing.StateOnlyKey:
		return fmt.Errorf("%s, with \"tenancy keys add\", or say --dangerously-the-only-key", why)
	case signing.StateTooEarly:
		return fmt.Errorf("%s: wait until then, and until every instance signs with the other key. If the key has leaked, say --dangerously-at-once: statements signed with it fail to "+
			"see rows until their instances sign with the other", why)
	case signing.StateNewestKey:
		return fmt.Errorf("%s. If no instance has it, or it has leaked, say --dangerously-at-once: statements signed with it see no row", why)
	case signing.StateOtherCall:
		return errors.New(why)
	}
	return fmt.Errorf("PostgreSQL refuses it (SQLSTATE %s)", pg.Code) // whose message could hold a value
}

// asText writes what was done for people.
func (c *keysCommand) asText(done keysDone) string {
	var b strings.Builder
	switch {
	case done.Key != "":
		return done.Key + "\n" // to be sent on
	case done.Added != "":
		fmt.Fprintf(&b, "Added %s.\n", done.Added)
		if done.File != "" {
			fmt.Fprintf(&b, "It is in %s, which only you can read: move it to where the application reads its keys, and leave no copy.\n", line(done.File))
		}
		if len(done.Keys) > 1 {
			b.WriteString("The application needs both keys now. When every instance signs with this one, wait for its ProofLifetime and two minutes, and retire the other.\n")
		}
	case done.Retired != "":
		fmt.Fprintf(&b, "Retired %s: what it has signed is refused from now on.\n", done.Retired)
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	for _, k := range done.Keys {
		note := ""
		if k.Newest {
			note = "  newest"
		}
		fmt.Fprintf(&b, "%-32s  %s old%s\n", k.ID, time.Duration(k.AgeSeconds)*time.Second, note)
	}
	fmt.Fprintf(&b, "%s.\n", count(len(done.Keys), "key"))
	return b.String()
}
