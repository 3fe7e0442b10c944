package wire_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/wire"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestRoundTripsOfPostgreSQL(t *testing.T) {
	proxy, dsn := wire.Start(t, pgserver.New(t).Owner.DSN)
	conn := connect(t, dsn)
	require.Zero(t, proxy.RoundTrips(), "connecting is not counted")
	exec := func(sql string, args ...any) {
		_, err := conn.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec("CREATE TABLE t (n int PRIMARY KEY, s text)")

	tests := []struct {
		name string
		want int64
		do   func()
	}{
		{"simple protocol", 1, func() { exec("SELECT 1", pgx.QueryExecModeSimpleProtocol) }},
		{"several statements in one message", 1, func() { exec("SELECT 1; SELECT 2") }},
		{"prepared on first use", 2, func() { exec("SELECT $1::int", 1) }},
		{"prepared before", 1, func() { exec("SELECT $1::int", 2) }},
		{"described each time", 2, func() { exec("SELECT $1::int", pgx.QueryExecModeDescribeExec, 3) }},
		{"unnamed", 1, func() { exec("SELECT $1::int", pgx.QueryExecModeExec, 4) }},
		{"an answer of megabytes", 1, func() { exec("SELECT repeat('x', 1000) FROM generate_series(1, 5000)") }},
		{"a question of megabytes", 1, func() { exec("SELECT length($1::text)", pgx.QueryExecModeExec, strings.Repeat("x", 5<<20)) }},
		{"transaction", 3, func() {
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), "SELECT $1::int", 5)
			require.NoError(t, err)
			require.NoError(t, tx.Commit(t.Context()))
		}},
		{"batch", 1, func() {
			var batch pgx.Batch
			for n := range 50 {
				batch.Queue("SELECT $1::int", n)
			}
			require.NoError(t, conn.SendBatch(t.Context(), &batch).Close())
		}},
		{"an error", 1, func() {
			_, err := conn.Exec(t.Context(), "SELECT 1 / $1::int", pgx.QueryExecModeExec, 0)
			require.Error(t, err)
		}},
		{"after an error", 1, func() { exec("SELECT $1::int", 6) }},
	}
	for _, tt := range tests {
		trips, ready := proxy.RoundTrips(), proxy.ReadyForQuery()
		tt.do()
		require.Equal(t, tt.want, proxy.RoundTrips()-trips, tt.name)
		if tt.name != "batch" {
			require.Equal(t, tt.want, proxy.ReadyForQuery()-ready, tt.name)
		}
	}
}

func TestPipelineAnsweredWhileItIsSent(t *testing.T) {
	proxy, dsn := wire.Start(t, pgserver.New(t).Owner.DSN, wire.WithDelay(10*time.Millisecond))
	conn := connect(t, dsn)

	// Many Syncs with a long answer each: the first answers come before the last questions are sent.
	const queries = 20
	pipeline := conn.PgConn().StartPipeline(t.Context())
	for range queries {
		pipeline.SendQueryParams("SELECT repeat('x', 100000)", nil, nil, nil, nil)
		require.NoError(t, pipeline.Sync())
	}
	require.NoError(t, pipeline.Close())
	require.EqualValues(t, queries, proxy.Syncs())
	require.EqualValues(t, queries, proxy.ReadyForQuery())
	require.EqualValues(t, 1, proxy.RoundTrips())
}

func TestCopyFrom(t *testing.T) {
	proxy, dsn := wire.Start(t, pgserver.New(t).Owner.DSN, wire.WithDelay(5*time.Millisecond))
	conn := connect(t, dsn)
	_, err := conn.Exec(t.Context(), "CREATE TABLE t (n int)")
	require.NoError(t, err)
	copied, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(strings.Repeat("1\n", 1000)), "COPY t FROM STDIN")
	require.NoError(t, err)
	require.EqualValues(t, 1000, copied.RowsAffected())

	before := proxy.RoundTrips()
	_, err = conn.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)
	require.EqualValues(t, 1, proxy.RoundTrips()-before, "the count goes on after a COPY")
}

func TestCutConnectionIsNoticedByPostgreSQL(t *testing.T) {
	d := pgserver.New(t)
	proxy, dsn := wire.Start(t, d.Owner.DSN)
	conn := connect(t, dsn)
	direct := connect(t, d.Owner.DSN)
	pid := conn.PgConn().PID()
	proxy.CutAll()
	_, err := conn.Exec(t.Context(), "SELECT 1")
	require.Error(t, err)
	require.True(t, conn.IsClosed())
	require.Eventually(t, func() bool {
		var sessions int
		err := direct.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid).Scan(&sessions)
		return err == nil && sessions == 0
	}, 10*time.Second, 10*time.Millisecond)
}
