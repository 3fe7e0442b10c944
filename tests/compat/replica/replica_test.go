package replica_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/compat/replica"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// TestReplica writes to the database and reads from the replica, which does not take writes.
func TestReplica(t *testing.T) {
	d := pgserver.New(t)
	owner := connect(t, d.Owner.DSN)
	exec(t, owner, "CREATE TABLE notes (id int, note text); GRANT SELECT, INSERT, DELETE ON notes TO "+d.Admin.Role)
	require.NoError(t, owner.Close(t.Context()))

	r := replica.Of(t, d)
	t.Logf("standby: %t", r.Standby)
	source, copied := connect(t, d.Admin.DSN), connect(t, r.DSN(t, d.Admin.DSN))
	for round := range 3 {
		exec(t, source, "INSERT INTO notes VALUES (1, 'a ''note''')")
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
	_, err := copied.Exec(t.Context(), "INSERT INTO notes VALUES (2, '')")
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "25006", pgErr.Code, "read_only_sql_transaction")
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}
