package guard

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// On Citus the rows are on workers, and each worker applies the policies to its own. The coordinator tells the workers no more of the
// session than SET LOCAL within a transaction block, and only where citus.propagate_set_commands says so
// (https://docs.citusdata.com/en/stable/develop/api_guc.html#citus-propagate-set-commands-enum): set_config never reaches them. So each
// statement is sent in a block, in one write:
//
//	begin
//	SELECT …set_config…                               checks the session of the coordinator, and sets the tenant there
//	SET LOCAL citus.propagate_set_commands = 'local'
//	SET LOCAL app.tenant_id = 'acme'
//	the statement
//	Sync
//	commit
//
// COMMIT stands behind the Sync because PostgreSQL passes over what stands before it once the statement has failed: the block would be open,
// and its end a round trip more. In a transaction of the application each statement has the same before it, so that a worker on which SQL
// of the caller has set another tenant has the right one again.
//
// The coordinator passes on the whole text in which a SET LOCAL stands. So each message has one statement.

const propagateSQL = `SET LOCAL citus.propagate_set_commands = 'local'`

// roleMark is the name of a setting that does not exist: see uncleanMark.
const roleMark = "tenancy.role_was_set_by_sql"

var (
	errCitusText = errors.New("tenancy: a connection in pgx's mode simple_protocol sends several statements in one text, which Citus passes on " +
		"to its workers as a whole: use another QueryExecMode")
	errCitusSeveral = errors.New("tenancy: with the engine Citus, SQL text with several statements is refused: send each statement by itself")
	errRoleTaken    = errors.New("tenancy: SQL has set another role in the transaction, which the workers of Citus would keep: set none there")
)

// extended reports whether statements must take the extended protocol, in which a message has one statement.
func (cfg *Config) extended() bool { return cfg.signs() || cfg.Citus }

// simpleError says why pgx's mode simple_protocol cannot be used.
func (cfg *Config) simpleError() error {
	if cfg.Citus {
		return errCitusText
	}
	return errSignedText
}

// foreignRoleSQL raises an error if the role is neither the pool's, a string constant, nor the login's: it may be exempt from policies, and
// what the workers know of it is not what the coordinator knows.
func foreignRoleSQL(role string) string {
	return ` WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) ` + role +
		` AND pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) '` + noRole + `' THEN pg_catalog.current_setting('` + roleMark + `')`
}

// opensBlock reports whether a statement is sent between BEGIN and COMMIT: it is in no transaction that has begun on the server. Statements
// about the session and the transaction use no rows, and a BEGIN in SQL of a connection's holder must not be committed.
func (c *conn) opensBlock(pc *pgx.Conn, q *call) bool {
	return c.cfg.Citus && clean(pc) && (c.tx == nil || q.autocommit) && q.class != control && !q.commits
}

// beginBlock begins the block of a statement.
func beginBlock(s scope) step {
	if s.readOnly() {
		return step{kind: stepBlock, sql: "begin read only"}
	}
	return step{kind: stepBlock, sql: "begin"}
}

// reachSteps set for the workers what the SELECT before has set on the coordinator. A role is set where the workers may know another: they
// are connected to as the role of the coordinator, and only a SET LOCAL ROLE in SQL of the caller changes it there.
func (c *conn) reachSteps(q *call, into []step) []step {
	if !q.reaches {
		return into
	}
	texts := c.scopeSQLOf(q.scope)
	into = append(into, step{kind: stepReach, sql: propagateSQL}, step{kind: stepReach, sql: texts.control, tenant: true})
	if role := c.cfg.roleOf(q.scope); role != "" || c.dirty {
		into = append(into, step{kind: stepReach, sql: texts.role, role: role})
	}
	return into
}

// sendBlock sends a statement, the COMMIT of its block and what cleans the session, in one write.
func (c *conn) sendBlock(ctx context.Context, pc *pgx.Conn, q *call, m message, before prefix) (result, error) {
	pg := pc.PgConn()
	if err := ctx.Err(); err != nil {
		return result{}, err
	}
	if pg.IsClosed() || pg.IsBusy() {
		return result{}, pgconn.ErrConnClosed
	}
	texts := []string{"commit"}
	if c.cleansBehind(q) {
		cleaning := c.cleanSQL(false)
		c.cleaning, c.partly, c.awaited = true, c.baseline == nil, len(cleaning)
		texts = append(texts, cleaning...)
	}
	c.noteSent(q)
	c.committing = true
	m.queue(pg.Frontend())
	results := execBehind(ctx, pg, texts)

	err := c.skip(pc, results, before)
	var a result
	if err == nil {
		a, err = firstResult(pc, results, 0)
	}
	if err != nil {
		if _, broken := c.readCommit(ctx, pc); isBroken(broken) {
			err = errors.Join(err, broken)
		}
		return result{}, err
	}
	a.rest = block{c, pc, ctx, results}
	return a, nil
}

// block is what follows the rows of a statement in a block: the rest of its own results, and the outcome of the COMMIT.
type block struct {
	conn    *conn
	pc      *pgx.Conn
	ctx     context.Context //nolint:containedctx // that of the statement
	results *pgconn.MultiResultReader
}

// Close returns the first error. A statement is done when its COMMIT is.
func (b block) Close() error {
	err := b.results.Close()
	tag, commitErr := b.conn.readCommit(b.ctx, b.pc)
	switch {
	case err != nil:
		return err
	case commitErr == nil && tag.String() == "ROLLBACK":
		return pgx.ErrTxCommitRollback
	}
	return commitErr
}

// readCommit reads the outcome of the COMMIT that was sent behind a statement. If the connection breaks, whether PostgreSQL has committed is
// not known, so that the statement must not be sent again.
func (c *conn) readCommit(ctx context.Context, pc *pgx.Conn) (tag pgconn.CommandTag, failure error) {
	if !c.committing {
		return tag, nil
	}
	for {
		msg, err := pc.PgConn().ReceiveMessage(ctx)
		if err != nil {
			c.committing, c.cleaning, c.unusable = false, false, true
			_ = pc.PgConn().Conn().Close()
			return tag, unknownOutcome{err}
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			failure = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.CommandComplete:
			tag = pgconn.NewCommandTag(string(msg.CommandTag))
		case *pgproto3.ReadyForQuery:
			c.committing = false
			return tag, failure
		}
	}
}

// unknownOutcome hides from pgconn.SafeToRetry that nothing was sent when the error came: the statement was sent before.
type unknownOutcome struct{ err error }

func (e unknownOutcome) Error() string {
	return "tenancy: it is not known whether PostgreSQL has committed the statement: " + e.err.Error()
}

// Is reports whether the error is, or wraps, the target.
func (e unknownOutcome) Is(target error) bool { return errors.Is(e.err, target) }

// isBroken reports whether an error of readCommit is one of the connection.
func isBroken(err error) bool {
	var broken unknownOutcome
	return errors.As(err, &broken)
}

// messages returns the texts as they are sent in the simple protocol: on Citus each by itself, otherwise all in one.
func (c *conn) messages(statements []string) []string {
	if c.cfg.Citus {
		return statements
	}
	return []string{joined(statements)}
}

// runAll runs statements of the guard in one round trip.
func (c *conn) runAll(ctx context.Context, pc *pgx.Conn, statements []string) *pgconn.MultiResultReader {
	if !c.cfg.Citus {
		return pc.PgConn().Exec(ctx, joined(statements))
	}
	var batch pgconn.Batch
	for _, sql := range statements {
		batch.ExecParams(sql, nil, nil, nil, nil)
	}
	return pc.PgConn().ExecBatch(ctx, &batch)
}
