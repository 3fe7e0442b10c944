package guard

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CopyFrom loads rows by PostgreSQL's COPY protocol, in the transaction under way or in one of its own. It is what
// (*sql.Conn).Raw is used for with an unguarded pool. PostgreSQL refuses COPY FROM into a table under row-level security
// (https://www.postgresql.org/docs/current/sql-copy.html), so it serves shared tables, and all tables where the role
// bypasses.
func (c *conn) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (n int64, err error) {
	if c.tx != nil {
		return c.copyInTx(ctx, table, columns, src)
	}
	own, err := c.BeginTx(ctx, driver.TxOptions{})
	if err != nil {
		return 0, err
	}
	c.tx.held = true // by the user of (*sql.Conn).Raw
	if n, err = c.copyInTx(ctx, table, columns, src); err != nil {
		return 0, errors.Join(err, own.Rollback())
	}
	return n, own.Commit()
}

func (c *conn) copyInTx(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (n int64, err error) {
	q := call{sql: "COPY " + table.Sanitize() + " FROM STDIN"}
	if q.scope, err = c.scope(ctx); err != nil {
		return 0, err
	}
	c.tx.take(q.scope)
	if err = c.borrow(ctx); err != nil {
		return 0, err
	}
	err = c.use(func(pc *pgx.Conn) error {
		// The scope is set by an empty statement; COPY is not a message that could travel with it.
		set := call{scope: q.scope, exec: true, mode: pgx.QueryExecModeSimpleProtocol}
		ctx, err := c.open(ctx, pc, &q, nil)
		if err == nil {
			var a answer
			if a, err = c.send(ctx, pc, &set); err == nil {
				_, err = a.close()
			}
		}
		if err == nil {
			n, err = pc.CopyFrom(ctx, table, columns, src)
		}
		var tag pgconn.CommandTag
		if err == nil {
			tag = pgconn.NewCommandTag(fmt.Sprintf("COPY %d", n))
		}
		return c.done(pc, &q, tag, err)
	})
	return n, err
}
