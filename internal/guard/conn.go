package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gormtenancy/tenancy/internal/signing"
)

// conn is a connection of a guarded pool. It owns one of pgx's connections, or borrows one from the inner pool with the first
// statement, until its user is done. To prepare or to begin sends nothing, and waits for no connection. database/sql serialises
// all calls.
type conn = connUseTenancyWithPgxConn

// connUseTenancyWithPgxConn is what (*sql.Conn).Raw hands out. A failed type assertion to *stdlib.Conn panics with the name of
// this type, and so names the function to use instead.
type connUseTenancyWithPgxConn struct {
	pool     *connector
	cfg      *Config
	owned    *stdlib.Conn // nil for one that borrows
	made     driver.Conn  // what the pool's connector has made, around owned
	borrowed *sql.Conn
	server   *Server // that borrowed is a connection to
	lentTo   string  // the tenant of its last statement; empty for none
	shareOf  string  // the tenant that the server's Share counts it for

	*state     // what is known about the PostgreSQL connection; of a borrowed one, once it was used
	usage      // what is known about the present use of it
	tx     *tx // the explicit transaction under way, or nil

	args   []any                 // of the present statement, see argBuffer
	task   func(*pgx.Conn) error // the argument of use while runTask runs
	rawUse func(dc any) error    // runTask as a func value, made once
}

// usage is what is known about the use of a connection since it was borrowed.
type usage struct {
	checked      bool                 // the session was found clean
	namedRole    bool                 // SQL of the caller has named a role, and may have set it
	servedTenant string               // the tenant of the last statement
	wrapped      bool                 // a statement was sent between BEGIN and COMMIT; if it failed, a ROLLBACK is due
	proved       map[*Proof]time.Time // what PostgreSQL has said yes to, and when, since SQL of the caller ran last
	params       [3][]byte            // of the statement that sets the scope
	provedUntil  time.Time            // when the proof that was sent last expires; zero if it was none
}

var (
	_ driver.Conn               = (*conn)(nil)
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
	_ driver.NamedValueChecker  = (*conn)(nil)
	_ driver.Pinger             = (*conn)(nil)
	_ driver.SessionResetter    = (*conn)(nil)
	_ driver.Validator          = (*conn)(nil)
)

// use runs task with pgx's connection. A borrowed one is used within (*sql.Conn).Raw: after a panic, or when task returns
// driver.ErrBadConn, the inner pool closes it.
func (c *conn) use(task func(*pgx.Conn) error) error {
	if c.owned != nil {
		return task(c.owned.Conn())
	}
	if c.rawUse == nil {
		c.rawUse = c.runTask
	}
	c.task = task
	return c.borrowed.Raw(c.rawUse)
}

// runTask runs the task of use with the borrowed connection.
func (c *conn) runTask(dc any) error {
	std, err := unwrap(dc)
	if err != nil {
		return err
	}
	pc := std.Conn()
	if c.state == nil {
		c.state = stateOf(pc) // what earlier users of the PostgreSQL connection left for the guard
		c.beginUsage()
	}
	return c.task(pc)
}

// beginUsage resets what is known when another user gets the connection.
func (c *conn) beginUsage() {
	clear(c.proved)
	c.usage = usage{proved: c.proved}
	c.staleSequences, c.sequences = c.staleSequences || c.sequences, false
}

// Close closes an owned connection, and releases a borrowed one.
func (c *conn) Close() error {
	if c.owned == nil {
		c.pool.shared.Load().equalize() // perhaps because a limit was lowered
		return c.release()
	}
	if pc := c.owned.Conn(); !c.handOver(pc) {
		discard(pc)
	}
	return c.made.Close()
}

// discard closes a connection that cannot be cleaned. database/sql closing it is not enough: there may be a pool of pgx's below,
// which would hand it out again.
func discard(pc *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	_ = pc.Close(ctx)
}

// release gives a borrowed connection back to the inner pool if it is clean, and closes it otherwise.
func (c *conn) release() error {
	borrowed := c.borrowed
	if borrowed == nil {
		return nil
	}
	if s := c.state; s != nil && !c.untouched(s.conn) {
		_ = borrowed.Raw(func(any) error {
			if !c.handOver(s.conn) {
				discard(s.conn)
				return driver.ErrBadConn
			}
			return nil
		})
	}
	c.borrowed, c.state, c.task = nil, nil, nil
	defer c.leaveServer()
	if err := borrowed.Close(); err != sql.ErrConnDone { //nolint:errorlint // Close returns the sentinel itself
		return err
	}
	return nil
}

