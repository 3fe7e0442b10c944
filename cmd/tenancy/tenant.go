package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os/user"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// tenantCommand works on all rows of one tenant.
type tenantCommand struct {
	connection
	tenant, actor, file string
	yes, newKeys        bool
	format              string
	skip                map[string]string
	move                moveOptions
	isolate             isolateOptions
	bar                 *progressLine
	set                 *flag.FlagSet // options may follow the action
}

const tenantDetails = `
    tenancy tenant count  --tenant acme              count the rows
    tenancy tenant export --tenant acme --file F     write all rows to a file, compressed if its name ends in .gz
    tenancy tenant import --file F [--tenant new]    insert the rows of a file, for its tenant or for another one
    tenancy tenant import --file F --tenant new --new-keys    the same beside the original, in one database
    tenancy tenant diff   --file F [--tenant acme]   compare a file with the database: exit code 1 if they differ
    tenancy tenant erase  --tenant acme              show what would be deleted; with --yes, delete it, and prove it

Log in as the owner of the tables, on which policies are forced. All statements run within the policies of the tenant. What belongs to it is
read from the catalog; a table that may belong to it, and is not isolated, is an error, unless --skip names it. An export or import that is interrupted
leaves nothing in the database, and an erase goes on when it is called again. The summary of a run is one line of the standard error.
` + moveDetails + isolateDetails

func (c *tenantCommand) flags(fs *flag.FlagSet) {
	c.set = fs
	c.connection.flags(fs)
	fs.StringVar(&c.tenant, "tenant", "", "the `id` of the tenant, as PostgreSQL writes it")
	fs.StringVar(&c.file, "file", "", "the `file` of export, import and diff; export does not overwrite one")
	fs.StringVar(&c.appRole, "app-role", "", "the `role` that the application works as: it is taken if the policies do not bind the login")
	fs.StringVar(&c.actor, "actor", "", "`who` does it, for the summary (default: the user of the operating system)")
	fs.BoolVar(&c.newKeys, "new-keys", false, "with import, give rows new primary keys, for a copy beside the original; with diff, compare such a copy")
	fs.BoolVar(&c.yes, "yes", false, "with erase, delete the rows")
	fs.Func("skip", "leave out a table, and have erase keep it: `schema.table=reason`; can be repeated", func(entry string) error {
		table, reason, _ := strings.Cut(entry, "=")
		if strings.TrimSpace(reason) == "" || table == "" {
			return errors.New("must be schema.table=reason")
		}
		if c.skip == nil {
			c.skip = map[string]string{}
		}
		c.skip[table] = reason
		return nil
	})
	c.move.flags(fs)
	c.isolate.flags(fs)
	textOrJSON(fs, &c.format)
}

// tenantOutcome is the result as it is printed as JSON, the same for people, and the exit code.
type tenantOutcome struct {
	result any
	text   string
	exit   int
	empty  bool // the tenant has no rows, perhaps because its id is misspelled
}

// action is one of the things that the command does.
type action struct {
	tenant, file bool // that it needs
	run          func(c *tenantCommand, ctx context.Context, l lifecycle.Tenants) (outcome tenantOutcome, err error)
}

var tenantActions = map[string]action{
	"count":  {tenant: true, run: (*tenantCommand).count},
	"export": {tenant: true, file: true, run: (*tenantCommand).export},
	"import": {file: true, run: (*tenantCommand).importFile},
	"diff":   {file: true, run: (*tenantCommand).diff},
	"erase":  {tenant: true, run: (*tenantCommand).erase},
	"move":   {tenant: true, run: (*tenantCommand).moveTenant},

	"isolate": {tenant: true, run: (*tenantCommand).isolateTenant},
}

