package guard

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/signing"
)

// call is one statement on its way: what the caller gave, and what the guard has found out about it.
type call struct {
	sql      string
	args     []any
	prepared bool // by a driver.Stmt
	exec     bool // rows, if any, are not read

	origin     *Origin // what GORM's callbacks know of it, or nil
	held       bool    // the caller holds the connection by a *sql.Conn, and may send more
	class      class
	plain      bool // its text leaves nothing in the session
	stateless  bool // and nothing else does: it needs no cleaning
	aborted    bool // it was sent in a transaction that had failed
	autocommit bool // it is sent without the BEGIN and COMMIT of its transaction, which has not begun on the server
	block      bool // it is sent between a BEGIN and a COMMIT of the guard; see opensBlock
	reaches    bool // what it runs under is set for Citus's workers, too
	lends      bool // it is for SQL of the caller that the guard does not see
	commits    bool // a CALL that may commit: it has no transaction, tenant or role that a commit would end

	scope   scope
	proof   signing.Signed // of the scope's tenant; see proofOf
	said    []byte         // for the records of changes; see saidOf
	sets    []string       // the SQL of the tenant's settings; see settingsOf
	mode    pgx.QueryExecMode
	formats pgx.QueryResultFormatsByOID // if the caller wants other formats than stdlib's

	statement *statement // as the server described it; nil in a mode without descriptions

	started time.Time
	ctx     context.Context     // for the ends of traces and reports
	eventID string              // of a bypass; empty until its begin is reported
	tags    []pgconn.CommandTag // of SQL text with several statements, those that were completed
	tag     pgconn.CommandTag   // of an exec, its result
}

// start begins a statement: its trace, its report if it is a bypass, and the choice of how it is sent. The context it returns is
// the tracer's. Each statement that was started is ended by done.
func (c *conn) start(ctx context.Context, pc *pgx.Conn, q *call, args []driver.NamedValue) (context.Context, error) {
	if err := c.checkOpen(pc); err != nil {
		return ctx, err
	}
	ctx = c.startTrace(ctx, pc, q, args)
	if err := c.reportBegin(q); err != nil {
		return ctx, err
	}
	q.mode = c.mode
	if err := q.takeOptions(ctx, pc); err != nil {
		return ctx, err
	}
	c.chooseMode(q)
	return ctx, c.restrict(q)
}

// checkOpen returns an error if the connection is closed. Outside a transaction database/sql then takes another.
func (c *conn) checkOpen(pc *pgx.Conn) error {
	switch {
	case !pc.IsClosed():
		return nil
	case c.tx != nil:
		c.tx.failed = true
		return pgconn.ErrConnClosed
	default:
		return driver.ErrBadConn
	}
}

// startTrace copies the arguments into the call, and shows it to the tracer.
func (c *conn) startTrace(ctx context.Context, pc *pgx.Conn, q *call, args []driver.NamedValue) context.Context {
	q.args = c.argBuffer(len(args))
	for i, v := range args {
		q.args[i] = v.Value
	}
	if c.tracer != nil {
		ctx = c.tracer.TraceQueryStart(ctx, pc, pgx.TraceQueryStartData{SQL: q.sql, Args: q.args})
	}
	q.ctx = ctx
	return ctx
}

// takeOptions takes the options that pgx allows before the arguments.
func (q *call) takeOptions(ctx context.Context, pc *pgx.Conn) (err error) {
	var rewriter pgx.QueryRewriter
options:
	for len(q.args) > 0 {
		switch arg := q.args[0].(type) {
		case pgx.QueryExecMode:
			q.mode = arg
		case pgx.QueryResultFormatsByOID:
			q.formats = arg
		case pgx.QueryResultFormats: // pgx's stdlib overrides these with formats by OID
		case pgx.QueryRewriter:
			rewriter = arg
		default:
			break options
		}
		q.args = q.args[1:]
	}
	if rewriter == nil {
		return nil
	}
	if q.sql, q.args, err = rewriter.RewriteQuery(ctx, pc, q.sql, q.args); err != nil {
		return fmt.Errorf("rewrite query failed: %w", err)
	}
	return nil
}

