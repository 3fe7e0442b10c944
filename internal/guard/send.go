package guard

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// answer is what the server sends back for one statement: its rows, and after them, up to ReadyForQuery, the outcome
// of the transaction that the statement was alone in.
type answer struct {
	pgx.Rows
	rest  interface{ Close() error }
	shift int32 // how far text before the statement moved the positions in error messages
}

// close reads what is left and returns the command tag, or the first error.
func (a *answer) close() (pgconn.CommandTag, error) {
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
func (c *conn) send(ctx context.Context, pc *pgx.Conn, q *call) (answer, error) {
	const idle = 'I'
	wasIdle := pc.PgConn().TxStatus() == idle
	if wasIdle && c.tx != nil && c.tx.begun {
		return answer{}, c.tx.over()
	}
	if err := q.scope.checkEncoding(pc.PgConn()); err != nil {
		return answer{}, err
	}
	a, err := c.sendOnce(ctx, pc, q)
	if c.forgetAfter(q, err) && wasIdle {
		// The server knew the statement no longer, or only in a form from before a migration, and did nothing. It is
		// prepared and sent again, unless a transaction has been lost by this.
		if err := c.restartTx(ctx, pc); err != nil {
			return answer{}, err
		}
		a, err = c.sendOnce(ctx, pc, q)
	}
	if err != nil && c.tx != nil && (c.tx.begun && pc.PgConn().TxStatus() == idle || pc.IsClosed()) {
		// SQL text that can't be parsed takes the BEGIN before it along, and so does a connection that takes no byte.
		c.tx.failed = true
	}
	return a, preparedError(err)
}

func (c *conn) sendOnce(ctx context.Context, pc *pgx.Conn, q *call) (answer, error) {
	if q.mode == pgx.QueryExecModeSimpleProtocol {
		if len(q.args) > 0 {
			return c.sendInterpolated(ctx, pc, q)
		}
		return c.sendText(ctx, pc, q)
	}
	return c.sendExtended(ctx, pc, q)
}

// sendExtended uses PostgreSQL's extended protocol: all that comes before one Sync is one transaction
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
func (c *conn) sendExtended(ctx context.Context, pc *pgx.Conn, q *call) (answer, error) {
	st, err := c.describe(ctx, pc, q)
	if err != nil {
		return answer{}, err
	}
	q.statement = st

	// All arguments are encoded before anything is queued, so that a value that does not fit costs nothing.
	var sd *pgconn.StatementDescription
	if st != nil {
		sd = st.StatementDescription
		if len(sd.ParamOIDs) != len(q.args) {
			return answer{}, fmt.Errorf("expected %d arguments, got %d", len(sd.ParamOIDs), len(q.args))
		}
	}
	if err := c.eqb.Build(pc.TypeMap(), sd, q.args); err != nil {
		return answer{}, err
	}

	batch := &pgconn.Batch{}
	before := prefix{}
	if begin := c.beginSQL(); begin != "" {
		batch.ExecParams(begin, nil, nil, nil, nil)
		before.begins = 1
	}
	if !aborted(pc) {
		params := c.cfg.assertionParams(q.scope)
		if known := c.assertions[assertion(q.scope)]; known != nil && q.mode == pgx.QueryExecModeCacheStatement {
			batch.ExecStatement(known.StatementDescription, params, nil, nil)
		} else {
			batch.ExecParams(assertion(q.scope), params, nil, nil, nil)
		}
		before.asserts = 1
	}
	switch q.mode {
	case pgx.QueryExecModeCacheStatement:
		batch.ExecStatement(sd, c.eqb.ParamValues, c.eqb.ParamFormats, q.resultFormats(st))
	case pgx.QueryExecModeExec:
		batch.ExecParams(q.sql, c.eqb.ParamValues, nil, c.eqb.ParamFormats, nil)
	default:
		batch.ExecParams(q.sql, c.eqb.ParamValues, sd.ParamOIDs, c.eqb.ParamFormats, q.resultFormats(st))
	}

	results := pc.PgConn().ExecBatch(ctx, batch)
	if err := c.skip(results, before); err != nil {
		return answer{}, err
	}
	return firstResult(pc, results, 0)
}

// sendText uses the simple protocol: a message of SQL text is one transaction, whatever number of statements it holds
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT).
func (c *conn) sendText(ctx context.Context, pc *pgx.Conn, q *call) (answer, error) {
	before := c.textBefore(pc, q, sqltext.Literal(q.scope.tenant))
	shift := before.width()
	results := pc.PgConn().Exec(ctx, before.text+q.sql)
	if err := c.skip(results, before); err != nil {
		return answer{}, shifted(err, shift)
	}
	if !q.exec {
		return firstResult(pc, results, shift)
	}
	a, err := c.lastResult(results, shift)
	if c.needsNoTransaction(q, err) {
		return c.lastResult(pc.PgConn().Exec(ctx, q.sql), 0)
	}
	return a, err
}

