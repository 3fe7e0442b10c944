package tenancy

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// followResolver makes dbresolver's choice a guarded pool in the moment it is made. Mostly the callbacks after it come
// early enough; not where dbresolver.Use or dbresolver.Write choose the pool for a transaction that begins right away.
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
			// An error in db would not keep GORM from beginning a transaction, which nobody would end then.
			if err := p.takeChosen(db); err != nil {
				db.Statement.ConnPool = p.refusedBegin(db, explain(db.Statement, "resolve", err))
			}
		}); err != nil {
			return fmt.Errorf("tenancy: replace the callback %s: %w", name, err)
		}
	}
	return nil
}

// takeChosen sees to it that what dbresolver has chosen is guarded.
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

// takePool sees to it that the statement goes through a guarded pool, and returns which.
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

// guardedFor returns the guarded pool for one that a statement of db is about to use. Without a decision about the
// tenant nothing will be sent, so nothing is asked about the roles.
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
	if _, decided := guard.Tenant(ctx); pool.safe.Load() || !decided {
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
		return nil, wrapf(ErrForeignCallback, "%T, which another plugin has put in place of the pool, hides from the guard what it sends", c)
	}
	return nil, fmt.Errorf("tenancy: %T was not taken from a guarded pool: begin it with this *gorm.DB, after the plugin "+
		"is installed", c)
}

// preparedFor returns the store of prepared statements that statements outside a transaction use in place of GORM's. It
// prepares on a pool of its own, which borrows a connection only to run something. GORM's keeps all who need a statement
// waiting until it is prepared: if that waited for a connection, and the last one had a transaction that needs the statement,
// both would wait for ever.
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

// knownPool returns the guarded pool that a statement goes to, and nil if it has not been seen.
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
