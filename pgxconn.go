package tenancy

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// WithPgxConn calls f with pgx's connection below conn, which comes from the guarded pool: for COPY, batches, and everything
// else that database/sql does not have. Use it instead of a type assertion to *stdlib.Conn in (*sql.Conn).Raw, which fails here
// because it would go around the guard:
//
//	conn, err := pool.Conn(ctx) // pool is what (*gorm.DB).DB returns
//	err = tenancy.WithPgxConn(ctx, conn, func(c *pgx.Conn) error {
//		_, err := c.CopyFrom(ctx, pgx.Identifier{"countries"}, []string{"code", "name"}, rows)
//		return err
//	})
//
// f runs in the transaction of conn that is under way, or in one of its own, which is rolled back if f returns an error. The
// tenant of ctx is set in it, so that policies decide what f sees. PostgreSQL refuses COPY FROM into tables with policies. f
// must neither end the transaction nor keep the connection. What f leaves in the session is cleaned before another user gets the
// connection.
//
// For LISTEN, which needs a connection for good, or for a pool of pgx, open a connection of your own.
func WithPgxConn(ctx context.Context, conn *sql.Conn, f func(*pgx.Conn) error) error {
	return conn.Raw(func(dc any) error { return guard.WithPgx(ctx, dc, f) })
}
