package guard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// send sends the statement together with what it needs before it, in one network round trip, and reads the result up to the
// statement's own first message.
func (c *conn) send(ctx context.Context, pc *pgx.Conn, q *call) (a result, err error) {
	const idle = 'I'
	if pc.PgConn().IsBusy() && !c.cleaning && !c.committing {
		return result{}, errBusy // and the state of its transaction is not known
	}
	wasIdle, wasClean := pc.PgConn().TxStatus() == idle, !c.dirty
	if c.tx != nil && (c.tx.ended || wasIdle && c.tx.begun) {
		return result{}, c.tx.over()
	}
	if c.explains(q) {
		return result{}, errSignedExplain
	}
	c.classify(q)
	if q.autocommit = wasIdle && c.canAutocommit(q); q.autocommit {
		q.origin.Autocommitted = true
	}
	if q.said = saidOf(ctx, q.scope); q.commits {
		q.said = saidOfCall(ctx, q.scope, q.sql)
	}
	if err := c.ready(ctx, pc, q); err != nil {
		return result{}, err
	}
	if err := q.scope.checkEncoding(pc.PgConn()); err != nil {
		return result{}, err
	}
	q.block = c.opensBlock(pc, q)
	q.reaches = q.block || c.cfg.Citus && !q.commits && (c.tx != nil && !q.autocommit || !clean(pc))
	if q.proof, err = c.proofOf(ctx, pc, q.scope); err != nil {
		return result{}, err
	}
	if q.sets, err = c.settingsOf(ctx, q.scope); err != nil {
		return result{}, err
	}
	q.aborted = aborted(pc)
	a, err = c.sendOnce(ctx, pc, q)
	if wasClean && isRowSecurityOff(err) && q.class == query && !maySeveral(q.sql) {
		err = errUnclean
	}
	if c.shouldResend(q, err) && wasIdle {
		a, err = c.resend(ctx, pc, q, err)
	}
	if errors.Is(err, errUnclean) {
		c.unusable = true
	}
	if err != nil && c.tx != nil && (c.tx.begun && pc.PgConn().TxStatus() == idle || pc.IsClosed()) {
		// SQL text that cannot be parsed fails together with the BEGIN before it, and so does a write that fails.
		c.tx.failed = true
	}
	c.noteError(err)
	return a, procedureError(q, preparedError(err))
}

// canAutocommit reports whether a statement can be sent without the BEGIN of its transaction, and so without a COMMIT.
// PostgreSQL runs what comes before one Sync as a transaction anyway. The transaction must be the one that GORM has begun for
// this statement, with nothing sent in it so far; the origin knows whether a statement can follow.
func (c *conn) canAutocommit(q *call) bool {
	o := q.origin
	return c.tx != nil && c.tx.begin == defaultBegin && !c.tx.begun && !c.tx.failed && !c.dirty &&
		q.class == query && q.plain && o != nil && o.CanAutocommit != nil && !o.Autocommitted && OriginOf(c.tx.ctx) == o && o.CanAutocommit()
}

// shouldResend reports whether a statement that failed before it ran may succeed when it is sent again.
func (c *conn) shouldResend(q *call, err error) bool {
	return errors.Is(err, errUnclean) || c.invalidateAfter(q, err)
}

// resend sends a statement again that did not run: the session was not clean, or the server did not know the prepared statement
// any more, or only as it was before a migration. A transaction that was begun for it is begun again.
func (c *conn) resend(ctx context.Context, pc *pgx.Conn, q *call, why error) (result, error) {
	if err := c.finishPending(ctx, pc); err != nil {
		return result{}, err
	}
	if err := c.restartTx(ctx, pc); err != nil {
		return result{}, err
	}
	if errors.Is(why, errUnclean) {
		if err := c.clean(ctx, pc, c.checked); err != nil {
			return result{}, err
		}
		c.temporary, c.corrects = true, correctAll // behind a pooler, another connection of the server may have been cleaned
	}
	return c.sendOnce(ctx, pc, q)
}

// ready does what must be done in a round trip of its own before the statement can be sent, which is rarely needed.
func (c *conn) ready(ctx context.Context, pc *pgx.Conn, q *call) error {
	if err := c.finishPending(ctx, pc); err != nil {
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
		return c.setProcedureScope(ctx, pc, q)
	}
	switch first := !c.checked && !c.dirty; {
	case first && c.baseline.differs(pc.PgConn()), // changed by a user of the pool without the guard
		first && q.class == control && maySeveral(q.sql):
		return c.clean(ctx, pc, false)
	case c.dirty && c.servedTenant != q.scope.tenant && !clean(pc):
		// SQL of the caller has begun a transaction on a held connection. A cleaning in it would be undone by its ROLLBACK.
		return errForeignTx
	case c.dirty && c.servedTenant != q.scope.tenant:
		// The holder of a connection continues for another tenant. It keeps its locks, which other tenants cannot notice.
		return c.clean(ctx, pc, true)
	}
	return nil
}

// setProcedureScope sets the scope of a CALL that may commit, in a round trip of its own: from version 18 on, PostgreSQL lets no
// CALL commit that is sent together with another statement.
func (c *conn) setProcedureScope(ctx context.Context, pc *pgx.Conn, q *call) error {
	said := q.said
	if said == nil {
		said = []byte{} // of an earlier CALL of the same holder
	}
	c.saidLasts = q.said != nil
	_, err := pc.PgConn().ExecParams(ctx, c.pool.scopeSQL.procedure, [][]byte{said}, nil, nil, nil).Close()
	return err
}

