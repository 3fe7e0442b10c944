package replica

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// TestReplica makes the replica that fits the server, and the one for servers whose data are out of reach.
func TestReplica(t *testing.T) {
	t.Run("Of", func(t *testing.T) { use(t, Of) })
	t.Run("copy", func(t *testing.T) {
		use(t, func(t testing.TB, d *pgserver.Database) *Replica {
			r, err := newCopy(t, d)
			require.NoError(t, err)
			return r
		})
	})
}

// use writes to the database and reads from the replica, which does not take writes before it is promoted.
func use(t *testing.T, of func(testing.TB, *pgserver.Database) *Replica) {
	d := pgserver.New(t)
	owner := connect(t, d.Owner.DSN)
	execute(t, owner, "CREATE TABLE notes (id int, note text); GRANT SELECT, INSERT, DELETE ON notes TO "+d.Admin.Role)
	require.NoError(t, owner.Close(t.Context()))

	r := of(t, d)
	t.Logf("standby: %t", r.Standby)
	source, copied := connect(t, d.Admin.DSN), connect(t, r.DSN(t, d.Admin.DSN))
	for round := range 3 {
		execute(t, source, "INSERT INTO notes VALUES (1, 'a ''note''')")
		r.CatchUp(t)
		for conn, here := range map[*pgx.Conn]bool{source: false, copied: true} {
			var (
				rows int
				is   bool
			)
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*), "+r.Here+" FROM notes").Scan(&rows, &is))
			require.Equal(t, round+1, rows)
			require.Equal(t, here, is)
		}
	}
	insert := func() error {
		_, err := copied.Exec(t.Context(), "INSERT INTO notes VALUES (2, '')")
		return err
	}
	var pgErr *pgconn.PgError
	require.ErrorAs(t, insert(), &pgErr)
	require.Equal(t, "25006", pgErr.Code, "read_only_sql_transaction")

	count := func() (n int) {
		require.NoError(t, copied.QueryRow(t.Context(), "SELECT count(*) FROM notes").Scan(&n))
		return n
	}
	r.Pause(t)
	execute(t, source, "DELETE FROM notes")
	require.Equal(t, 3, count(), "what was deleted during a pause")
	r.Resume(t)
	r.CatchUp(t)
	require.Zero(t, count())

	r.Promote(t)
	copied = connect(t, r.DSN(t, d.Admin.DSN)) // sessions of before may still refuse
	require.NoError(t, insert())
	require.Equal(t, 1, count())
	r.Stop(t)
	require.Error(t, copied.Ping(t.Context()))
	_, err := pgx.Connect(t.Context(), r.DSN(t, d.Admin.DSN))
	require.Error(t, err)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}
