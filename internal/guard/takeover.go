package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/gormtenancy/tenancy/internal/private"
)

// TakeOver makes db itself the guarded pool, and reports whether it could. Every connection that db makes from then on is
// guarded, also for those who took the pool earlier; its limits, lifetimes and statistics are what they were. Its idle
// connections are closed, because they are not guarded. Where a connection is in use, or where database/sql is not a version that
// package private knows, db is left as it was.
//
// database/sql has no method that replaces the connector of a pool. Another pool in place of db would not do: a holder of db could
// neither limit, watch nor close it. So the private field is written, under the pool's own lock and while the pool has no
// connection that the old connector has made.
func TakeOver(ctx context.Context, db *sql.DB, cfg Config) bool {
	fields := private.FieldsOf(db)
	if fields == nil {
		return false
	}
	for range db.Stats().Idle {
		if db.Stats().InUse > 0 {
			return false
		}
		c, err := db.Conn(ctx)
		if err != nil {
			return false
		}
		_ = c.Raw(func(any) error { return driver.ErrBadConn }) // which closes it
		_ = c.Close()
	}
	return fields.ReplaceConnector(func(own driver.Connector) driver.Connector { return newConnector(cfg, nil, own) })
}
