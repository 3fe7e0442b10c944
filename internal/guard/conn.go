package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// conn is a connection of a guarded pool: one of pgx's that it owns, or that the inner pool lends it from the first
// statement on, until the user of this one is done with it. What only prepares or begins sends nothing, and need not wait
// for one. database/sql serialises all calls.
type conn = connUseTenancyWithPgxConn

// connUseTenancyWithPgxConn is what (*sql.Conn).Raw hands out. A type assertion to *stdlib.Conn panics with the name of the type
// that it met, and nothing else could say there what to use in its place.
type connUseTenancyWithPgxConn struct {
	pool     *connector
	cfg      *Config
	owned    *stdlib.Conn // below made, which is what the pool's connector has made of it; or
	made     driver.Conn
	inner    *sql.DB
	borrowed *sql.Conn

	*state     // what is known about the PostgreSQL connection; of a borrowed one, once it was used
	usage      // what is known about the present use of it
	tx     *tx // the explicit transaction under way, or nil

	args   []any                 // of the present statement, see argBuffer
	task   func(*pgx.Conn) error // what use hands to borrowed.Raw, through runTask as a func value that is made once
	rawUse func(dc any) error
}

// usage is what is known about the use of a connection since it was borrowed.
type usage struct {
	checked      bool                 // the session was found clean
	namedRole    bool                 // SQL of the caller has named a role, and may have taken it
	servedTenant string               // that the last statement worked for
	wrapped      bool                 // a statement was sent between BEGIN and COMMIT; if it failed, a ROLLBACK is due
	proved       map[*Proof]time.Time // what was proved, and when, since SQL of the caller has run last
	params       [2][]byte            // of the statement that sets the scope
}

// borrow takes a connection from the inner pool, unless there is one already.
func (c *conn) borrow(ctx context.Context) (err error) {
	if c.owned != nil || c.borrowed != nil {
		return nil
	}
	c.pool.shared.Load().equalize()
	c.borrowed, err = c.inner.Conn(ctx)
	return err
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

// use runs task with pgx's connection, within the bounds that (*sql.Conn).Raw draws for a borrowed one: after a panic, or
// when task returns driver.ErrBadConn, the inner pool throws the connection away.
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

// runTask runs the task with the connection that is borrowed.
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

// beginUsage begins the use of a connection by another user.
func (c *conn) beginUsage() {
	clear(c.proved)
	c.usage = usage{proved: c.proved}
	c.staleSequences, c.sequences = c.staleSequences || c.sequences, false
}

// Close closes the connection if it is owned, and gives it back otherwise.
func (c *conn) Close() error {
	if c.owned == nil {
		c.pool.shared.Load().equalize() // a limit was lowered, perhaps
		return c.release()
	}
	if pc := c.owned.Conn(); !c.handOver(pc) {
		discard(pc)
	}
	return c.made.Close()
}

// discard closes a connection that cannot be cleaned. To be closed by database/sql is not enough: below there may be a pool of
// pgx's, which would lend it again.
func discard(pc *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	_ = pc.Close(ctx)
}

// release gives a borrowed connection back, clean, or throws it away.
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
	if err := borrowed.Close(); err != sql.ErrConnDone { //nolint:errorlint // Close returns the sentinel itself
		return err
	}
	return nil
}

// handOver makes the connection ready for its next user, and reports whether it is. One that is broken, busy or still in a
// transaction is not: no one else may meet what it was doing. The session is cleaned if it was used; mostly the cleaning has
// been sent with the last statement, and its answer has arrived.
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

// untouched reports whether the connection is as it was found.
func (c *conn) untouched(pc *pgx.Conn) bool {
	return !c.cleaning && !c.wrapped && !c.unusable && clean(pc) && !c.dirty && !c.locks
}

// clean reports whether a connection may be used by the next one who comes.
func clean(pc *pgx.Conn) bool {
	const idle = 'I'
	pg := pc.PgConn()
	return !pg.IsClosed() && !pg.IsBusy() && pg.TxStatus() == idle
}

// IsValid is what database/sql asks when its user is done with a connection, before it keeps it for the next. A borrowed one
// goes back then: kept, it would be missing to the others who borrow from there. What is kept is empty, and costs less
// than to be made again for each statement.
func (c *conn) IsValid() bool {
	if c.owned != nil {
		return c.tx == nil && c.handOver(c.owned.Conn())
	}
	return c.release() == nil && c.tx == nil
}

// ResetSession is called before an idle connection is used again; the inner pool does the same for a borrowed one.
func (c *conn) ResetSession(ctx context.Context) error {
	if c.owned == nil {
		return nil
	}
	c.beginUsage()
	return c.owned.ResetSession(ctx)
}

// Ping needs no tenant: it sends an empty query.
func (c *conn) Ping(ctx context.Context) error {
	if err := c.borrow(ctx); err != nil {
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

// CheckNamedValue lets every value through: pgx converts them, as it does below its own stdlib.
func (c *conn) CheckNamedValue(*driver.NamedValue) error { return nil }

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, call{sql: query}, args)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, call{sql: query}, args)
}

// Prepare is PrepareContext: nothing is sent, so there is nothing to cancel.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return &stmt{conn: c, query: query, held: isHeld(nearCallers)}, nil
}

// PrepareContext sends nothing: the first execution prepares the statement, in the transaction of its tenant.
func (c *conn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return c.Prepare(query)
}

// state is what the guard knows about a PostgreSQL connection. It hangs on the connection itself, so that it survives
// borrowing and return.
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
	toDeallocate    []string              // names of prepared statements that nobody uses any more
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

// retryable turns an error that came before anything was sent into the one by which database/sql takes another
// connection, as pgx's stdlib does. A transaction can't take another, and a context that is over helps on none: there
// the error stays what it is, and the connection in use.
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
