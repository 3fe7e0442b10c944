// Package check_test tests that check.Run finds every hole it knows of in a real database, and none in a clean one.
package check_test

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

//go:embed clean.sql
var cleanSQL string

// database is a fresh database with an application's role of its own, that a test may spoil.
type database struct {
	*pgserver.Database
	app     string // the DSN
	role    string // the application's
	super   string // the DSN
	version int    // of the server
	host    string // where the server listens, as it sees it itself
	port    int
}

// newDatabase makes an empty database.
func newDatabase(t testing.TB) database {
	t.Helper()
	d := database{Database: pgserver.New(t)}
	d.role = "app_of_" + d.Name
	super, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	super.Path = "/" + d.Name
	app := *super
	app.User = url.UserPassword(d.role, "secret")
	d.super, d.app = super.String(), app.String()

	d.run(t, d.super, `CREATE ROLE {app} LOGIN NOINHERIT PASSWORD '`+pgserver.Verifier("secret")+`'; GRANT {admin} TO {app}; GRANT USAGE ON SCHEMA public TO {app}`)
	t.Cleanup(func() {
		d.run(t, d.super, `
			DO $$
			DECLARE role regrole;
			BEGIN
				FOR role IN SELECT oid FROM pg_roles WHERE rolname LIKE '%{app}' LOOP
					EXECUTE format('REASSIGN OWNED BY %s TO CURRENT_USER', role);
					EXECUTE format('DROP OWNED BY %s', role);
					EXECUTE format('DROP ROLE %s', role);
				END LOOP;
			END $$`)
	})
	require.NoError(t, d.connect(t, d.super).QueryRow(t.Context(),
		"SELECT current_setting('server_version_num')::int, host(inet_server_addr()), inet_server_port()").Scan(&d.version, &d.host, &d.port))
	return d
}

// cleanDatabase makes a database in which everything is right, with a row of each of two tenants in its tables.
func cleanDatabase(t testing.TB) database {
	t.Helper()
	d := newDatabase(t)
	d.run(t, d.Owner.DSN, cleanSQL)
	for _, tenant := range []string{"acme", "globex"} {
		id := map[string]int{"acme": 1, "globex": 2}[tenant]
		require.NoError(t, d.as(t, d.app, tenant, fmt.Sprintf(`
			INSERT INTO notes (id, body) VALUES (%[1]d, 'of %[2]s');
			INSERT INTO topics (id, name) VALUES (%[1]d, 'of %[2]s');
			INSERT INTO logs (id, body) VALUES (%[1]d, 'of %[2]s');
			INSERT INTO events (id, year, body) VALUES (%[1]d, 2024, 'of %[2]s')`, id, tenant)))
	}
	return d
}

// fill puts the names of this database into SQL.
func (d database) fill(text string) string {
	invoker := ""
	if d.version >= 150000 {
		invoker = " WITH (security_invoker = true)"
	}
	super, _ := url.Parse(d.super)
	password, _ := super.User.Password()
	return strings.NewReplacer("{app}", d.role, "{admin}", d.Admin.Role, "{owner}", d.Owner.Role, "{database}", d.Name,
		"{security_invoker}", invoker,
		"{here}", fmt.Sprintf("host '%s', port '%d', dbname '%s'", d.host, d.port, d.Name),
		"{connection}", fmt.Sprintf("host=%s port=%d dbname=%s user=%s password=%s", d.host, d.port, d.Name, super.User.Username(), password),
		"{superuser}", fmt.Sprintf("user '%s', password '%s'", super.User.Username(), password)).Replace(text)
}

// connect opens a connection that ends with the test.
func (d database) connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(ctx)) })
	return conn
}

// run runs a script.
func (d database) run(t testing.TB, dsn, script string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, d.fill(script)).ReadAll()
	require.NoError(t, err, d.fill(script))
}

// as runs statements for a tenant and commits.
func (d database) as(t testing.TB, dsn, tenant, statements string) error {
	t.Helper()
	_, err := d.session(t, dsn, tenant, statements, "COMMIT")
	return err
}

// try runs statements for a tenant, and returns what they find as lines. Nothing of it stays.
func (d database) try(t testing.TB, dsn, tenant, statements string) ([]string, error) {
	t.Helper()
	return d.session(t, dsn, tenant, statements, "ROLLBACK")
}

func (d database) session(t testing.TB, dsn, tenant, statements, end string) ([]string, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	results, err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("BEGIN; SELECT set_config('app.tenant_id', '%s', true); %s; %s",
		tenant, d.fill(statements), end)).ReadAll()
	if err != nil {
		return nil, err
	}
	lines := []string{}
	for _, result := range results[2:] {
		for _, row := range result.Rows {
			lines = append(lines, fmt.Sprintf("%s", row))
		}
	}
	return lines, nil
}

// isolation is what the database is checked for.
func (d database) isolation() rls.Isolation {
	return rls.Isolation{AppRole: d.role, AdminRole: d.Admin.Role}
}

// patched checks as if the server had the newest patches: those of the server at hand are not what tests are about.
func (d database) patched() check.Option {
	return check.ServerVersion(d.version/10000*10000 + 9999)
}

// allowances are what the clean database needs.
func (d database) allowances() []check.Option {
	return []check.Option{
		d.patched(),
		check.Allow(check.SharedTable, "public.memberships", "read before the tenant is known"),
		check.Allow(check.GrantCreate, "schema scratch", "no other role uses it"),
	}
}

// check checks the database as the application.
func (d database) check(t testing.TB, opts ...check.Option) check.Report {
	t.Helper()
	report, err := d.isolation().Check(t.Context(), open(t, d.app, &gorm.Config{}), append([]check.Option{d.patched()}, opts...)...)
	require.NoError(t, err)
	return report
}

// open opens GORM without its log.
func open(t testing.TB, dsn string, config *gorm.Config) *gorm.DB {
	t.Helper()
	config.Logger = logger.Discard
	db, err := gorm.Open(postgres.Open(dsn), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

// found lists codes and objects.
func found(report check.Report) []string {
	list := []string{}
	for _, f := range report.Findings {
		list = append(list, fmt.Sprintf("%s: %s", f.Code, f.Object))
	}
	return list
}
