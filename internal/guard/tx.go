package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// tx is an explicit transaction. It belongs to the tenant it was begun for. BEGIN travels with the first statement, so
// that a transaction without one costs nothing.
type tx struct {
	conn  *conn
	ctx   context.Context
	scope scope
	begin string
	begun bool

	failed bool // by a statement, in such a way that the server knows of no transaction
}

// rollbackTimeout bounds how long a broken network can hold a transaction that is to be thrown away.
const rollbackTimeout = 5 * time.Second

// Begin is BeginTx without a context, and so without a tenant.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx sends nothing yet.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	s, err := c.scope(ctx)
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
	c.tx = &tx{conn: c, ctx: ctx, scope: s, begin: begin}
	return c.tx, nil
}

// beginSQL writes the options as pgx's stdlib does.
func beginSQL(opts driver.TxOptions, readOnly bool) (string, error) {
	begin := "begin"
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

// beginSQL is what begins the transaction under way on the server, or "" if there is nothing to begin.
func (c *conn) beginSQL() string {
	if c.tx == nil || c.tx.begun {
		return ""
	}
	return c.tx.begin
}

// restartTx throws away what the server has of a transaction whose first statement came to nothing.
func (c *conn) restartTx(ctx context.Context, pc *pgx.Conn) error {
	if c.tx == nil || !c.tx.begun {
		return nil
	}
	c.tx.begun = false
	return pc.PgConn().Exec(ctx, "rollback").Close()
}

// over says why the transaction takes no more statements, though the server has not aborted it.
func (t *tx) over() error {
	if t.failed {
		return errTxFailed
	}
	return errTxEnded
}

// Commit commits what was sent, if anything was.
func (t *tx) Commit() error {
	c := t.conn
	c.tx = nil
	switch {
	case !t.begun && t.failed: // the connection was lost before the first statement
		return pgconn.ErrConnClosed
	case !t.begun:
		return nil
	}
	return c.use(func(pc *pgx.Conn) error {
		if pc.PgConn().TxStatus() == 'I' && !pc.IsClosed() {
			if t.failed {
				return pgx.ErrTxCommitRollback
			}
			return errTxEnded
		}
		tag, err := pc.Exec(t.ctx, "commit")
		if err == nil && tag.String() == "ROLLBACK" {
			return pgx.ErrTxCommitRollback // a statement had failed before
		}
		return err
	})
}

// Rollback throws the transaction away. It does not heed the transaction's context: a cancelled request is the most
// ordinary reason to roll back, and must not cost the connection.
func (t *tx) Rollback() error {
	c := t.conn
	c.tx = nil
	if !t.begun {
		return nil
	}
	return c.use(func(pc *pgx.Conn) error {
		if pc.IsClosed() {
			return nil // the server rolls back when a connection is lost
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTimeout)
		defer cancel()
		_, err := pc.Exec(ctx, "rollback")
		if err != nil {
			_ = pc.Close(ctx) // nobody knows what state it is in
		}
		return err
	})
}