func (c *conn) sendOnce(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	if c.cfg.extended() && c.mode == pgx.QueryExecModeSimpleProtocol {
		return result{}, c.cfg.simpleError()
	}
	if q.mode == pgx.QueryExecModeSimpleProtocol {
		if len(q.args) > 0 {
			return c.sendInterpolated(ctx, pc, q)
		}
		return c.sendText(ctx, pc, q)
	}
	return c.sendExtended(ctx, pc, q)
}

// noteSent updates what the guard knows when a statement is sent.
func (c *conn) noteSent(q *call) {
	c.servedTenant = q.scope.tenant
	if q.stateless {
		// A statement that fails may have drawn a number, too, and so may a trigger of an UPDATE.
		c.sequences = c.sequences || q.class == query && !q.selects()
		return
	}
	c.dirty = true
	if q.plain {
		return
	}
	c.named = true
	c.namedRole = c.namedRole || namesRole(q.sql)
	clear(c.proved)
}

// wraps reports whether the statement is sent between BEGIN and COMMIT, in which no CALL and no DO can commit.
func (c *conn) wraps(q *call) bool {
	return q.class == utility && c.tx == nil && !q.commits && !q.block && q.mode != pgx.QueryExecModeSimpleProtocol
}

// cleansBehind reports whether the cleaning is sent behind the statement: the statement may change the session, and its
// connection is free afterwards.
func (c *conn) cleansBehind(q *call) bool {
	return !q.stateless && (c.tx == nil || q.autocommit && !c.tx.held) && !q.held && (!c.wraps(q) || c.cfg.signs())
}

// finishPending reads or ends what an earlier statement has left unfinished.
func (c *conn) finishPending(ctx context.Context, pc *pgx.Conn) error {
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

// sendExtended uses PostgreSQL's extended protocol: everything before one Sync is one transaction
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING). A CALL or DO could end it, unless a
// BEGIN is sent before.
func (c *conn) sendExtended(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	st, err := c.describe(ctx, pc, q)
	if err != nil {
		return result{}, err
	}
	q.statement = st

	// All arguments are encoded before anything is queued, so that a value that does not fit sends nothing.
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
	if len(c.eqb.ParamValues) > math.MaxUint16 { // PostgreSQL counts them in 16 bits
		return result{}, fmt.Errorf("extended protocol limited to %d parameters", math.MaxUint16)
	}

	if err := c.stillHere(ctx, q.scope); err != nil {
		return result{}, err
	}
	var buf [maxSteps]step
	steps := c.steps(pc, q, buf[:0])
	wrapped := c.wraps(q)
	if wrapped {
		steps = slices.Insert(steps, 0, step{kind: stepBegin, sql: "begin"})
		c.wrapped = true
	}
	if q.block {
		steps = slices.Insert(steps, 0, beginBlock(q.scope))
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
	if q.block {
		return c.sendBlock(ctx, pc, q, m, prefix{steps: steps})
	}
	c.noteSent(q)
	results, err := m.send(ctx)
	if err != nil {
		return result{}, err
	}
	if err := c.skip(pc, results, prefix{steps: steps}); err != nil {
		return result{}, err
	}
	return firstResult(pc, results, 0)
}

// sendText uses the simple protocol: a message of SQL text is one transaction, however many statements it holds
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT).
func (c *conn) sendText(ctx context.Context, pc *pgx.Conn, q *call) (result, error) {
	if err := c.stillHere(ctx, q.scope); err != nil {
		return result{}, err
	}
	var buf [maxSteps]step
	before := textPrefix(c.steps(pc, q, buf[:0]), sqltext.Literal(q.scope.tenant))
	shift := before.width()
	behind := c.cleansBehind(q)
	c.noteSent(q)
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
		c.dirty, c.named = true, true
		a, _, err = c.lastResult(q, pc.PgConn().Exec(ctx, q.sql), 0)
	}
	return a, err
}

// needsNoTransaction reports whether PostgreSQL refused a statement because it cannot run in a transaction, and the guard may
// send it without one. Such statements (VACUUM, CREATE INDEX CONCURRENTLY, CREATE DATABASE) return no rows, so they need no
// policy. They must run for no tenant and as the login, because nothing sets a role for them.
//
// PostgreSQL's error names the C function that refused, and where it was called from. Code in SQL that raises the same error, or
// executes such a statement, cannot forge that.
func (c *conn) needsNoTransaction(q *call, err error) bool {
	const inTransaction = "25001"
	return c.tx == nil && q.scope.isWithoutTenant() && c.cfg.roleOf(q.scope) == "" && isFromServer(err, inTransaction, "PreventInTransactionBlock")
}

// sendAlone sends a statement that PostgreSQL runs in no transaction, in a message of its own.
func (c *conn) sendAlone(ctx context.Context, pc *pgx.Conn, q *call) (tag pgconn.CommandTag, err error) {
	if err := c.finishPending(ctx, pc); err != nil {
		return tag, err
	}
	c.dirty, c.named = true, true
	a, _, err := c.lastResult(q, pc.PgConn().Exec(ctx, q.sql), 0)
	if err != nil {
		return tag, err
	}
	return a.CommandTag(), nil
}

// skip reads the results of what was sent before the statement.
func (c *conn) skip(pc *pgx.Conn, results *pgconn.MultiResultReader, before prefix) error {
	for i, s := range before.steps {
		var err error
		var rows [][2]string
		if results.NextResult() {
			r := results.ResultReader()
			switch {
			case s.kind == stepBaseline || s.kind == stepProof:
				rows = readSettings(r)
			case s.setsTenant() && r.NextRow() && !s.isAnswer(r.Values()): // an error has no row
				return c.foreignAnswer(pc)
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

// foreignAnswer closes a connection on which the answer to another tenant's statement has come. The rows that follow are not read.
func (c *conn) foreignAnswer(pc *pgx.Conn) error {
	c.unusable = true
	_ = pc.PgConn().Conn().Close()
	return errForeignAnswer
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
