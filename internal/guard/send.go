package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// result is what the server sends back for one statement: its rows, and after them, up to ReadyForQuery, the outcome
// of the transaction that the statement was alone in.
type result struct {
	pgx.Rows
	rest  interface{ Close() error }
	shift int32 // how far text before the statement moved the positions in error messages
}

// close reads what is left and returns the command tag, or the first error.
func (a *result) close() (pgconn.CommandTag, error) {
	a.Rows.Close()
	err := a.Err()
	if restErr := a.rest.Close(); err == nil {
		err = restErr
	}
	return a.CommandTag(), shifted(err, a.shift)
}

func shifted(err error, by int32) error {
	if by == 0 || err == nil {
		return err
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Position > by {
		pgErr.Position -= by
	}
	return err
}

// send puts the statement on the wire together with what it needs before it, in one network round trip, and reads the
// answer up to the statement's own first message.
func (c *conn) send(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	const idle = 'I'
	wasIdle := pc.PgConn().TxStatus() == idle
	if c.tx != nil && (c.tx.ended || wasIdle && c.tx.begun) {
		return result{}, c.tx.over()
	}
	c.classify(q)
	if q.alone = wasIdle && c.goesAlone(q); q.alone {
		q.origin.SentAlone = true
	}
	if err := c.ready(ctx, pc, q); err != nil {
		return result{}, err
	}
	if err := q.scope.checkEncoding(pc.PgConn()); err != nil {
		return result{}, err
	}
	q.aborted = aborted(pc)
	a, err := c.sendOnce(ctx, pc, q)
	if c.mayHelp(q, err) && wasIdle {
		a, err = c.sendAgain(ctx, pc, q, err)
	}
	if errors.Is(err, errUnclean) {
		c.doomed = true
	}
	if err != nil && c.tx != nil && (c.tx.begun && pc.PgConn().TxStatus() == idle || pc.IsClosed()) {
		// SQL text that can't be parsed takes the BEGIN before it along, and so does a connection that takes no byte.
		c.tx.failed = true
	}
	c.noteError(err)
	return a, procedureError(q, preparedError(err))
}

// goesAlone reports whether a statement is sent without the BEGIN of its transaction, and so without a COMMIT. PostgreSQL makes
// what comes before one Sync a transaction anyway. It must be the transaction that GORM has begun for this statement, and nothing
// else sent in it so far; the origin knows whether anything can follow.
func (c *conn) goesAlone(q *call) bool {
	o := q.origin
	return c.tx != nil && c.tx.begin == defaultBegin && !c.tx.begun && !c.tx.failed && !c.used &&
		q.class == query && q.ordinary && o != nil && o.Alone != nil && !o.SentAlone && OriginOf(c.tx.ctx) == o && o.Alone()
}

// mayHelp reports whether a statement that failed before it ran may succeed when it is sent again.
func (c *conn) mayHelp(q *call, err error) bool {
	return errors.Is(err, errUnclean) || c.forgetAfter(q, err)
}

// sendAgain sends a statement that did not run: the session was not clean, or the server knew the statement no longer, or only
// in a form from before a migration. A transaction that was begun for it is begun again.
func (c *conn) sendAgain(ctx context.Context, pc *pgx.Conn, q *call, why error) (result, error) {
	if err := c.settle(ctx, pc); err != nil {
		return result{}, err
	}
	if err := c.restartTx(ctx, pc); err != nil {
		return result{}, err
	}
	if errors.Is(why, errUnclean) {
		if err := c.clean(ctx, pc, c.looked); err != nil {
			return result{}, err
		}
		c.temporary, c.corrects = true, true // behind a pooler another server's connection may have been cleaned, and told of its own
	}
	return c.sendOnce(ctx, pc, q)
}

// classify finds out what can be known of a statement from its origin, its text and its caller.
func (c *conn) classify(q *call) {
	c.classifyText(q)
	q.held = q.held || c.tx == nil && !q.ordinary && isHeld(farCallers)
}

func (c *conn) classifyText(q *call) {
	if q.origin != nil && q.origin.own {
		q.class, q.ordinary = query, true
		return
	}
	q.class, q.ordinary = c.textOf(q)
	if q.ordinary && q.mode == pgx.QueryExecModeSimpleProtocol && c.mode != q.mode && len(q.args) == 0 && !strings.Contains(q.sql, "$") {
		q.mode = pgx.QueryExecModeExec // it is one statement, and need not be sent as text
	}
	q.ordinary = q.ordinary && !c.cfg.CleanAlways
	if q.ordinary {
		return
	}
	if q.class == control && c.tx == nil && maySeveral(q.sql) {
		q.class = utility // nothing in it can be SET TRANSACTION, or it would be without effect
	}
	if q.class == utility && isProcedure(q.sql) && c.tx == nil && c.cfg.Role == "" && !maySeveral(q.sql) &&
		(q.scope.isNobody() || q.scope.bypass != nil && !q.scope.readOnly()) {
		q.commits = true
		if q.mode == pgx.QueryExecModeSimpleProtocol {
			q.mode = pgx.QueryExecModeExec // for in SQL text with something before it no CALL can commit
		}
	}
}

// textOf returns what can be read out of a statement's text, which was read before if the statement is in a cache.
func (c *conn) textOf(q *call) (k class, quiet bool) {
	if known := c.cacheOf(q); known != nil {
		if st := known.get(q.sql); st != nil {
			return st.class, st.quiet
		}
	}
	return classOf(q.sql), isQuiet(q.sql)
}

// ready does what must be done before anything of the statement can be sent, which is hardly ever necessary.
func (c *conn) ready(ctx context.Context, pc *pgx.Conn, q *call) error {
	if err := c.settle(ctx, pc); err != nil {
		return err
	}
	if c.tx != nil && c.tx.begun {
		return nil
	}
	if c.baseline == nil {
		if q.class != control && !q.commits {
			return nil // it is read in the same round trip
		}
		if err := c.readBaseline(ctx, pc); err != nil {
			return err
		}
	}
	if q.commits {
		return c.commitsAlone(ctx, pc)
	}
	switch first := !c.looked && !c.used; {
	case first && c.baseline.differs(pc.PgConn()), // by somebody who uses the pool without the guard
		first && q.class == control && maySeveral(q.sql):
		return c.clean(ctx, pc, false)
	case c.used && c.servedTenant != q.scope.tenant && !clean(pc):
		// SQL has begun a transaction on a connection that is held. To clean within it would last until its ROLLBACK.
		return errForeignTx
	case c.used && c.servedTenant != q.scope.tenant:
		// The holder of a connection goes on for another tenant. Locks are the holder's, and harm no one else.
		return c.clean(ctx, pc, true)
	}
	return nil
}

// commitsAlone sets the scope of a CALL that may commit, in a round trip of its own: from version 18 on, PostgreSQL lets none
// commit that is sent together with another statement.
func (c *conn) commitsAlone(ctx context.Context, pc *pgx.Conn) error {
	_, err := pc.PgConn().ExecParams(ctx, c.pool.scopeSQL.procedure, nil, nil, nil, nil).Close()
	return err
}

func (c *conn) sendOnce(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	if q.mode == pgx.QueryExecModeSimpleProtocol {
		if len(q.args) > 0 {
			return c.sendInterpolated(ctx, pc, q)
		}
		return c.sendText(ctx, pc, q)
	}
	return c.sendExtended(ctx, pc, q)
}

// sent notes that a statement is on its way.
func (c *conn) sent(q *call) {
	c.servedTenant = q.scope.tenant
	if q.ordinary {
		// A statement that fails may have drawn a number, too, and so may a trigger of an UPDATE.
		c.sequences = c.sequences || q.class == query && !q.selects()
		return
	}
	c.used = true
	c.namedRole = c.namedRole || namesRole(q.sql)
	clear(c.proved)
}

// wraps reports whether the statement is sent between BEGIN and COMMIT, in which no CALL and no DO can commit.
func (c *conn) wraps(q *call) bool {
	return q.class == utility && c.tx == nil && !q.commits && q.mode != pgx.QueryExecModeSimpleProtocol
}

// cleansBehind reports whether the cleaning can travel behind the statement: it leaves something, and its connection is free
// afterwards.
func (c *conn) cleansBehind(q *call) bool {
	return !q.ordinary && c.tx == nil && !q.held && !c.wraps(q)
}

// settle ends what an earlier statement has left under way.
func (c *conn) settle(ctx context.Context, pc *pgx.Conn) error {
	if err := c.drain(ctx, pc); err != nil {
		return err
	}
	if c.wrapped && aborted(pc) {
		if err := pc.PgConn().Exec(ctx, "rollback").Close(); err != nil {
			return err
		}
	}
	c.wrapped = false
	return nil
}

// sendExtended uses PostgreSQL's extended protocol: all that comes before one Sync is one transaction
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING). CALL and DO can end it, unless a
// BEGIN stands before.
func (c *conn) sendExtended(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	st, err := c.describe(ctx, pc, q)
	if err != nil {
		return result{}, err
	}
	q.statement = st

	// All arguments are encoded before anything is queued, so that a value that does not fit costs nothing.
	var sd *pgconn.StatementDescription
	if st != nil {
		sd = st.StatementDescription
		if len(sd.ParamOIDs) != len(q.args) {
			return result{}, fmt.Errorf("expected %d arguments, got %d", len(sd.ParamOIDs), len(q.args))
		}
	}
	if err := c.eqb.Build(pc.TypeMap(), sd, q.args); err != nil {
		return result{}, err
	}

	var room [maxSteps]step
	steps := c.steps(pc, q, room[:0])
	wrapped := c.wraps(q)
	if wrapped {
		steps = slices.Insert(steps, 0, step{kind: stepBegin, sql: "begin"})
		c.wrapped = true
	}
	m := c.message(pc, q)
	for _, s := range steps {
		m.add(s.known, s.command(q), s.params, nil, nil, nil)
	}
	switch q.mode {
	case pgx.QueryExecModeCacheStatement:
		m.add(st, "", c.eqb.ParamValues, nil, c.eqb.ParamFormats, q.resultFormats(st))
	case pgx.QueryExecModeExec:
		m.add(nil, q.sql, c.eqb.ParamValues, nil, c.eqb.ParamFormats, nil)
	default:
		m.add(nil, q.sql, c.eqb.ParamValues, sd.ParamOIDs, c.eqb.ParamFormats, q.resultFormats(st))
	}
	if wrapped {
		m.add(nil, "commit", nil, nil, nil, nil)
	}
	c.sent(q)
	results, err := m.send(ctx)
	if err != nil {
		return result{}, err
	}
	if err := c.skip(pc, results, prefix{steps: steps}); err != nil {
		return result{}, err
	}
	return firstResult(pc, results, 0)
}