// needsNoTransaction tells whether PostgreSQL refused a statement because it can't run in a transaction, and it may run
// without. Such statements (VACUUM, CREATE INDEX CONCURRENTLY, CREATE DATABASE and their like) return no rows, so no
// policy is needed for them. Whoever sends one works for no tenant, and as the login: nothing sets a role for it.
//
// PostgreSQL names the function that refused, which code in SQL that raises the same error can't forge.
func (c *conn) needsNoTransaction(q *call, err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "25001" && pgErr.Routine == "PreventInTransactionBlock" &&
		c.tx == nil && q.scope == scope{} && c.cfg.Role == ""
}

// sendInterpolated is sendText for a statement with arguments, which pgx writes into the text. It writes the tenant's
// id too, for a tracer of batches sees the text.
func (c *conn) sendInterpolated(ctx context.Context, pc *pgx.Conn, q *call) (answer, error) {
	const (
		placeholder = "$1"
		separator   = 2 // characters, by which pgx joins the parts of a batch
	)
	before := c.textBefore(pc, q, placeholder)
	shift := before.width() + separator
	batch := &pgx.Batch{}
	if before.asserts > 0 {
		shift += interpolatedWidth(q.scope.tenant) - int32(len(placeholder))
		batch.Queue(before.text, hidden{q.scope.tenant})
	} else {
		batch.Queue(before.text)
	}
	batch.Queue(q.sql, q.args...)
	results := pc.SendBatch(ctx, batch)
	for i := range before.statements() {
		if _, err := results.Exec(); err != nil {
			if sqlState(err) == "" && !pc.IsClosed() {
				_ = results.Close()
				return answer{}, err // an argument can't be written into text: nothing was sent
			}
			return answer{}, shifted(c.failed(err, before, i, results), shift)
		}
	}
	c.began()
	rows, err := results.Query()
	if err != nil {
		_ = results.Close()
		return answer{}, shifted(err, shift)
	}
	return answer{Rows: rows, rest: results, shift: shift}, nil
}

// prefix is what travels before a statement.
type prefix struct {
	text            string // in the simple protocol
	begins, asserts int    // the number of statements that begin a transaction, and that set the scope
}

func (p prefix) statements() int { return p.begins + p.asserts }

// width is by how much the text moves positions in what follows it. PostgreSQL counts characters, in 32 bits.
func (p prefix) width() int32 { return int32(utf8.RuneCountInString(p.text)) } //nolint:gosec // as said

// textBefore is the prefix of SQL text, with the tenant's id as it is to stand there.
func (c *conn) textBefore(pc *pgx.Conn, q *call, tenant string) (p prefix) {
	if begin := c.beginSQL(); begin != "" {
		p.text, p.begins = begin+"; ", 1
	}
	if !aborted(pc) {
		var text string
		text, p.asserts = c.cfg.assertionText(q.scope, tenant)
		p.text += text
	}
	return p
}

// aborted reports a transaction that failed. The server then takes nothing but its end or a ROLLBACK TO SAVEPOINT,
// which would not get through behind an assertion.
func aborted(pc *pgx.Conn) bool { return pc.PgConn().TxStatus() == 'E' }

// skip reads the results of what went before the statement.
func (c *conn) skip(results *pgconn.MultiResultReader, before prefix) error {
	for i := range before.statements() {
		var err error
		if results.NextResult() {
			_, err = results.ResultReader().Close()
		} else {
			err = results.Close()
		}
		if err != nil {
			return c.failed(err, before, i, results)
		}
	}
	c.began()
	return nil
}

// began notes that the transaction under way has begun on the server.
func (c *conn) began() {
	if c.tx != nil {
		c.tx.begun = true
	}
}

// failed closes the results after the n-th statement of a prefix has failed, and explains the error if that statement
// was to set the scope.
func (c *conn) failed(err error, before prefix, n int, results interface{ Close() error }) error {
	if !sentNothing(err) {
		c.began()
	}
	_ = results.Close()
	if n >= before.begins {
		return roleError(c.cfg.Role, c.login, err)
	}
	return err
}

// firstResult answers with the first of the results: that of a query.
func firstResult(pc *pgx.Conn, results *pgconn.MultiResultReader, shift int32) (answer, error) {
	if !results.NextResult() {
		if err := results.Close(); err != nil {
			return answer{}, shifted(err, shift)
		}
		return answer{Rows: noRows{}, rest: results}, nil // empty SQL
	}
	return answer{Rows: pgx.RowsFromResultReader(pc.TypeMap(), results.ResultReader()), rest: results, shift: shift}, nil
}

// lastResult reads all results and answers with the last: that of SQL text with several statements.
func (c *conn) lastResult(results *pgconn.MultiResultReader, shift int32) (answer, error) {
	a := answer{Rows: noRows{}, rest: results, shift: shift}
	for results.NextResult() {
		tag, _ := results.ResultReader().Close() // its error is the one of results
		a.Rows = noRows{tag: tag}
		c.forgetDropped(tag)
	}
	if err := results.Close(); err != nil {
		return answer{}, shifted(err, shift)
	}
	return a, nil
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