// chooseMode changes the mode where the statement needs another one than the connection's or the caller's.
func (c *conn) chooseMode(q *call) {
	switch {
	case q.sql == "":
		q.mode = pgx.QueryExecModeSimpleProtocol
	case q.prepared && c.prepared.capacity > 0:
		q.mode = pgx.QueryExecModeCacheStatement
	case q.prepared:
		q.mode = pgx.QueryExecModeDescribeExec
	case q.exec && len(q.args) == 0: // it may be several statements, as in pgx
		q.mode = pgx.QueryExecModeSimpleProtocol
	case q.mode == pgx.QueryExecModeSimpleProtocol && c.mode != q.mode && len(q.args) > 0:
		// Only pgx can write arguments into SQL text, and it does so in a batch only if that is the connection's mode. According to
		// pgx, the mode exec makes no difference to a user.
		q.mode = pgx.QueryExecModeExec
	}
	if q.mode == pgx.QueryExecModeSimpleProtocol && c.cfg.extended() {
		q.mode = pgx.QueryExecModeExec
	}
	if q.mode != pgx.QueryExecModeCacheStatement {
		return
	}
	if q.origin != nil && q.origin.PlansEach && c.described.capacity > 0 {
		q.mode = pgx.QueryExecModeCacheDescribe // PostgreSQL keeps no plan for an unnamed statement
	}
	if c.showsValues(q) {
		q.mode = pgx.QueryExecModeDescribeExec
		if c.described.capacity > 0 {
			q.mode = pgx.QueryExecModeCacheDescribe
		}
	}
}

// showsValues reports whether a statement must not be prepared under a name, because SQL of the next tenant on the connection could read values
// in its text (https://www.postgresql.org/docs/current/view-pg-prepared-statements.html).
func (c *conn) showsValues(q *call) bool {
	return c.cfg.signs() && c.prepared.get(q.sql) == nil && mayHoldValue(q.sql)
}

// argBuffer returns a slice for n arguments. It is the slice of the last statement, unless there is a tracer, which may keep it.
func (c *conn) argBuffer(n int) []any {
	if c.tracer != nil {
		return make([]any, n)
	}
	c.args = slices.Grow(c.args[:0], n)[:n]
	return c.args
}

// done ends the statement's trace and reports a bypass. It returns err, or else the error of the report.
func (c *conn) done(pc *pgx.Conn, q *call, tag pgconn.CommandTag, err error) error {
	if q.ctx == nil {
		return err // it was never started
	}
	if c.tracer == nil {
		clear(c.args) // an idle connection must not keep values alive
	}
	if c.tracer != nil {
		c.tracer.TraceQueryEnd(q.ctx, pc, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
	}
	return c.reportEnd(q, tag, err)
}

// kind is the command in a tag: "INSERT" in "INSERT 0 1", "CREATE TABLE" in "CREATE TABLE".
func kind(tag pgconn.CommandTag) string {
	s := tag.String()
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			return s[:max(i-1, 0)]
		}
	}
	return s
}

// selects reports whether a statement is a plain SELECT.
func (q *call) selects() bool { return strings.EqualFold(firstWord(q.sql), "SELECT") }

// inserts reports whether a statement may draw numbers from sequences for its own rows.
func (q *call) inserts() bool {
	word := firstWord(q.sql)
	return strings.EqualFold(word, "INSERT") || strings.EqualFold(word, "WITH")
}

// admit decides which tenant a statement runs for, or refuses it, and borrows a connection.
func (c *conn) admit(ctx context.Context, q *call) (err error) {
	if q.scope, err = c.scope(ctx); err != nil {
		return err
	}
	if q.origin = originFor(ctx, q.sql); q.origin != nil && q.origin.Changed(ctx) {
		return ErrChanged
	}
	if err = c.borrow(ctx, q.scope); err != nil {
		return err
	}
	c.tx.adopt(q.scope)
	if q.scope.observed && (q.origin == nil || !q.origin.own) {
		c.cfg.Observe(ctx, q.origin)
	}
	return nil
}