// sendText uses the simple protocol: a message of SQL text is one transaction, whatever number of statements it holds
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT).
func (c *conn) sendText(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	var room [maxSteps]step
	before := textPrefix(c.steps(pc, q, room[:0]), sqltext.Literal(q.scope.tenant))
	shift := before.width()
	behind := c.cleansBehind(q)
	c.sent(q)
	var results *pgconn.MultiResultReader
	if behind {
		text := pgproto3.Query{String: before.text + q.sql}
		var err error
		if results, err = c.sendBefore(ctx, pc, func(f *pgproto3.Frontend) { f.SendQuery(&text) }); err != nil {
			return result{}, err
		}
	} else {
		results = pc.PgConn().Exec(ctx, before.text+q.sql)
	}
	if err := c.skip(pc, results, before); err != nil {
		return result{}, shifted(err, shift)
	}
	if !q.exec {
		return firstResult(pc, results, shift)
	}
	a, completed, err := c.lastResult(q, results, shift)
	if completed == 0 && c.needsNoTransaction(q, err) {
		if err := c.drain(ctx, pc); err != nil {
			return result{}, err
		}
		c.used = true
		a, _, err = c.lastResult(q, pc.PgConn().Exec(ctx, q.sql), 0)
	}
	return a, err
}

// needsNoTransaction reports whether PostgreSQL refused a statement because it cannot run in a transaction, and it may run
// without. Such statements (VACUUM, CREATE INDEX CONCURRENTLY, CREATE DATABASE and their like) return no rows, so no
// policy is needed for them. Whoever sends one works for no tenant, and as the login: nothing sets a role for it.
//
// PostgreSQL names the function that refused, and says where it was called from: code in SQL that raises the same error,
// or executes such a statement, cannot forge that.
func (c *conn) needsNoTransaction(q *call, err error) bool {
	const inTransaction = "25001"
	return c.tx == nil && q.scope.isNobody() && c.cfg.Role == "" && isServers(err, inTransaction, "PreventInTransactionBlock")
}

