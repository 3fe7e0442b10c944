package pgserver

import (
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestExternalServerIsLeftAsItWas(t *testing.T) {
	host := started(t)
	things := func() []string { return things(t, host) }
	before := things()

	s := borrowed(t, host.DSN())
	require.Equal(t, "the server of TENANCY_DSN", s.Source())
	require.Equal(t, host.Version(), s.Version())
	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	execute(t, connect(t, d.Owner.DSN), "CREATE TABLE t ()")
	connect(t, d.App.DSN)
	require.Len(t, things(), len(before)+7, "five roles, a template and a database")

	require.Empty(t, s.LogPath())
	_, err = s.Logs(t.Context())
	require.ErrorIs(t, err, ErrNoLogs)
	require.ErrorContains(t, s.Restart(t.Context()), "not ours to restart")

	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Equal(t, before, things())
}

func TestExternalLoginNeedsItsRights(t *testing.T) {
	host := started(t)
	conn := connect(t, host.DSN())
	execute(t, conn, "CREATE ROLE plain LOGIN PASSWORD 'secret'; CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'secret'",
		pgx.QueryExecModeSimpleProtocol)
	as := func(role string) string {
		u, err := url.Parse(host.DSN())
		require.NoError(t, err)
		u.User = url.UserPassword(role, "secret")
		return u.String()
	}

	t.Setenv("TENANCY_DSN", as("plain"))
	_, err := Start(t.Context())
	require.ErrorContains(t, err, "the server of TENANCY_DSN: the login plain may not create roles and databases")
	require.ErrorContains(t, err, "ALTER ROLE plain CREATEROLE CREATEDB")

	if host.Version() < 150000 {
		t.Setenv("TENANCY_DSN", as("maker"))
		_, err := Start(t.Context())
		require.ErrorContains(t, err, "must be a superuser's")
		return
	}
	s := borrowed(t, as("maker"))
	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	execute(t, connect(t, d.Owner.DSN), "CREATE TABLE t ()")
	app := connect(t, d.App.DSN)
	execute(t, app, "SET ROLE "+d.Admin.Role)
	require.NoError(t, d.Drop(t.Context()), "with the application still connected")
	require.NoError(t, s.Close())
}

func TestExternalLoginDoesNotShineThroughThoseOfTheRoles(t *testing.T) {
	t.Setenv("PGUSER", "environment")
	t.Setenv("PGDATABASE", "environment")
	for dsn, want := range map[string]string{
		"postgres://me:p@host/db?sslmode=disable":                                    "postgres://me:p@host/db?connect_timeout=10&sslmode=disable",
		"postgres://host/?user=me&password=p&dbname=db&connect_timeout=1":            "postgres://me:p@host/db?connect_timeout=1",
		"postgresql://host:5433":                                                     "postgresql://environment:@host:5433/environment?connect_timeout=10",
		"host=h port=5433 user=me password='p w\\'\\\\' dbname = db sslmode=disable": `postgres://me:p%20w%27%5C@h:5433/db?connect_timeout=10&sslmode=disable`,
		"host=/run/pg password=p\\ w connect_timeout=2":                              "postgres://environment:p%20w@/environment?connect_timeout=2&host=%2Frun%2Fpg",
		"host=::1 user=me password=''":                                               "postgres://me:@[::1]/environment?connect_timeout=10",
		"host=a,b port=1,2 user=me":                                                  "postgres://me:@/environment?connect_timeout=10&host=a%2Cb&port=1%2C2",
		"user=me":                                                                    "postgres://me:@/environment?connect_timeout=10",
	} {
		instance, err := externalServer(dsn)
		require.NoError(t, err, dsn)
		require.Equal(t, want, instance.dsn().String())
		original, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		kept, err := pgx.ParseConfig(instance.dsn().String())
		require.NoError(t, err)
		require.Equal(t, []any{original.Host, original.Port, original.User, original.Password, original.Database, len(original.Fallbacks)},
			[]any{kept.Host, kept.Port, kept.User, kept.Password, kept.Database, len(kept.Fallbacks)}, dsn)
		s := &Server{dsn: instance.dsn()}
		cfg, err := pgx.ParseConfig(s.login(role{"app", "secret"}, "fresh").DSN)
		require.NoError(t, err)
		require.Equal(t, []string{"app", "secret", "fresh"}, []string{cfg.User, cfg.Password, cfg.Database})
		require.Equal(t, "fresh", s.connConfig("fresh").Database)
	}
}

// borrowed starts with the given TENANCY_DSN.
func borrowed(t *testing.T, dsn string) *Server {
	t.Helper()
	t.Setenv("TENANCY_DSN", dsn)
	s, err := Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestMalformedDSNIsNotShown(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:hunter2/x@h/db",
		"postgres://u:1/hunter2@h/db",
		"postgres://u:%zzhunter2@h/db",
		"host=h password='hunter2",
		"hunter2",
	} {
		_, err := externalServer(dsn)
		require.ErrorContains(t, err, "TENANCY_DSN is malformed", dsn)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestErrorsOfTheConnectionNameTheVariable(t *testing.T) {
	host := started(t)
	for dsn, why := range map[string]string{
		"postgres://u:hunter2@127.0.0.1:1/db":                                      "connection refused",
		"host=127.0.0.1 port=1 user=u password=hunter2 dbname=db":                  "connection refused",
		strings.Replace(host.DSN(), host.dsn.User.String(), "postgres:hunter2", 1): "password authentication failed",
	} {
		t.Setenv("TENANCY_DSN", dsn)
		_, err := Start(t.Context())
		require.ErrorContains(t, err, why)
		require.ErrorContains(t, err, "the server of TENANCY_DSN")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// things are the roles and databases of a server.
func things(t *testing.T, s *Server) []string {
	t.Helper()
	rows, err := connect(t, s.DSN()).Query(t.Context(), `SELECT rolname::text FROM pg_roles UNION ALL
		SELECT datname::text FROM pg_database ORDER BY 1`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}
