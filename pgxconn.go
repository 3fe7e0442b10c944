package tenancy

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// WithPgxConn calls f with pgx's connection below conn, which comes from the guarded pool: for COPY, batches, and all else that
// database/sql does not have. It takes the place of a type assertion to *stdlib.Conn in (*sql.Conn).Raw, which would go around
// the guard, and therefore fails:
//
//	conn, err := pool.Conn(ctx) // of what (*gorm.DB).DB returns
//	err = tenancy.WithPgxConn(ctx, conn, func(c *pgx.Conn) error {
//		_, err := c.CopyFrom(ctx, pgx.Identifier{"countries"}, []string{"code", "name"}, rows)
//		return err
//	})
//
// f runs in the transaction of conn that is under way, or in one of its own, which is rolled back where f returns an error. The
// tenant of ctx is set in it, so that policies decide what f sees; PostgreSQL refuses COPY FROM into tables that have some. f must
// neither end the transaction nor keep the connection. What it leaves in the session is cleaned before others get the connection.
//
// What needs a connection for good, such as LISTEN, or a pool of pgx, needs one that the application opens by itself.
func WithPgxConn(ctx context.Context, conn *sql.Conn, f func(*pgx.Conn) error) error {
	return conn.Raw(func(dc any) error { return guard.WithPgx(ctx, dc, f) })
}