// handOver makes the connection ready for its next user, and reports whether it is. A connection that is broken, busy or still
// in a transaction is not. A dirty session is cleaned; mostly the cleaning was sent with the last statement, and its result is
// there.
func (c *conn) handOver(pc *pgx.Conn) bool {
	switch {
	case c.untouched(pc):
		return true
	case c.unusable, !clean(pc) && (!c.wrapped || !aborted(pc)):
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	if c.finishPending(ctx, pc) != nil || c.unusable {
		return false
	}
	return !c.dirty && !c.locks || c.clean(ctx, pc, false) == nil
}

// untouched reports whether the connection is as its user got it.
func (c *conn) untouched(pc *pgx.Conn) bool {
	return !c.cleaning && !c.wrapped && !c.unusable && clean(pc) && !c.dirty && !c.locks
}

// clean reports whether the next user may have the connection.
func clean(pc *pgx.Conn) bool {
	const idle = 'I'
	pg := pc.PgConn()
	return !pg.IsClosed() && !pg.IsBusy() && pg.TxStatus() == idle
}

// IsValid is called by database/sql when a user is done with a connection, before the pool keeps it. A borrowed connection is
// released then, because the inner pool's other users would miss it. The guarded one that the pool keeps is empty, and costs
// less to keep than to make for each statement.
func (c *conn) IsValid() bool {
	if c.owned != nil {
		return c.tx == nil && c.handOver(c.owned.Conn())
	}
	return c.release() == nil && c.tx == nil
}

// ResetSession is called before an idle connection is used again. For a borrowed one the inner pool does the same.
func (c *conn) ResetSession(ctx context.Context) error {
	if c.owned == nil {
		return nil
	}
	c.beginUsage()
	return c.owned.ResetSession(ctx)
}

// Ping needs no tenant: it sends an empty query.
func (c *conn) Ping(ctx context.Context) error {
	if err := c.borrow(ctx, scope{}); err != nil {
		return err
	}
	return c.use(func(pc *pgx.Conn) error {
		if err := pc.Ping(ctx); err != nil {
			_ = pc.Close(ctx)
			return driver.ErrBadConn
		}
		return nil
	})
}

// CheckNamedValue accepts every value: pgx converts them, as it does below its own stdlib.
func (c *conn) CheckNamedValue(*driver.NamedValue) error { return nil }

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, call{sql: query}, args)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, call{sql: query}, args)
}

// Prepare is PrepareContext, which sends nothing, so that there is nothing to cancel.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return &stmt{conn: c, query: query, held: isHeld(nearCallers)}, nil
}

// PrepareContext sends nothing: the first execution prepares the statement, in the transaction of its tenant.
func (c *conn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return c.Prepare(query)
}

// state is what the guard knows about a PostgreSQL connection. It is stored in that connection, so that it outlives borrowing
// and release.
type state struct {
	conn   *pgx.Conn
	mode   pgx.QueryExecMode
	login  string
	tracer pgx.QueryTracer
	eqb    pgx.ExtendedQueryBuilder
	session
	prepared        *cache                // of pgx's mode cache_statement
	described       *cache                // of pgx's mode cache_describe
	scopeStatements map[string]*statement // the prepared statements that set the scope, by SQL
	proofs          map[proofKey]signing.Signed
	toDeallocate    []string // names of prepared statements that are no longer used
}

const stateKey = "github.com/gormtenancy/tenancy"

func stateOf(pc *pgx.Conn) *state {
	data := pc.PgConn().CustomData()
	if s, ok := data[stateKey].(*state); ok {
		return s
	}
	cfg := pc.Config()
	s := &state{
		conn:            pc,
		mode:            cfg.DefaultQueryExecMode,
		login:           cfg.User,
		tracer:          cfg.Tracer,
		prepared:        newCache(cfg.StatementCacheCapacity),
		described:       newCache(cfg.DescriptionCacheCapacity),
		scopeStatements: make(map[string]*statement),
	}
	data[stateKey] = s
	return s
}

// retryable returns driver.ErrBadConn for an error that came before anything was sent, so that database/sql takes another
// connection, as with pgx's stdlib. It returns other errors as they are, and every error of a transaction, which cannot continue
// on another connection, or of a context that has ended.
func (c *conn) retryable(err error) error {
	switch {
	case err == nil, c.tx != nil, !safeToRetry(err):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		return driver.ErrBadConn
	}
}
