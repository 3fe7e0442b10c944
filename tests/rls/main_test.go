// Package rls_test tests package rls against a real PostgreSQL.
package rls_test

import (
	"database/sql"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(migratesDSN); dsn != "" {
		os.Exit(migrates(dsn))
	}
	pgserver.Main(m)
}

// insufficientPrivilege is the SQLSTATE of a refusal by a policy, and by missing rights.
const insufficientPrivilege = "42501"

// database is a fresh database, open as its owner and as the application.
type database struct {
	*testdb.Database
	app *sql.DB
}

func newDatabase(t *testing.T) database {
	t.Helper()
	d := testdb.New(t)
	app := testdb.OpenSQL(t, d.App.DSN)
	app.SetMaxOpenConns(1) // one session, so that what a transaction leaves behind would be seen
	return database{Database: d, app: app}
}

// migrate migrates with the usual isolation, as the owner, and returns what the changes did.
func (d database) migrate(t *testing.T, models ...any) []string {
	t.Helper()
	return d.migrateWith(t, d.Isolation(), models...)
}

func (d database) migrateWith(t *testing.T, i rls.Isolation, models ...any) []string {
	t.Helper()
	changes := d.Migrate(t, i, models...)
	return what(changes)
}

// what lists what changes did.
func what(changes []rls.Change) []string {
	list := []string{}
	for _, c := range changes {
		list = append(list, c.Table+": "+c.Description)
	}
	return list
}

// admin opens a connection that sees every tenant's rows.
func (d database) admin(t *testing.T) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	config.RuntimeParams["role"] = d.Admin.Role
	pool := stdlib.OpenDB(*config)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

// nullsColumns reports whether the server can null one column of a foreign key and not the others.
func (d database) nullsColumns(t *testing.T) bool {
	t.Helper()
	var version int
	require.NoError(t, d.OwnerDB.Raw("SELECT current_setting('server_version_num')::int").Scan(&version).Error)
	return version >= 150000
}

// begin starts a transaction of the application for a tenant; an empty one leaves the setting alone. It is rolled back
// with the test, unless it was committed.
func (d database) begin(t *testing.T, tenant string) tx {
	t.Helper()
	transaction, err := d.app.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = transaction.Rollback() })
	if tenant != "" {
		_, err = transaction.Exec("SELECT set_config('app.tenant_id', $1, true)", tenant)
		require.NoError(t, err)
	}
	return tx{transaction}
}

// as runs statements of the application for a tenant, and commits.
func (d database) as(t *testing.T, tenant string, statements ...string) {
	t.Helper()
	tx := d.begin(t, tenant)
	for _, statement := range statements {
		require.NoError(t, tx.exec(statement), statement)
	}
	require.NoError(t, tx.Commit())
}

// sees returns the strings that a query of the application finds for a tenant.
func (d database) sees(t *testing.T, tenant, query string) []string {
	t.Helper()
	tx := d.begin(t, tenant)
	found := tx.strings(t, query)
	require.NoError(t, tx.Commit())
	return found
}

// fails runs a statement of the application for a tenant and returns its error.
func (d database) fails(t *testing.T, tenant, statement string) error {
	t.Helper()
	tx := d.begin(t, tenant)
	err := tx.exec(statement)
	require.NoError(t, tx.Rollback())
	require.Error(t, err, statement)
	return err
}

type tx struct{ *sql.Tx }

func (tx tx) exec(statement string) error {
	_, err := tx.Exec(statement)
	return err
}

func (tx tx) strings(t *testing.T, query string) []string {
	t.Helper()
	return collect(t, tx, query)
}

// querier is what *sql.DB and *sql.Tx have in common here.
type querier interface {
	Query(query string, args ...any) (*sql.Rows, error)
}

// collect returns the rows of a query as strings.
func collect(t *testing.T, db querier, query string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(query, args...)
	require.NoError(t, err)
	defer rows.Close()
	found := []string{}
	for rows.Next() {
		var value any
		require.NoError(t, rows.Scan(&value))
		found = append(found, fmt.Sprint(value))
	}
	require.NoError(t, rows.Err())
	return found
}

// requireCode requires an error of PostgreSQL with this SQLSTATE.
func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var pg interface{ SQLState() string }
	require.ErrorAs(t, err, &pg)
	require.Equal(t, code, pg.SQLState())
}
