package tenancy

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/private"
)

// install replaces the pool of db by the guarded one.
func (p *Plugin) install(db *gorm.DB) (*pool, error) {
	ctx := db.Statement.Context
	switch c := db.Config.ConnPool.(type) {
	case *sql.DB:
		pool, err := p.pool(ctx, c, nil, openedByGORM(db))
		if err != nil {
			return nil, err
		}
		pool.logTo(db.Logger)
		db.Config.ConnPool, db.Statement.ConnPool = pool.guarded, pool.guarded
		return pool, p.guardStore(db, pool)
	case *gorm.PreparedStmtDB:
		pool, err := p.guardPrepared(ctx, c, nil, openedByGORM(db))
		if err != nil {
			return nil, err
		}
		pool.logTo(db.Logger)
		db.Statement.ConnPool = c
		return pool, p.guardStore(db, pool)
	default:
		return nil, fmt.Errorf("%T is not a *sql.DB: open db with gorm.io/driver/postgres, and install the plugin before others that replace the pool", c)
	}
}

// openedByGORM reports whether GORM has made the pool of db from a DSN, so that others can have it only from (*gorm.DB).DB.
func openedByGORM(db *gorm.DB) bool {
	switch d := db.Dialector.(type) {
	case *postgres.Dialector:
		return d.Config != nil && d.Conn == nil
	case postgres.Dialector:
		return d.Config != nil && d.Conn == nil
	default:
		return false
	}
}

// guardPrepared puts the guarded pool inside c, GORM's store of prepared statements, and empties the store: statements that were
// prepared on the pool below would go on running there.
func (p *Plugin) guardPrepared(ctx context.Context, c *gorm.PreparedStmtDB, main *pool, alone bool) (*pool, error) {
	below, ok := unprepared(unbound(c.ConnPool)).(*sql.DB) // GORM's store can be made by a bound client
	if !ok {
		return nil, fmt.Errorf("prepared statements on %T, not on a *sql.DB: install the plugin before others that replace the pool", c.ConnPool)
	}
	_, seen := guard.Of(below)
	pool, err := p.pool(ctx, below, main, alone)
	if err == nil && (!seen || below != pool.guarded) {
		c.ConnPool = pool.guarded
		c.Close()
	}
	return pool, err
}

// guardStore does the same with the store that GORM keeps for Session{PrepareStmt: true}, if there is one. dbresolver leaves
// that of a replica there.
func (p *Plugin) guardStore(db *gorm.DB, main *pool) error {
	store := private.CacheStore(db.Config)
	if store == nil {
		return nil
	}
	kept, _ := store.Load("preparedStmt")
	if prepared, ok := kept.(*gorm.PreparedStmtDB); ok {
		_, err := p.guardPrepared(db.Statement.Context, prepared, main, false)
		return err
	}
	return nil
}
