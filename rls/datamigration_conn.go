package rls

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"

	"gorm.io/gorm"
)

// errEnded is the error of a data migration whose transaction is over before its time.
var errEnded = fmt.Errorf("%w: the transaction was ended by a statement, and what was done in it may have been kept", ErrRowsHidden)

// holds returns an error if the transaction is over, or its role has changed.
func (t *dataTransaction) holds() error {
	var same, role bool
	const query = `SELECT coalesce(pg_catalog.current_setting('tenancy.data_migration', true), '') = $1,
		pg_catalog.current_setting('role') = $2 AND pg_catalog.current_setting('row_security') = $3`
	err := t.conn.QueryRowContext(t.ctx, query, t.token, t.role, t.security).Scan(&same, &role)
	switch {
	case errors.Is(err, sql.ErrTxDone):
		return errEnded
	case err != nil:
		return err
	case !same:
		return errEnded
	case !role:
		return fmt.Errorf("%w: a statement has changed the role or row_security of the transaction: use AsOwner for what only the owner may do",
			ErrRowsHidden)
	}
	return nil
}

// call calls fn with the transaction.
func (t *dataTransaction) call(fn func(tx *gorm.DB) error) error {
	conn := &dataConn{ConnPool: t.conn, t: t}
	tx := t.tx.WithContext(t.ctx)
	tx.Statement.ConnPool = conn
	err := fn(tx.Session(&gorm.Session{NewDB: true}))
	switch {
	case conn.err != nil:
		return conn.err // also where fn has not returned it
	case err != nil:
		return err
	case conn.statements == 0:
		return fmt.Errorf("%w: the function has sent no statement through its transaction: another *gorm.DB does not see them", ErrRowsHidden)
	}
	return t.holds() // before anything else is written in the name of what fn has done
}

// dataConn is the pool of a data migration's transaction. Before each statement it ensures that the one before has changed neither the
// role nor the transaction.
type dataConn struct {
	gorm.ConnPool
	t          *dataTransaction
	statements int
	err        error // the first refusal
}

var _ gorm.TxCommitter = (*dataConn)(nil)

// These match a text that may take another role and come back, between two looks.
var (
	several  = regexp.MustCompile(`;\s*\S`)
	otherOne = regexp.MustCompile(`(?i)\b(role|authorization)\b`)
)

func (c *dataConn) before(query string) error {
	if c.err != nil {
		return c.err
	}
	c.statements++
	if several.MatchString(query) && otherOne.MatchString(query) {
		c.err = fmt.Errorf("%w: a text of several statements names a role, and might leave that of the transaction: send them one by one", ErrRowsHidden)
		return c.err
	}
	c.err = c.t.holds()
	return c.err
}

// PrepareContext prepares a statement.
func (c *dataConn) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := c.before(query); err != nil {
		return nil, err
	}
	return c.ConnPool.PrepareContext(ctx, query)
}

// ExecContext runs a statement.
func (c *dataConn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := c.before(query); err != nil {
		return nil, err
	}
	return c.ConnPool.ExecContext(ctx, query, args...)
}

// QueryContext runs a query.
func (c *dataConn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := c.before(query); err != nil {
		return nil, err
	}
	return c.ConnPool.QueryContext(ctx, query, args...)
}

// QueryRowContext runs a query for one row. A refused one is not sent, and its Scan returns context.Canceled.
func (c *dataConn) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if c.before(query) != nil {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		ctx = canceled
	}
	return c.ConnPool.QueryRowContext(ctx, query, args...)
}

// Commit is refused, as Rollback is.
func (c *dataConn) Commit() error {
	return errors.New("tenancy: DataMigration ends the transaction itself")
}

// Rollback undoes nothing: the error that fn returns does.
func (c *dataConn) Rollback() error {
	return errors.New("tenancy: DataMigration ends the transaction itself: return an error, and nothing of it is kept")
}
