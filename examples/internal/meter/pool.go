package meter

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// pingAfter is how long a connection is idle before it is tried out. With pgx it is a second, which is a round trip too many
// for a server that is near. Tests change it.
var pingAfter = time.Minute

// Open returns a pool of pgx connections that counts. Its connections open when they are needed.
func Open(dsn string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the database's address is malformed") // the error would show it, with its password
	}
	cfg.Tracer = tracer{}
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &socket{Conn: conn}, nil
	}
	ping := stdlib.OptionShouldPing(func(ctx context.Context, p stdlib.ShouldPingParams) bool {
		attribute(ctx, p.Conn) // who borrows it pays for the ping
		return p.IdleDuration > pingAfter
	})
	return stdlib.OpenDB(*cfg, ping), nil
}

// tracer counts statements, and tells a connection for whom it works.
type tracer struct{}

func (tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	ends := data.SQL == "commit" || data.SQL == "rollback" // a transaction, as pgx and the guard write it
	if c := counterOf(ctx); c != nil && !ends {
		c.statements.Add(1)
	}
	attribute(ctx, conn)
	return ctx
}

func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// attribute makes what conn does from here on count for ctx, until it is somebody else's.
func attribute(ctx context.Context, conn *pgx.Conn) {
	raw := conn.PgConn().Conn()
	if encrypted, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = encrypted.NetConn()
	}
	if s, ok := raw.(*socket); ok {
		s.counter.Store(counterOf(ctx))
	}
}

// socket counts the turns of a conversation: something was written, and an answer came.
type socket struct {
	net.Conn
	counter atomic.Pointer[Counter] // nil while nobody counts
	waiting atomic.Bool
}

func (s *socket) Write(b []byte) (int, error) {
	s.waiting.Store(true)
	return s.Conn.Write(b)
}

func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if n > 0 && s.waiting.Swap(false) {
		if c := s.counter.Load(); c != nil {
			c.roundTrips.Add(1)
		}
	}
	return n, err
}
