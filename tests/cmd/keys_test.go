package cmd_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	plugin "github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// keysJSON is what the command prints for programs.
type keysJSON struct {
	Added, Retired, File, Key string
	Keys                      []struct {
		ID         string `json:"id"`
		AgeSeconds int    `json:"age_seconds"`
		Newest     bool   `json:"newest"`
	}
}

type keyed struct{ *testdb.Database }

func (d keyed) run(args ...string) command {
	return command{args: append([]string{"keys"}, args...), url: d.Owner.DSN}
}

func (d keyed) json(t *testing.T, args ...string) (result keysJSON) {
	t.Helper()
	r := d.run(append(args, "--format", "json")...).run(t)
	require.Zero(t, r.exit, r.errors)
	require.NoError(t, json.Unmarshal([]byte(r.out), &result))
	return result
}

// age makes all keys older.
func (d keyed) age(t *testing.T, interval string) {
	t.Helper()
	d.AsSuperuser(t, `UPDATE tenancy_signed.keys SET created_at = created_at - interval '`+interval+`'`)
}

// starts reports whether the application starts with the keys of a file.
func (d keyed) starts(t *testing.T, file string) error {
	t.Helper()
	db, err := testdb.OpenGuarded(t, d.App.DSN, plugin.Config{SigningKeys: plugin.SigningKeysFromFile(file), Logger: testdb.Quiet})
	if err == nil {
		err = db.WithContext(testdb.As("acme")).Exec("INSERT INTO patients (name) VALUES ('x')").Error
	}
	return err
}

func TestKeysAreReplacedByTheCommand(t *testing.T) {
	t.Parallel()
	d := keyed{testdb.NewSigned(t, &Patient{})}
	list := d.json(t, "list")
	require.Len(t, list.Keys, 1)
	require.Equal(t, "first", list.Keys[0].ID)
	require.True(t, list.Keys[0].Newest)

	file := filepath.Join(t.TempDir(), "key")
	r := d.run("add", "--id", "second", "--to", file).run(t)
	require.Zero(t, r.exit, r.errors)
	require.Contains(t, r.out, "Added second.")
	require.Contains(t, r.out, "2 keys.")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	id, secret, _ := strings.Cut(strings.TrimSpace(string(written)), ":")
	require.Equal(t, "second", id)
	require.NotContains(t, r.out+r.errors, secret)
	require.NoError(t, d.starts(t, file), "the application takes the file as it is")

	d.run("add", "--id", "third", "--to", file+"3").run(t).failed(t, "there are two keys already", "tenancy keys retire")
	require.NoFileExists(t, file+"3")
	d.run("retire", "--id", "first").run(t).failed(t, "may be in use until", "--dangerously-at-once")
	d.age(t, "6 minutes")
	d.run("retire", "--id", "first").run(t).failed(t, "may be in use until")
	d.age(t, "2 minutes")
	d.run("retire", "--id", "first", "--proof-lifetime", "10m").run(t).failed(t, "may be in use until")
	d.run("retire", "--id", "second").run(t).failed(t, "the newest signing key", "retire the other one", "--dangerously-at-once")
	r = d.run("retire", "--id", "first").run(t)
	require.Zero(t, r.exit, r.errors)
	require.Contains(t, r.out, "Retired first")
	require.NoError(t, d.starts(t, file))
	list = d.json(t, "list")
	require.Len(t, list.Keys, 1)
	require.Equal(t, "second", list.Keys[0].ID)
	require.GreaterOrEqual(t, list.Keys[0].AgeSeconds, 480)

	d.run("retire", "--id", "second").run(t).failed(t, "the only signing key", "--dangerously-the-only-key")
	d.run("retire", "--id", "second", "--dangerously-at-once").run(t).failed(t, "the only signing key")
	done := d.json(t, "retire", "--id", "second", "--dangerously-the-only-key")
	require.Equal(t, "second", done.Retired)
	require.Empty(t, done.Keys)
	require.Error(t, d.starts(t, file))

	leaked := d.json(t, "add", "--id", "leaked", "--to", "-")
	require.True(t, strings.HasPrefix(leaked.Key, "leaked:"))
	d.json(t, "add", "--id", "next", "--to", "-")
	require.Equal(t, "leaked", d.json(t, "retire", "--id", "leaked", "--dangerously-at-once").Retired)
}

func TestKeysAreReadFromEverywhere(t *testing.T) {
	d := keyed{testdb.NewSigned(t, &Patient{})}
	d.RetireKey(t, "first")
	secret := base64.StdEncoding.EncodeToString([]byte("a secret of 33 bytes is also good"))
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte("# the keys\nold:"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\nnew:"+secret+"\n"), 0o600))
	t.Setenv("TEST_SIGNING_KEY", "new:"+secret)
	for name, c := range map[string]command{
		"file":             d.run("add", "--id", "new", "--from", file),
		"standard input":   {args: []string{"keys", "add", "--id", "new", "--from", "-"}, url: d.Owner.DSN, stdin: secret + "\n"},
		"a key from there": {args: []string{"keys", "add", "--from", "-"}, url: d.Owner.DSN, stdin: "new:" + secret},
		"environment":      d.run("add", "--from-env", "TEST_SIGNING_KEY"),
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t)
			require.Zero(t, r.exit, r.errors)
			require.NotContains(t, r.out+r.errors, secret)
			require.NoError(t, d.starts(t, fileWith(t, "new:"+secret)))
			d.run("add", "--id", "new", "--from", file).run(t).failed(t, "a key of this id already")
			d.RetireKey(t, "new")
		})
	}

	// No error shows what may be a secret.
	for stdin, why := range map[string]string{
		secret:                         "say --id",
		"new:" + secret[1:]:            "base64",
		"new:" + secret[:20]:           "32 to 64 bytes",
		"no base64 " + secret:          "base64",
		secret + ":new":                "base64",
		"a:" + secret + ",b:" + secret: "several keys",
	} {
		r := command{args: []string{"keys", "add", "--from", "-"}, url: d.Owner.DSN, stdin: stdin}.run(t)
		r.failed(t, why)
		require.NotContains(t, r.errors, secret[1:20], why)
	}
	d.run("add", "--from-env", secret[:20]).run(t).failed(t, "not set")
	r := d.run("add", "--id", secret, "--to", "-").run(t)
	r.failed(t, "--id")
	require.NotContains(t, r.errors, secret)
	d.run("add", "--id", "new", "--to", file).run(t).failed(t, "not overwritten")
	require.Empty(t, d.json(t, "list").Keys, "what cannot be written is not added")
}