// sendInterpolated is sendText for a statement with arguments, which pgx writes into the text. It writes the tenant's
// id too, for a tracer of batches sees the text.
func (c *conn) sendInterpolated(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	const (
		placeholder = "$1"
		separator   = 2 // characters, by which pgx joins the parts of a batch
	)
	var room [maxSteps]step
	steps := c.steps(pc, q, room[:0])
	// pgx sends this batch as one message, behind which nothing can be put. So the cleaning is a part of it, after a COMMIT.
	behind := c.cleansBehind(q)
	if behind {
		steps = slices.Insert(steps, 0, step{kind: stepBegin, sql: "begin"})
		c.wrapped = true
	}
	before := textPrefix(steps, placeholder)
	shift := before.width() + separator
	batch := &pgx.Batch{}
	if n := strings.Count(before.text, placeholder); n > 0 {
		shift += int32(n) * (interpolatedWidth(q.scope.tenant) - int32(len(placeholder))) //nolint:gosec // there is one
		batch.Queue(before.text, hidden{q.scope.tenant})
	} else {
		batch.Queue(before.text)
	}
	batch.Queue(q.sql, q.args...)
	if behind {
		batch.Queue("commit; " + c.cleanSQL(false))
	}
	known := c.baseline != nil
	c.sent(q)
	results := pc.SendBatch(ctx, batch)
	for i, s := range before.steps {
		rows, err := readStep(results)
		if err != nil {
			if sqlState(err) == "" && !pc.IsClosed() {
				_ = results.Close()
				return result{}, err // an argument can't be written into text: nothing was sent
			}
			return result{}, shifted(c.failed(err, before, i, results), shift)
		}
		c.succeeded(pc, s, rows)
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close()
		return result{}, shifted(err, shift)
	}
	a := result{Rows: rows, rest: results, shift: shift}
	if behind {
		a.rest = cleanBehind{results, c, pc, known}
	}
	return a, nil
}

