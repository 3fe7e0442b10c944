package pgserver

import (
	"net/url"
	"os"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestKilledProcessIsSweptByTheNextStart(t *testing.T) {
	host := started(t)
	superuser := connect(t, host.DSN())
	execute(t, superuser, "CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'secret'")
	logins := map[string]string{"superuser": host.DSN()}
	if host.Version() >= 150000 {
		logins["other login"] = dsnOf(t, host, "maker", "")
	}
	for name, dsn := range logins {
		t.Run(name, func(t *testing.T) {
			before := things(t, host)
			run := killed(t, dsn)
			require.Len(t, things(t, host), len(before)+7, "five roles, a template and a database")
			within(t, "the server notices", func() bool { return !isLocked(t, superuser, run) })

			s := borrowed(t, dsn)
			require.NotContains(t, things(t, host), "tenancy_owner_"+run)
			require.NoError(t, s.Close())
			require.Equal(t, before, things(t, host))
		})
	}
}

func TestSweepLeavesWhatMayLive(t *testing.T) {
	host := started(t)
	superuser := connect(t, host.DSN())
	execute(t, superuser, "CREATE DATABASE elsewhere")
	// It looks like ours, and is not.
	execute(t, superuser, "CREATE ROLE tenancy_owner_00000000")
	execute(t, superuser, "CREATE DATABASE tenancy_00000000_1 OWNER tenancy_owner_00000000")

	living := borrowed(t, dsnOf(t, host, "", "elsewhere"))
	d, err := living.NewDatabase(t.Context())
	require.NoError(t, err)
	before := things(t, host)
	require.Contains(t, before, "tenancy_00000000_1")
	startAndClose := func() {
		s := borrowed(t, host.DSN())
		require.NoError(t, s.Close())
	}

	startAndClose()
	require.Equal(t, before, things(t, host), "its lock is in another database")

	app := connect(t, d.App.DSN)
	require.NoError(t, living.holder.Close(t.Context()))
	within(t, "the server notices", func() bool { return !isLocked(t, superuser, living.roles.run) })
	startAndClose()
	require.Equal(t, before, things(t, host), "it has lost its lock, and has another session")
	require.Equal(t, d.Name, query[string](t, app, "SELECT current_database()"))

	require.NoError(t, app.Close(t.Context()))
	within(t, "the server notices", func() bool {
		return query[int](t, superuser, "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", d.Name) == 0
	})
	startAndClose()
	require.NotContains(t, things(t, host), d.Name)
	require.Contains(t, things(t, host), "tenancy_00000000_1")
}

// killed starts at the server of a DSN, makes a database, and is killed. It returns the name of its run.
func killed(t *testing.T, dsn string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGSERVER_TEST_HOLD=1", "TENANCY_DSN="+dsn)
	run := holder(t, cmd)
	require.Regexp(t, "^[0-9a-f]{8}$", run)
	require.NoError(t, cmd.Process.Kill())
	return run
}

func isLocked(t *testing.T, conn *pgx.Conn, run string) bool {
	t.Helper()
	return query[bool](t, conn, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'
		AND lpad(to_hex(objid::bigint), 8, '0') = $1)`, run)
}

// dsnOf is the login at another database, or as another role whose password is "secret". Empty means the same.
func dsnOf(t *testing.T, s *Server, role, database string) string {
	t.Helper()
	u, err := url.Parse(s.DSN())
	require.NoError(t, err)
	if role != "" {
		u.User = url.UserPassword(role, "secret")
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}
