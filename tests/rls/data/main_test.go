// Package data tests migrations of data under forced policies: by rls.Isolation.DataMigration, and as SQL by migration tools.
package data

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

type (
	invoice struct {
		ID       int64
		TenantID string
		Total    int64
		Currency *string
	}
	payment struct {
		ID       int64
		TenantID string
		Amount   int64
	}
	plan struct {
		ID   int64
		Name string
	}
)

// database has invoices and payments of two tenants, and shared plans. Its owner and its admin role are its own, so that a test can grant
// one to the other.
type database struct {
	*testdb.Database
	owner, admin string
	dsn          string   // of the owner
	db           *gorm.DB // as the owner
}

func newDatabase(t *testing.T) database {
	t.Helper()
	d := database{Database: testdb.New(t)}
	d.owner, d.admin = d.Name+"_owner", d.Name+"_admin"
	d.AsSuperuser(t, "CREATE ROLE "+d.owner+" LOGIN PASSWORD 'secret'", "CREATE ROLE "+d.admin,
		"ALTER DATABASE "+d.Name+" OWNER TO "+d.owner, "ALTER SCHEMA public OWNER TO "+d.owner)
	t.Cleanup(func() {
		d.AsSuperuser(t, "REASSIGN OWNED BY "+d.owner+", "+d.admin+" TO "+d.Owner.Role,
			"DROP OWNED BY "+d.owner+", "+d.admin, "DROP ROLE IF EXISTS "+d.admin+"_for_"+d.owner, "DROP ROLE "+d.owner+", "+d.admin)
	})
	d.dsn = testdb.WithLogin(d.Owner.DSN, d.owner, "secret")
	d.db = testdb.OpenPlain(t, d.dsn)
	d.Migrate(t)
	d.AsSuperuser(t, "INSERT INTO invoices (tenant_id, total) VALUES ('acme', 1), ('acme', 2), ('globex', 3)",
		"INSERT INTO payments (tenant_id, amount) VALUES ('acme', 1), ('globex', 2)", "INSERT INTO plans (name) VALUES ('free')")
	return d
}

// granted is a database whose owner may take the admin role.
func granted(t *testing.T) database {
	t.Helper()
	d := newDatabase(t)
	d.grant(t)
	return d
}

// grant runs the GRANT that DataMigration asks for.
func (d database) grant(t *testing.T) {
	t.Helper()
	d.AsSuperuser(t, missingGrant(t, d.isolation().DataMigration(t.Context(), d.db, euro)))
}

func (d database) isolation() rls.Isolation {
	return rls.Isolation{AppRole: d.App.Role, AdminRole: d.admin}
}

// Migrate migrates as the owner.
func (d database) Migrate(t *testing.T) {
	t.Helper()
	_, err := d.isolation().Migrate(t.Context(), d.db, &invoice{}, &payment{}, &plan{})
	require.NoError(t, err)
}

// all returns the rows of a query as a superuser sees them.
func (d database) all(t *testing.T, query string) []string {
	t.Helper()
	return collect(t, testdb.OpenSQL(t, d.SuperuserDSN(t)), query)
}

// run runs statements as the owner.
func (d database) run(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		require.NoError(t, d.db.Exec(statement).Error, statement)
	}
}

func collect(t *testing.T, pool *sql.DB, query string) []string {
	t.Helper()
	rows, err := pool.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	found := []string{}
	for rows.Next() {
		var s string
		require.NoError(t, rows.Scan(&s))
		found = append(found, s)
	}
	require.NoError(t, rows.Err())
	return found
}

const (
	setEuro    = "UPDATE invoices SET currency = 'EUR' WHERE currency IS NULL"
	currencies = "SELECT concat_ws(' ', tenant_id, total, currency) FROM invoices ORDER BY total"
	unforced   = "SELECT relname FROM pg_class WHERE relname IN ('invoices', 'payments') AND NOT (relrowsecurity AND relforcerowsecurity)"
)

var (
	untouched = []string{"acme 1", "acme 2", "globex 3"}
	inEuro    = []string{"acme 1 EUR", "acme 2 EUR", "globex 3 EUR"}
)

func euro(tx *gorm.DB) error { return tx.Exec(setEuro).Error }

func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	require.True(t, errors.As(err, &pg), "%v", err)
	require.Equal(t, code, pg.Code, pg.Message)
}

// names puts the names of the database's roles into SQL.
func (d database) names(text string) string {
	return strings.NewReplacer("%owner", d.owner, "%admin", d.admin, "%app", d.App.Role).Replace(text)
}

func (d database) version(t *testing.T) (version int) {
	t.Helper()
	require.NoError(t, d.db.Raw("SELECT current_setting('server_version_num')::int").Scan(&version).Error)
	return version
}
