package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// tx is an explicit transaction. It belongs to the tenant it was begun for. BEGIN is sent with the first statement, so that a
// transaction without statements costs nothing.
type tx struct {
	conn  *conn
	ctx   context.Context
	scope scope // if it is that of WithoutTenant, the next statement may still name a tenant
	begin string
	begun bool

	decided bool // a context has said which tenant it is for, or that it is for none

	held   bool // on the connection of a *sql.Conn
	failed bool // a statement has failed in such a way that the server has no transaction
	ended  bool // SQL of the caller has ended it, and may have begun another

	mark   []byte // the value of txSetting in this transaction, once SQL of the caller runs in it
	marked bool   // txSetting has that value

	settings bool // the tenant's settings were set in it
}

var txMarks atomic.Uint64

// ownMark returns the transaction's mark, which is unique in this process.
func (t *tx) ownMark() []byte {
	if t.mark == nil {
		t.mark = strconv.AppendUint(nil, txMarks.Add(1), 10)
	}
	return t.mark
}

// rollbackTimeout bounds how long a broken network can hold a transaction that is rolled back.
const rollbackTimeout = 5 * time.Second

// Begin is BeginTx without a context, and so without a tenant.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx sends nothing yet.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	s, decided, err := c.beginScope(ctx)
	if err != nil {
		return nil, c.cfg.OnBegin.refused(ctx, err)
	}
	begin, err := beginSQL(opts, s.readOnly())
	if err != nil {
		return nil, err
	}
	if c.state != nil && c.state.conn.IsClosed() {
		return nil, driver.ErrBadConn
	}
	c.tx = &tx{conn: c, ctx: ctx, scope: s, decided: decided, begin: begin, held: isHeld(nearCallers)}
	return c.tx, nil
}

// defaultBegin begins a transaction without options.
const defaultBegin = "begin"

// beginSQL writes the options as pgx's stdlib does.
func beginSQL(opts driver.TxOptions, readOnly bool) (string, error) {
	begin := defaultBegin
	switch level := sql.IsolationLevel(opts.Isolation); level {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted:
		begin += " isolation level read uncommitted"
	case sql.LevelReadCommitted:
		begin += " isolation level read committed"
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		begin += " isolation level repeatable read"
	case sql.LevelSerializable:
		begin += " isolation level serializable"
	default:
		return "", fmt.Errorf("unsupported isolation: %v", level)
	}
	if opts.ReadOnly || readOnly {
		begin += " read only"
	}
	return begin, nil
}

// beginSQL is the SQL that has begun the transaction, or will begin it. It is "" for nil.
func (t *tx) beginSQL() string {
	if t == nil {
		return ""
	}
	return t.begin
}

// beginSQL is the SQL that begins the transaction under way on the server, or "" if there is nothing to begin.
func (c *conn) beginSQL() string {
	if c.tx == nil || c.tx.begun {
		return ""
	}
	return c.tx.begin
}

// restartTx rolls back a transaction whose first statement did not run, so that it is begun again.
func (c *conn) restartTx(ctx context.Context, pc *pgx.Conn) error {
	if c.tx == nil || !c.tx.begun {
		return nil
	}
	c.tx.begun, c.tx.marked, c.tx.settings = false, false, false
	return pc.PgConn().Exec(ctx, "rollback").Close()
}

// over returns why the transaction takes no more statements, though the server has not aborted it.
func (t *tx) over() error {
	if t.failed && !t.ended {
		return errTxFailed
	}
	return errTxEnded
}

// Commit commits what was sent, if anything was.
func (t *tx) Commit() error {
	c := t.conn
	defer func() { c.tx = nil }()
	switch {
	case !t.begun && t.failed: // the connection was lost before the first statement
		return pgconn.ErrConnClosed
	case !t.begun:
		return nil
	}
	return c.use(func(pc *pgx.Conn) error {
		switch {
		case pc.PgConn().TxStatus() == 'I' && !pc.IsClosed():
			if t.failed {
				return pgx.ErrTxCommitRollback
			}
			return errTxEnded
		case t.ended:
			return errors.Join(errTxEnded, t.rollback(pc)) // the transaction that SQL of the caller has begun
		}
		tag, err := t.end(t.ctx, pc, "commit")
		if err == nil && tag.String() == "ROLLBACK" {
			return pgx.ErrTxCommitRollback // a statement had failed before
		}
		return err
	})
}

// Rollback rolls the transaction back. It ignores the end of the transaction's context: a cancelled request is the most usual
// reason to roll back, and must not cost the connection.
func (t *tx) Rollback() error {
	c := t.conn
	defer func() { c.tx = nil }()
	if !t.begun {
		return nil
	}
	return c.use(t.rollback)
}

func (t *tx) rollback(pc *pgx.Conn) error {
	if pc.IsClosed() {
		return nil // the server rolls back when a connection is lost
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTimeout)
	defer cancel()
	_, err := t.end(ctx, pc, "rollback")
	if err != nil {
		_ = pc.Close(ctx) // its state is not known
	}
	return err
}

