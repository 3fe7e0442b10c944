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

// pingAfter is how long a connection may be idle before it is pinged. The default of pgx, a second, costs needless round
// trips. Tests change it.
var pingAfter = time.Minute

// Open returns a pool of pgx connections that counts. Its connections open when they are needed.
func Open(dsn string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the DSN is malformed") // the error of pgx may show the password
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
		attribute(ctx, p.Conn) // the ping counts for the request that gets the connection
		return p.IdleDuration > pingAfter
	})
	return stdlib.OpenDB(*cfg, ping), nil
}

// tracer counts statements, and assigns a connection to the context that uses it.
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

// attribute counts what conn does from now on for ctx, until another context uses it.
func attribute(ctx context.Context, conn *pgx.Conn) {
	raw := conn.PgConn().Conn()
	if encrypted, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = encrypted.NetConn()
	}
	if s, ok := raw.(*socket); ok {
		s.counter.Store(counterOf(ctx))
	}
}

// socket counts round trips: something was written, and a response arrived.
type socket struct {
	net.Conn
	counter atomic.Pointer[Counter] // nil if not counted
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