// noteOutcome updates what the guard knows after a statement has ended.
func (c *conn) noteOutcome(q *call, tag pgconn.CommandTag, err error) {
	c.invalidateAfter(q, err)
	c.noteError(err)
	c.noteTag(tag)
	switch kind(tag) {
	case "", "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE":
	default:
		if q.class == query { // no plain text has another tag
			c.dirty, c.named = true, true
		}
	}
	if q.aborted && c.tx != nil && endsTransaction(q.sql) {
		c.tx.ended = true // a failed transaction could not be marked
	}
}

// noteTag notes what a statement with this command tag has changed in the session or the transaction.
func (c *conn) noteTag(tag pgconn.CommandTag) {
	switch tag.String() {
	case "DEALLOCATE ALL", "DISCARD ALL":
		c.invalidateAll()
	case "COMMIT", "PREPARE TRANSACTION":
		if c.tx != nil {
			c.tx.ended = true
		}
	case "RESET": // perhaps RESET ALL
		if c.tx != nil {
			c.tx.marked = false
		}
	}
}

// noteError notes an error that says that the server is broken or out of resources, which the session may hold: the connection is
// not used again. An error about row_security, which code of the database has switched off, has the session cleaned.
func (c *conn) noteError(err error) {
	if err == nil {
		return
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Routine == rowSecurityRoutine {
		c.dirty = true
	}
	switch state := sqlState(err); {
	case state == "53200", state == "53300", strings.HasPrefix(state, "XX"):
		c.unusable = true
	}
}

// exec runs a statement and ignores its rows.
func (c *conn) exec(ctx context.Context, q call, args []driver.NamedValue) (_ driver.Result, err error) {
	defer c.cfg.recovered("code that a statement runs", &err)
	if err = c.admit(ctx, &q); err != nil {
		return nil, err
	}
	q.exec = true
	err = c.use(func(pc *pgx.Conn) error {
		ctx, err := c.start(ctx, pc, &q, args)
		if err == nil {
			var a result
			if a, err = c.send(ctx, pc, &q); err == nil {
				q.tag, err = a.close()
				c.noteOutcome(&q, q.tag, err)
				err = procedureError(&q, err)
			}
			if c.cfg.extended() && c.needsNoTransaction(&q, err) {
				q.tag, err = c.sendAlone(ctx, pc, &q)
			}
			err = c.severalError(err)
		}
		return c.retryable(c.done(pc, &q, q.tag, err))
	})
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(q.tag.RowsAffected()), nil
}

// query runs a statement and returns its rows, which are read from the wire as they are asked for.
func (c *conn) query(ctx context.Context, q call, args []driver.NamedValue) (_ driver.Rows, err error) {
	defer c.cfg.recovered("code that a statement runs", &err)
	if o := OriginOf(ctx); o.asksTenant(q.sql) {
		s, err := c.scope(ctx)
		if s.observed {
			err = ErrNoTenant
		}
		return &tenantRow{tenant: s.tenant}, err
	}
	if err = c.admit(ctx, &q); err != nil {
		return nil, err
	}
	r := &rows{conn: c, call: q, ctx: ctx, args: args}
	r.task = r.run
	if err = r.use(opening); err != nil {
		return nil, err
	}
	return r, nil
}

// stmt is a prepared statement as database/sql knows it. The server prepares it on each connection that executes it, with the
// first execution.
type stmt struct {
	conn  *conn
	query string
	held  bool // prepared by a *sql.Conn
}

var (
	_ driver.StmtExecContext  = (*stmt)(nil)
	_ driver.StmtQueryContext = (*stmt)(nil)
)

// Close does nothing: the prepared statement stays in the connection's cache.
func (s *stmt) Close() error { return nil }

// NumInput returns -1, because the number of parameters is not known before the first execution.
func (s *stmt) NumInput() int { return -1 }

// Exec is never called by database/sql, which prefers ExecContext.
func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

// Query is never called by database/sql, which prefers QueryContext.
func (s *stmt) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.exec(ctx, call{sql: s.query, prepared: true, held: s.held}, args)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.query(ctx, call{sql: s.query, prepared: true, held: s.held}, args)
}
