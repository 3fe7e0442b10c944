package guard

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CopyFrom loads rows by PostgreSQL's COPY protocol, in the transaction under way or in one of its own. PostgreSQL refuses COPY
// FROM into a table under row-level security (https://www.postgresql.org/docs/current/sql-copy.html). So it serves shared
// tables, and all tables if the role bypasses.
func (c *conn) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (n int64, err error) {
	err = c.lend(ctx, "COPY "+table.Sanitize()+" FROM STDIN", func(ctx context.Context, pc *pgx.Conn) (tag pgconn.CommandTag, err error) {
		if n, err = pc.CopyFrom(ctx, table, columns, src); err == nil {
			tag = pgconn.NewCommandTag(fmt.Sprintf("COPY %d", n))
		}
		return tag, err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// WithPgx calls f with pgx's connection below dc, which (*sql.Conn).Raw of a guarded pool hands out. f runs in the transaction
// under way or in one of its own, in which the scope is set. What f does counts as SQL of the caller: the session is cleaned
// after it.
func WithPgx(ctx context.Context, dc any, f func(*pgx.Conn) error) error {
	c, ok := dc.(*conn)
	if !ok {
		return fmt.Errorf("tenancy: %T is not a connection of a guarded pool: take it from the pool that (*gorm.DB).DB or OpenDB returns", dc)
	}
	return c.lend(ctx, "-- tenancy.WithPgxConn", func(_ context.Context, pc *pgx.Conn) (pgconn.CommandTag, error) {
		if bypass := bypassOf(ctx); c.cfg.Bypass && bypass != nil && bypass.ReadOnly {
			return pgconn.CommandTag{}, errReadOnlyPgx
		}
		c.dirty, c.named, c.namedRole = true, true, true
		clear(c.proved)
		if err := f(pc); err != nil {
			return pgconn.CommandTag{}, err
		}
		if pc.PgConn().IsBusy() {
			return pgconn.CommandTag{}, errPgxBusy
		}
		return pgconn.CommandTag{}, nil
	})
}

var (
	errReadOnlyPgx = errors.New("tenancy: a read-only client of Bypass cannot use WithPgxConn, because the function could end the read-only transaction: " +
		"use a client of Bypass without BypassReadOnly")
	errPgxBusy = errors.New("tenancy: the function of WithPgxConn returned while pgx's connection was in use: close the rows, the batch or the pipeline")
)

// task uses pgx's connection. The context is that of its trace.
type task func(ctx context.Context, pc *pgx.Conn) (pgconn.CommandTag, error)

// lend runs a task in the transaction under way, or in one of its own. The text names the task in traces and reports.
func (c *conn) lend(ctx context.Context, text string, do task) error {
	if c.tx != nil {
		return c.lendInTx(ctx, text, do)
	}
	own, err := c.BeginTx(ctx, driver.TxOptions{})
	if err != nil {
		return err
	}
	c.tx.held = true // by the user of (*sql.Conn).Raw
	if err := c.lendInTx(ctx, text, do); err != nil {
		return errors.Join(err, own.Rollback())
	}
	return own.Commit()
}

func (c *conn) lendInTx(ctx context.Context, text string, do task) (err error) {
	q := call{sql: text}
	if q.scope, err = c.scope(ctx); err == nil && q.scope.observed {
		err = ErrNoTenant // no application has used it before it was guarded
	}
	if err != nil {
		return err
	}
	c.tx.adopt(q.scope)
	if err = c.borrow(ctx, q.scope); err != nil {
		return err
	}
	return c.use(func(pc *pgx.Conn) error {
		// An empty statement sets the scope, in a round trip of its own.
		set := call{scope: q.scope, exec: true, lends: true, mode: pgx.QueryExecModeSimpleProtocol}
		if c.cfg.extended() {
			set.mode = pgx.QueryExecModeExec
		}
		ctx, err := c.start(ctx, pc, &q, nil)
		if err == nil {
			var a result
			if a, err = c.send(ctx, pc, &set); err == nil {
				_, err = a.close()
			}
		}
		var tag pgconn.CommandTag
		if err == nil {
			tag, err = do(ctx, pc)
		}
		return c.done(pc, &q, tag, err)
	})
}
