package data

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	atlas "ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/schema"
	"github.com/golang-migrate/migrate/v4"
	migratedb "github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// A tool runs a file as its only migration. Outside of a transaction, the file says so to the tool, or the tool is told to.
type tool func(t *testing.T, d database, dsn, file string, inTransaction bool) error

var tools = map[string]tool{"goose": runGoose, "golang-migrate": runMigrate, "Atlas": runAtlas}

func runGoose(t *testing.T, _ database, dsn, file string, inTransaction bool) error {
	t.Helper()
	if !inTransaction {
		file = "-- +goose NO TRANSACTION\n" + file
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, testdb.OpenSQL(t, dsn), fstest.MapFS{"1_data.sql": {Data: []byte("-- +goose Up\n" + file)}})
	require.NoError(t, err)
	_, err = provider.Up(t.Context())
	return err
}

func runMigrate(t *testing.T, _ database, dsn, file string, inTransaction bool) error {
	t.Helper()
	source, err := iofs.New(fstest.MapFS{"1_data.up.sql": {Data: []byte(file)}}, ".")
	require.NoError(t, err)
	pool := testdb.OpenSQL(t, dsn)
	driver, err := pgx.WithInstance(pool, &pgx.Config{MultiStatementEnabled: !inTransaction})
	require.NoError(t, err)
	m, err := migrate.NewWithInstance("iofs", source, "pgx5", draining{driver})
	require.NoError(t, err)
	defer m.Close()
	err = m.Up()
	var failed migratedb.Error // which does not unwrap
	if errors.As(err, &failed) {
		return failed.OrigErr
	}
	return err
}

// draining reads files to their end, without which golang-migrate leaves a goroutine behind.
type draining struct{ migratedb.Driver }

func (d draining) Run(file io.Reader) error {
	err := d.Driver.Run(file)
	_, _ = io.Copy(io.Discard, file)
	return err
}

