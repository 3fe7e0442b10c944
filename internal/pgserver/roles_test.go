package pgserver

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestRolesAreWhatTheyPromise(t *testing.T) {
	d := New(t)
	for _, login := range []Login{d.Owner, d.App, d.Admin, d.Lookup} {
		conn := connect(t, login.DSN)
		require.Equal(t, login.Role, query[string](t, conn, "SELECT session_user"))
		require.Equal(t, d.Name, query[string](t, conn, "SELECT current_database()"))
		require.True(t, query[bool](t, conn, `SELECT NOT (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb
			OR rolreplication) FROM pg_roles WHERE rolname = current_user`), login.Role)
	}
	require.False(t, query[bool](t, connect(t, d.App.DSN), "SELECT rolinherit FROM pg_roles WHERE rolname = current_user"))

	owner := connect(t, d.Owner.DSN)
	require.Equal(t, d.Owner.Role, query[string](t, owner,
		"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"))
	require.Equal(t, d.Owner.Role, query[string](t, owner,
		"SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'"))
}

func TestOnlyTheOwnerCreatesInPublic(t *testing.T) {
	d := New(t)
	execute(t, connect(t, d.Owner.DSN), "CREATE TABLE public.mine ()")
	for _, login := range []Login{d.App, d.Admin, d.Lookup} {
		conn := connect(t, login.DSN)
		_, err := conn.Exec(t.Context(), "CREATE TABLE public.theirs ()")
		require.ErrorContains(t, err, "permission denied for schema public")
		require.True(t, query[bool](t, conn, "SELECT has_schema_privilege('public', 'USAGE')"))
	}
}

func TestApplicationTakesTheAdminsRoleAndDoesNotInheritIt(t *testing.T) {
	d := New(t)
	execute(t, connect(t, d.Owner.DSN), fmt.Sprintf(`
		CREATE TABLE note (text text);
		INSERT INTO note VALUES ('for the admin only');
		ALTER TABLE note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
		CREATE POLICY admin ON note TO %[1]s USING (true);
		GRANT SELECT ON note TO %[1]s, %[2]s`, d.Admin.Role, d.App.Role), pgx.QueryExecModeSimpleProtocol)
	const count = "SELECT count(*) FROM note"

	app := connect(t, d.App.DSN)
	require.Equal(t, 0, query[int](t, app, count))
	require.False(t, query[bool](t, app, "SELECT pg_has_role($1, 'USAGE')", d.Admin.Role))
	require.True(t, query[bool](t, app, "SELECT pg_has_role($1, 'MEMBER')", d.Admin.Role))

	execute(t, app, "SET ROLE "+d.Admin.Role)
	require.Equal(t, 1, query[int](t, app, count))
	execute(t, app, "RESET ROLE")
	require.Equal(t, 0, query[int](t, app, count))

	require.True(t, query[bool](t, app, "SELECT pg_has_role($1, 'MEMBER') AND NOT pg_has_role($1, 'USAGE')", d.Lookup.Role))

	require.Equal(t, 1, query[int](t, connect(t, d.Admin.DSN), count), "the admin's own login")
	_, err := app.Exec(t.Context(), "SET ROLE "+d.Owner.Role)
	require.ErrorContains(t, err, "permission denied")
}

func TestPasswordsAreNeitherPrintedNorLogged(t *testing.T) {
	s := started(t, WithStatementLog())
	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	printed := fmt.Sprintf("%v %+v %#v %s %q", d, *d, d.App, d.Admin, d.Owner)
	log, err := s.Logs(t.Context())
	require.NoError(t, err)
	require.Contains(t, log, "CREATE DATABASE "+d.Name)
	require.Contains(t, printed, d.App.Role)
	for _, role := range s.roles.all() {
		require.NotContains(t, log, role.password)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %v", d.App, d.Admin, d.Owner, d.Lookup), role.password)
	}
}

func TestPasswordsAreAsked(t *testing.T) {
	s := Shared(t)
	d := New(t)
	cfg, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	cfg.Password = "wrong"
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	require.ErrorContains(t, err, "password authentication failed")
	require.NotContains(t, err.Error(), s.roles.app.password)
}