// readStep reads the answer of a step from a batch of pgx.
func readStep(results pgx.BatchResults) (read [][2]string, err error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		read = addSetting(read, rows.RawValues())
	}
	rows.Close()
	return read, rows.Err()
}

// cleanBehind is the rest of a batch whose last part cleans the session.
type cleanBehind struct {
	pgx.BatchResults
	conn  *conn
	pc    *pgx.Conn
	known bool // the baseline was, when the cleaning was written
}

// Close reads the outcome of the COMMIT, which is the statement's own, and that of the cleaning, which is not.
func (r cleanBehind) Close() error {
	if _, err := r.Exec(); err != nil { // of the statement, or of the COMMIT
		_ = r.BatchResults.Close()
		return err
	}
	if err := r.BatchResults.Close(); err == nil && r.conn.baseline != nil && (r.known || r.conn.baseline.restore == "") {
		_ = r.conn.cleaned(r.pc, nil)
	}
	return nil // what could not be cleaned is still used, and is cleaned when the connection is given back
}

// skip reads the results of what went before the statement.
func (c *conn) skip(pc *pgx.Conn, results *pgconn.MultiResultReader, before prefix) error {
	for i, s := range before.steps {
		var err error
		var rows [][2]string
		if results.NextResult() {
			r := results.ResultReader()
			if s.kind == stepBaseline || s.kind == stepProof {
				rows = readSettings(r)
			}
			_, err = r.Close()
		} else {
			err = results.Close()
		}
		if err != nil {
			return c.failed(err, before, i, results)
		}
		c.succeeded(pc, s, rows)
	}
	return nil
}

func readSettings(r *pgconn.ResultReader) (settings [][2]string) {
	for r.NextRow() {
		settings = addSetting(settings, r.Values())
	}
	return settings
}

// failed closes the results after the n-th step has failed, and explains the error.
func (c *conn) failed(err error, before prefix, n int, results interface{ Close() error }) error {
	if n == 0 && before.steps[0].kind == stepBegin && c.tx != nil && !safeToRetry(err) {
		c.tx.begun = true
	}
	_ = results.Close()
	c.noteError(err)
	return c.stepError(before.steps[n], err)
}

// firstResult answers with the first of the results: that of a query.
func firstResult(pc *pgx.Conn, results *pgconn.MultiResultReader, shift int32) (result, error) {
	if !results.NextResult() {
		if err := results.Close(); err != nil {
			return result{}, shifted(err, shift)
		}
		return result{Rows: noRows{}, rest: results}, nil // empty SQL
	}
	return result{Rows: pgx.RowsFromResultReader(pc.TypeMap(), results.ResultReader()), rest: results, shift: shift}, nil
}

// lastResult reads all results and answers with the last: that of SQL text with several statements. It says how many of them
// were completed, also where one failed.
func (c *conn) lastResult(q *call, results *pgconn.MultiResultReader, shift int32) (a result, completed int, err error) {
	a = result{Rows: noRows{}, rest: results, shift: shift}
	for results.NextResult() {
		tag, err := results.ResultReader().Close() // its error is the one of results
		a.Rows = noRows{tag: tag}
		if err == nil {
			completed++
			q.completed(tag)
			c.noteTag(tag)
		}
	}
	if err := results.Close(); err != nil {
		return result{}, completed, shifted(err, shift)
	}
	return a, completed, nil
}

// noRows is the answer of a statement that has none, or whose rows were read already.
type noRows struct {
	pgx.Rows
	tag pgconn.CommandTag
}

func (noRows) Close()                                       {}
func (noRows) Err() error                                   { return nil }
func (noRows) Next() bool                                   { return false }
func (noRows) RawValues() [][]byte                          { return nil }
func (noRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r noRows) CommandTag() pgconn.CommandTag              { return r.tag }