func (c *tenantCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if len(args) == 0 {
		return 0, misused("say what to do: count, export, import, diff, erase, move or isolate")
	}
	chosen, ok := tenantActions[args[0]]
	if !ok {
		return 0, misused("%s: it must be count, export, import, diff, erase, move or isolate", unknown("action", args[0]))
	}
	if err := parseRest(c.set, args[1:]); err != nil {
		return 0, err
	}
	switch {
	case chosen.tenant && c.tenant == "":
		return 0, misused("%s needs --tenant", args[0])
	case chosen.file && c.file == "":
		return 0, misused("%s needs --file", args[0])
	case !chosen.file && c.file != "" || c.yes && args[0] != "erase":
		return 0, misused("--file is for export, import and diff, and --yes for erase")
	case c.newKeys && args[0] != "import" && args[0] != "diff":
		return 0, misused("--new-keys is for import and diff")
	case c.move.given() && args[0] != "move":
		return 0, misused("--to, --server, --default, --ttl, --stop-timeout, --grace and --erase-old are for move")
	case c.move.backOut && args[0] != "move" && args[0] != "isolate" || c.isolate.given() && args[0] != "isolate":
		return 0, misused("--back-out is for move and isolate, and --max-lock and --allow-empty for isolate")
	case !isFile(c.file):
		return 0, misused("--file: must be a file (not shown: it looks like a DSN)")
	}
	pool, err := c.open(ctx, s)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	if err := mustExist(ctx, pool, "--app-role", c.appRole); err != nil {
		return 0, err
	}
	bar := &progressLine{s: s}
	log := bar.summaries()
	c.bar, c.move.s = bar, s
	l := lifecycle.Tenants{
		DB: pool, Actor: c.who(), Skip: c.skip, NewKeys: c.newKeys, Progress: bar.show, Logger: slog.New(log),
		Isolation: rls.Isolation{Setting: c.setting, Column: c.column, AppRole: c.appRole},
	}
	done, err := chosen.run(c, ctx, l)
	bar.clear()
	if ctx.Err() != nil {
		log.end(ctx, nil) // the command says that it was interrupted, and no more
	} else {
		log.end(ctx, err)
	}
	if err != nil {
		return 0, err
	}
	if done.empty {
		fmt.Fprintln(s.err, "tenancy tenant: warning: the tenant has no rows: is --tenant right?")
	}
	if c.format == "json" {
		if done.text, err = indented(done.result); err != nil {
			return 0, err
		}
	}
	return done.exit, write(s, done.text)
}

// parseRest reads the options that follow an action.
func parseRest(set *flag.FlagSet, args []string) error {
	if err := set.Parse(args); err != nil {
		return inFlags(err)
	}
	if set.NArg() > 0 {
		return misused("%s: each value follows its option", unknown("argument", set.Arg(0)))
	}
	return nil
}

// who is who runs the command.
func (c *tenantCommand) who() string {
	if c.actor != "" {
		return c.actor
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// tablesAsText lists tables for people.
func tablesAsText(verb string, tables []lifecycle.Table, left []lifecycle.Left) string {
	var b strings.Builder
	width, sum := 0, int64(0)
	for _, t := range tables {
		width = max(width, len(t.Name))
		sum += t.Rows
	}
	for _, t := range tables {
		fmt.Fprintf(&b, "%-*s %10d\n", width, line(t.Name), t.Rows)
	}
	fmt.Fprintf(&b, "%s %s in %s.\n", verb, strings.ToLower(count(int(sum), "row")), count(len(tables), "table"))
	for n, l := range slices.SortedFunc(slices.Values(left), func(a, b lifecycle.Left) int { return strings.Compare(a.Object, b.Object) }) {
		if n == 0 {
			b.WriteString("\nLeft out:\n")
		}
		rows := ""
		if l.Rows > 0 {
			rows = " (" + count(int(l.Rows), "row") + " of the tenant)"
		}
		fmt.Fprintf(&b, "  %s%s: %s\n", line(l.Object), rows, line(l.Reason))
	}
	return b.String()
}