// end sends a COMMIT or ROLLBACK. If SQL of the caller has run in the transaction, it sends more.
func (t *tx) end(ctx context.Context, pc *pgx.Conn, command string) (pgconn.CommandTag, error) {
	clear(t.conn.proved) // SET LOCAL and some temporary tables end with the transaction
	c := t.conn
	forgets := !t.held && c.sequences && command == "commit"
	asserts := c.dirty || command == "commit" && c.proofExpires()
	if !asserts && !forgets {
		return pc.Exec(ctx, command)
	}
	if tracer := c.tracer; tracer != nil {
		ctx = tracer.TraceQueryStart(ctx, pc, pgx.TraceQueryStartData{SQL: command})
	}
	var tag pgconn.CommandTag
	var err error
	if asserts {
		tag, err = t.endDirty(ctx, pc, command)
	} else {
		tag, err = t.endForgetting(ctx, pc, command)
	}
	if tracer := c.tracer; tracer != nil {
		tracer.TraceQueryEnd(ctx, pc, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
	}
	return tag, err
}

// endForgetting also discards what lastval and currval return. It costs less here than before an insert of the next user.
func (t *tx) endForgetting(ctx context.Context, pc *pgx.Conn, command string) (tag pgconn.CommandTag, err error) {
	c := t.conn
	results := c.runAll(ctx, pc, []string{command, "discard sequences"})
	if results.NextResult() {
		tag, _ = results.ResultReader().Close() // its error is the one of results
	}
	if err = results.Close(); err == nil {
		c.sequences = false
	}
	return tag, err
}

// endDirty sets the scope again before a commit. Deferred triggers run now, and must not run for a tenant that SQL of the caller
// has set; and the transaction that is committed must be the one that was begun. Behind it the session is cleaned, unless its
// holder may continue.
func (t *tx) endDirty(ctx context.Context, pc *pgx.Conn, command string) (tag pgconn.CommandTag, err error) {
	c := t.conn
	if c.cfg.extended() {
		return t.endExtended(ctx, pc, command)
	}
	var before prefix
	if command == "commit" && !aborted(pc) {
		if err := t.scope.checkEncoding(pc.PgConn()); err != nil {
			return tag, errors.Join(err, t.rollback(pc))
		}
		steps := c.scopeSteps(&call{scope: t.scope, class: query, stateless: true}, nil)
		before = textPrefix(steps, sqltext.Literal(t.scope.tenant))
	}
	text := pgproto3.Query{String: before.text + command}
	var results *pgconn.MultiResultReader
	if t.held {
		results = pc.PgConn().Exec(ctx, text.String)
	} else if results, err = c.sendBefore(ctx, pc, func(f *pgproto3.Frontend) { f.SendQuery(&text) }); err != nil {
		return tag, err
	}
	return t.ending(pc, results, before)
}

// endExtended does the same in the extended protocol, in which the scope has its proof, and reaches Citus's workers.
func (t *tx) endExtended(ctx context.Context, pc *pgx.Conn, command string) (tag pgconn.CommandTag, err error) {
	c := t.conn
	var before prefix
	if scoped := command == "commit" && !aborted(pc); scoped {
		q := call{scope: t.scope, class: query, stateless: true, reaches: c.cfg.Citus}
		if err = t.scope.checkEncoding(pc.PgConn()); err == nil {
			q.proof, err = c.proofOf(ctx, pc, t.scope)
		}
		if err != nil {
			return tag, errors.Join(err, t.rollback(pc))
		}
		before.steps = c.scopeSteps(&q, nil)
	}
	m := message{conn: c, pc: pc}
	if t.held {
		m.batch = &pgconn.Batch{}
	}
	for _, s := range before.steps {
		m.add(nil, s.command(&call{scope: t.scope}), s.params, nil, nil, nil)
	}
	m.add(nil, command, nil, nil, nil, nil)
	results, err := m.send(ctx)
	if err != nil {
		return tag, err
	}
	return t.ending(pc, results, before)
}

// ending reads the results of what ends a transaction.
func (t *tx) ending(pc *pgx.Conn, results *pgconn.MultiResultReader, before prefix) (tag pgconn.CommandTag, err error) {
	c := t.conn
	if err := c.skip(pc, results, before); err != nil {
		return tag, t.undo(pc, err)
	}
	if results.NextResult() {
		tag, _ = results.ResultReader().Close() // its error is the one of results
	}
	if err := results.Close(); err != nil {
		c.noteError(err)
		return tag, t.undo(pc, err)
	}
	return tag, nil
}

// undo rolls back what is left of a transaction that could not be committed, and behind which the session was therefore not
// cleaned.
func (t *tx) undo(pc *pgx.Conn, err error) error {
	c := t.conn
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTimeout)
	defer cancel()
	c.wrapped = true
	if c.finishPending(ctx, pc) != nil {
		_ = pc.Close(ctx)
	}
	return err
}