// runAtlas runs the file by the engine of the command atlas migrate apply.
func runAtlas(t *testing.T, _ database, dsn, file string, inTransaction bool) error {
	t.Helper()
	if !inTransaction {
		file = "-- atlas:txmode none\n\n" + file
	}
	dir := &atlas.MemDir{}
	local := atlas.NewLocalFile("1_data.sql", []byte(file))
	require.NoError(t, dir.WriteFile(local.Name(), local.Bytes()))
	sum, err := dir.Checksum()
	require.NoError(t, err)
	require.NoError(t, atlas.WriteSumFile(dir, sum))
	execute := func(db schema.ExecQuerier) error {
		driver, err := postgres.Open(db)
		require.NoError(t, err)
		executor, err := atlas.NewExecutor(driver, dir, &revisions{}, atlas.WithAllowDirty(true))
		require.NoError(t, err)
		return executor.ExecuteN(t.Context(), 1)
	}
	pool := testdb.OpenSQL(t, dsn)
	if slices.Contains(local.Directive("txmode"), "none") {
		return execute(pool)
	}
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	if err := execute(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// revisions are what has run: nothing.
type revisions struct{ atlas.NopRevisionReadWriter }

func (*revisions) ReadRevisions(context.Context) ([]*atlas.Revision, error) { return nil, nil }

// eachTool runs a test for each tool, within a transaction and outside of one.
func eachTool(t *testing.T, test func(t *testing.T, run tool, inTransaction bool)) {
	t.Helper()
	for name, run := range tools {
		for _, inTransaction := range []bool{true, false} {
			t.Run(name+map[bool]string{false: " without a transaction"}[inTransaction], func(t *testing.T) { test(t, run, inTransaction) })
		}
	}
}

// around puts a data migration between what DataMigrationSQL returns.
func around(t *testing.T, i rls.Isolation, statements string, opts ...rls.DataOption) string {
	t.Helper()
	before, after, err := i.DataMigrationSQL(opts...)
	require.NoError(t, err)
	return before + statements + ";\n" + after
}

// What all others are about: the tool reports success, and no row has changed.
func TestToolsRunANaiveUpdate(t *testing.T) {
	eachTool(t, func(t *testing.T, run tool, inTransaction bool) {
		d := granted(t)
		require.NoError(t, run(t, d, d.dsn, setEuro+";\n", inTransaction))
		require.Equal(t, untouched, d.all(t, currencies))
	})
}

// A parameter of the tool's DSN turns the silence into an error.
func TestToolsRefuseANaiveUpdateWithoutRowSecurity(t *testing.T) {
	eachTool(t, func(t *testing.T, run tool, inTransaction bool) {
		d := granted(t)
		off := testdb.WithParam(d.dsn, "row_security", "off")
		requireCode(t, run(t, d, off, setEuro+";\n", inTransaction), "42501")
		require.Equal(t, untouched, d.all(t, currencies))
		d = granted(t)
		off = testdb.WithParam(d.dsn, "row_security", "off")
		err := run(t, d, off, around(t, d.isolation(), setEuro), inTransaction)
		if !inTransaction {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, inEuro, d.all(t, currencies))
	})
}

func TestToolsRunDataMigrations(t *testing.T) {
	for name, options := range map[string][]rls.DataOption{"as the admin role": nil, "as the owner": {rls.AsOwner("invoices")}} {
		t.Run(name, func(t *testing.T) {
			eachTool(t, func(t *testing.T, run tool, inTransaction bool) {
				d := granted(t)
				file := "CREATE TABLE secrets (id int);\nALTER TABLE secrets ENABLE ROW LEVEL SECURITY;\n" + around(t, d.isolation(), setEuro, options...) + "ALTER TABLE invoices ADD COLUMN vat numeric;\n" +
					around(t, d.isolation(), "UPDATE invoices SET vat = 19", options...)
				err := run(t, d, d.dsn, file, inTransaction)
				require.Empty(t, d.all(t, unforced))
				if !inTransaction {
					require.Regexp(t, "must run in a transaction|unterminated dollar-quoted string", err.Error()) // golang-migrate cuts at each semicolon
					require.Equal(t, untouched, d.all(t, currencies))
					return
				}
				require.NoError(t, err)
				require.Equal(t, inEuro, d.all(t, currencies))
				require.Equal(t, []string{"19", "19", "19"}, d.all(t, "SELECT vat FROM invoices"))
			})
		})
	}
}

// What hides rows stops the tool.
func TestToolsRefuseToMissRows(t *testing.T) {
	for name, test := range map[string]struct {
		given, statements string
		options           []rls.DataOption
	}{
		"no grant":            {given: "REVOKE %admin FROM %owner; DROP ROLE IF EXISTS %admin_for_%owner", statements: setEuro},
		"no policy":           {given: "DROP POLICY tenant_admin ON invoices", statements: setEuro},
		"some rows":           {given: "ALTER POLICY tenant_admin ON invoices USING (total > 1)", statements: setEuro},
		"restrictive":         {given: "CREATE POLICY r ON invoices AS RESTRICTIVE USING (total > 1)", statements: setEuro},
		"a view":              {given: "CREATE VIEW v AS SELECT * FROM invoices; ALTER VIEW v OWNER TO %owner; GRANT ALL ON v TO %admin", statements: "UPDATE v SET currency = 'EUR'"},
		"owner's role":        {statements: "RESET ROLE; " + setEuro},
		"owner, other table":  {statements: "UPDATE payments SET amount = 0", options: []rls.DataOption{rls.AsOwner("invoices")}},
		"owner, a view":       {given: "CREATE VIEW v AS SELECT * FROM payments; ALTER VIEW v OWNER TO %owner", statements: "UPDATE v SET amount = 0", options: []rls.DataOption{rls.AsOwner("invoices")}},
		"owner, another role": {given: "GRANT %app TO %owner", statements: "SET LOCAL ROLE %app; " + setEuro, options: []rls.DataOption{rls.AsOwner("invoices")}},
	} {
		for tool, run := range tools {
			t.Run(name+", "+tool, func(t *testing.T) {
				d := granted(t)
				d.AsSuperuser(t, d.names(test.given))
				err := run(t, d, d.dsn, around(t, d.isolation(), d.names(test.statements), test.options...), true)
				requireCode(t, err, "42501")
				require.Equal(t, untouched, d.all(t, currencies))
				require.Empty(t, d.all(t, unforced))
			})
		}
	}
}

// golang-migrate writes its version down in a transaction of its own; the others need what stands after the data migration.
func TestToolsWithoutTheEnd(t *testing.T) {
	for name, run := range tools {
		t.Run(name, func(t *testing.T) {
			d := granted(t)
			before, _, err := d.isolation().DataMigrationSQL()
			require.NoError(t, err)
			if err := run(t, d, d.dsn, before+setEuro+";\n", true); err != nil {
				require.Equal(t, "goose", name)
				requireCode(t, err, "42501")
				require.Equal(t, untouched, d.all(t, currencies))
				return
			}
			require.Equal(t, inEuro, d.all(t, currencies))
		})
	}
}

func TestDataMigrationSQLNeedsARole(t *testing.T) {
	_, _, err := rls.Isolation{}.DataMigrationSQL()
	require.ErrorContains(t, err, "tenancy: a data migration in SQL needs an AdminRole, or AsOwner")
	before, after, err := rls.Isolation{AdminRole: `a'"b\`}.DataMigrationSQL()
	require.NoError(t, err)
	require.Contains(t, before, `SET LOCAL ROLE "a'""b\";`)
	require.Contains(t, before+after, `current_user <> E'a''"b\\'`)
	require.Equal(t, 2, strings.Count(before+after, "-- +goose StatementBegin\n"))
	_, _, err = rls.Isolation{}.DataMigrationSQL(rls.AsOwner("a.b.c"))
	require.ErrorContains(t, err, "tenancy: AsOwner")
}
