package tenancy

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// followResolver wraps dbresolver's callback, so that the pool it chooses is guarded at once. Mostly the plugin's later
// callbacks would do, but dbresolver.Use and dbresolver.Write choose the pool of a transaction that begins immediately.
func (p *Plugin) followResolver(db *gorm.DB) error {
	const name = "gorm:db_resolver"
	quiet := db.Logger
	db.Logger = quietLogger{quiet} // GORM reports each replaced callback
	defer func() { db.Logger = quiet }()

	for _, on := range processors(db) {
		choose := on.get(name)
		if choose == nil {
			continue // no dbresolver, or it comes later: then its replicas are initialized one by one
		}
		if err := on.before("*").Replace(name, func(db *gorm.DB) {
			choose(db)
			// An error in db would not keep GORM from beginning a transaction, which would never end.
			if err := p.takeChosen(db); err != nil {
				db.Statement.ConnPool = p.refusedBegin(db, explain(db.Statement, "resolve", err))
			}
		}); err != nil {
			return fmt.Errorf("tenancy: replace the callback %s: %w", name, err)
		}
	}
	return nil
}

// takeChosen ensures that the pool that dbresolver has chosen is guarded.
func (p *Plugin) takeChosen(db *gorm.DB) error {
	switch b := unprepared(db.Config.ConnPool).(type) {
	case *bypassPool:
		return b.take(db.Statement)
	case *boundPool:
		_, err := p.takePool(db)
		if err == nil {
			db.Statement.ConnPool = b.around(db.Statement.ConnPool) // a transaction may begin right away
		}
		return err
	default:
		_, err := p.takePool(db)
		return err
	}
}

// takePool ensures that the statement goes through a guarded pool, and returns that pool.
func (p *Plugin) takePool(db *gorm.DB) (*pool, error) {
	stmt := db.Statement
	switch c := stmt.ConnPool.(type) {
	case *sql.DB:
		pool, err := p.guardedFor(db, c)
		if err == nil && c != pool.guarded {
			stmt.ConnPool = pool.guarded
		}
		return pool, err
	case *gorm.PreparedStmtDB:
		below, err := c.GetDBConn()
		if err != nil {
			return nil, err
		}
		pool, err := p.guardedFor(db, below)
		if err == nil && below != pool.preparing.Load() {
			stmt.ConnPool = p.preparedFor(pool, db)
		}
		return pool, err
	case *boundPool:
		stmt.ConnPool = c.ConnPool
		return p.takePool(db)
	default:
		return p.poolOf(stmt.Context, c)
	}
}

// guardedFor returns the guarded pool for the pool that a statement of db is about to use. Without a decision about the tenant
// nothing will be sent, so it does not ask about the roles either.
func (p *Plugin) guardedFor(db *gorm.DB, c *sql.DB) (*pool, error) {
	ctx := db.Statement.Context
	known, ok := p.pools.Load(c)
	if !ok {
		main, err := p.poolBelow(db)
		if err != nil {
			return nil, err
		}
		if known, err = p.pool(ctx, c, main, false); err != nil {
			return nil, err
		}
	}
	pool := known.(*pool)
	if _, decided := guard.Tenant(ctx); pool.home.safe.Load() || !decided {
		return pool, nil
	}
	return pool, p.verifyRoles(guard.InTenantRole(ctx), pool, pool.guarded)
}

// poolOf returns the guarded pool that a transaction or a connection comes from.
func (p *Plugin) poolOf(ctx context.Context, c gorm.ConnPool) (*pool, error) {
	if refused, ok := c.(refusedPool); ok {
		return nil, refused.err
	}
	from := source(c)
	if known, ok := p.pools.Load(from); ok {
		if pool := known.(*pool); from == pool.guarded || from == pool.preparing.Load() {
			return pool, p.verifyRoles(ctx, pool, unprepared(c))
		}
	}
	if from == nil {
		return nil, wrapf(ErrForeignCallback, "another plugin has put %T in place of the pool, and hides from the guard what it sends: use a *gorm.DB without that plugin", c)
	}
	return nil, fmt.Errorf("tenancy: %T was not taken from a guarded pool: begin it with this *gorm.DB, after the plugin "+
		"is installed", c)
}

// preparedFor returns the store of prepared statements that statements outside a transaction use instead of GORM's. It prepares
// on a pool of its own, which borrows a connection only to run a statement.
//
// With GORM's store, all who need a statement wait until it is prepared. If that waited for a connection, and a transaction that
// needs the same statement held the last one, both would wait without end.
func (p *Plugin) preparedFor(pool *pool, db *gorm.DB) *gorm.PreparedStmtDB {
	pool.prepare.Do(func() {
		cfg, _ := guard.Of(pool.guarded)
		preparing := guard.Sibling(pool.guarded, cfg)
		pool.preparing.Store(preparing)
		p.pools.Store(preparing, pool)
		pool.prepared = gorm.NewPreparedStmtDB(preparing, db.PrepareStmtMaxSize, db.PrepareStmtTTL)
	})
	return pool.prepared
}

// knownPool returns the guarded pool that a statement goes to, and nil if the plugin has not seen it.
func (p *Plugin) knownPool(c gorm.ConnPool) *pool {
	c = unprepared(unbound(unprepared(c)))
	db, ok := c.(*sql.DB)
	if !ok {
		db = source(c)
	}
	known, _ := p.pools.Load(db)
	pool, _ := known.(*pool)
	return pool
}