func fileWith(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// TestKeysAreInNoLog of a server that logs every statement with its parameters, as that of add_key does.
func TestKeysAreInNoLog(t *testing.T) {
	t.Parallel()
	d := keyed{testdb.NewSigned(t, &Patient{})}
	for _, setting := range []string{"log_statement = 'all'", "log_min_duration_statement = 0", "log_min_error_statement = 'debug1'", "log_parameter_max_length_on_error = -1"} {
		d.AsSuperuser(t, "ALTER ROLE "+d.Owner.Role+" IN DATABASE "+d.Name+" SET "+setting)
	}
	logged := func(secret []byte) bool {
		log, err := pgserver.Shared(t).Logs(t.Context())
		require.NoError(t, err)
		require.Contains(t, log, d.Owner.Role+"@"+d.Name)
		inner := make([]byte, 64)
		copy(inner, secret)
		for n := range inner {
			inner[n] ^= 0x36
		}
		for _, text := range []string{string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), hex.EncodeToString(inner)} {
			if strings.Contains(log, text) {
				return true
			}
		}
		return false
	}
	secret := []byte("logged: " + d.Name + strings.Repeat("x", 64))[:48]
	r := command{args: []string{"keys", "add", "--id", "new", "--from", "-"}, url: d.Owner.DSN, stdin: base64.StdEncoding.EncodeToString(secret)}
	require.Zero(t, r.run(t).exit)
	require.False(t, logged(secret))
	r.args[3] = "third"
	r.run(t).failed(t, "two keys already") // an error logs its statement
	require.False(t, logged(secret))
	d.RetireKey(t, "new")

	conn, err := pgx.Connect(t.Context(), d.Owner.DSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "SET ROLE signer_of_"+d.Name)
	require.NoError(t, err)
	var generated string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT tenancy_signed.generate_key($1)", "made").Scan(&generated))
	_, made, _ := strings.Cut(generated, ":")
	bytes, err := base64.StdEncoding.DecodeString(made)
	require.NoError(t, err)
	require.Len(t, bytes, 32)
	require.False(t, logged(bytes))
	require.NoError(t, d.starts(t, fileWith(t, generated)))
	d.RetireKey(t, "made")

	_, err = conn.Exec(t.Context(), "SELECT tenancy_signed.add_key($1, $2)", "new", secret)
	require.NoError(t, err)
	require.True(t, logged(secret), "the test sees what is logged")
}

func TestKeysAreForTheirOwners(t *testing.T) {
	t.Parallel()
	d := keyed{testdb.NewSigned(t, &Patient{})}
	command{args: []string{"keys", "list"}, url: d.App.DSN}.run(t).failed(t, "member of the role", "signer_of_")
	command{args: []string{"keys", "list"}, url: testdb.New(t).Owner.DSN}.run(t).failed(t, "the schema tenancy_signed is missing")
	r := command{args: []string{"keys", "list"}, url: d.SuperuserDSN(t)}.run(t)
	require.Zero(t, r.exit, r.errors)

	// A function that keeps what it gets is not given a secret.
	d.AsSuperuser(t, `CREATE TABLE kept (secret bytea)`, `CREATE OR REPLACE FUNCTION tenancy_signed.upload_key() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.kept VALUES (NEW.secret); RETURN NEW; END'`)
	d.run("add", "--id", "second", "--to", "-").run(t).failed(t, "run Isolation.Migrate")
	d.Migrate(t, d.Isolation(), &Patient{})
	require.Equal(t, "second", d.json(t, "add", "--id", "second", "--to", "-").Added)
}

func TestKeysRefuseMisuse(t *testing.T) {
	for _, args := range [][]string{
		{}, {"drop"}, {"add"}, {"add", "--id", "x"}, {"add", "--to", "-"}, {"add", "--id", "x", "--to", "-", "--from", "-"}, {"retire"}, {"list", "--id", "x"},
		{"list", "--to", "-"}, {"add", "--id", "x", "--to", "-", "--dangerously-at-once"}, {"retire", "--id", "x", "--from", "-"}, {"add", "--id", "x y", "--to", "-"},
		{"add", "--id", "x", "--from", "-", "--not-before", "2026-12-01T06:00:00Z"}, {"add", "--id", "x", "--to", "-", "--not-before", "tomorrow"},
		{"add", "--id", "x", "--to", "postgres://u:p@h/d"}, {"list", "more"},
	} {
		tenancy(t, append([]string{"keys"}, args...)...).failed(t, "tenancy help keys")
	}
}
