package wire_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// TestProxyDealsEachFate: a Query is delivered or not as its fate says, and its client learns as much as a network would tell.
func TestProxyDealsEachFate(t *testing.T) {
	d := pgserver.New(t)
	direct := connect(t, d.Owner.DSN)
	_, err := direct.Exec(t.Context(), "CREATE TABLE t (n int)")
	require.NoError(t, err)
	const insert = "INSERT INTO t VALUES (1)"
	size := len(insert) + 6 // with kind, length and the end of the string

	for _, tt := range []struct {
		name     string
		fate     wire.Fate
		from     wire.Side
		kind     byte
		inserted bool
		fails    bool
		deadline bool // is all that ends it
	}{
		{name: "passes", from: wire.Client, kind: 'Q', inserted: true},
		{name: "trickles", fate: wire.Trickle(time.Microsecond), from: wire.Client, kind: 'Q', inserted: true},
		{name: "is replaced", fate: wire.Replace("Q\x00\x00\x00\x0dSELECT 1\x00"), from: wire.Client, kind: 'Q'},
		{name: "breaks before", fate: wire.Break(0), from: wire.Client, kind: 'Q', fails: true},
		{name: "breaks inside", fate: wire.Break(size - 1), from: wire.Client, kind: 'Q', fails: true},
		{name: "breaks after", fate: wire.Break(size), from: wire.Client, kind: 'Q', inserted: true, fails: true},
		{name: "the answer breaks", fate: wire.Break(1), from: wire.Server, kind: 'C', inserted: true, fails: true},
		{name: "falls silent", fate: wire.FallSilent(0), from: wire.Client, kind: 'Q', fails: true, deadline: true},
		{name: "the answer falls silent", fate: wire.FallSilent(0), from: wire.Server, kind: 'C', inserted: true, fails: true, deadline: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var armed atomic.Bool
			proxy, dsn := wire.Start(t, d.Owner.DSN, wire.WithInterceptor(func(from wire.Side, message []byte) wire.Fate {
				if armed.Load() && from == tt.from && message[0] == tt.kind {
					return tt.fate
				}
				return wire.Fate{}
			}))
			conn := connectOnce(t, dsn)
			pid := conn.PgConn().PID()
			armed.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := conn.PgConn().Exec(ctx, insert).ReadAll()
			require.Equal(t, tt.fails, err != nil, "%v", err)
			require.Equal(t, tt.deadline, ctx.Err() != nil)
			proxy.CutAll()
			require.Eventually(t, func() bool {
				var gone bool
				err := direct.QueryRow(context.Background(), "SELECT NOT EXISTS (SELECT FROM pg_stat_get_activity($1))", pid).Scan(&gone)
				return err == nil && gone
			}, 10*time.Second, time.Millisecond)
			tag, err := direct.Exec(t.Context(), "DELETE FROM t")
			require.NoError(t, err)
			require.Equal(t, tt.inserted, tag.RowsAffected() == 1)
		})
	}
}

// connectOnce connects so that pgx can't ask the server on a second connection to cancel what the first was doing.
func connectOnce(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	var dialed atomic.Bool
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dialed.Swap(true) {
			return nil, errors.New("connected once")
		}
		return dial(ctx, network, address)
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
