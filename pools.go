package tenancy

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/private"
)

// OpenDB returns a guarded pool whose connections connector makes, a connector of github.com/jackc/pgx/v5/stdlib. Use it
// where GORM is to be given a pool, and the pool is to be guarded before GORM sees it:
//
//	pool := tenancy.OpenDB(connector, cfg)
//	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}))
//	err = db.Use(tenancy.New(cfg))
//
// The plugin recognises the pool, and wants the same Setting, AppRole and CleanAlways.
func OpenDB(connector driver.Connector, cfg Config) *sql.DB {
	return guard.Open(connector, New(cfg).guardConfig())
}

// UnguardedPool returns the pool of PostgreSQL's connections, which Close closes. Where GORM has opened it, from a DSN, that is the
// guarded pool, which (*gorm.DB).DB returns as well. Where the application has given GORM a pool of its own, it is that one,
// whose Stats count every user's connections; statements sent through it are not guarded: PostgreSQL's policies show them no
// tenant's row. UnguardedPool returns an error where db has no pool of database/sql.
func UnguardedPool(db *gorm.DB) (*sql.DB, error) {
	pool := db.Config.ConnPool
	if b := bypassOf(pool); b != nil {
		return guard.Inner(b.DB), nil
	}
	if c, ok := pool.(gorm.GetDBConnector); ok {
		sqlDB, err := c.GetDBConn()
		if err != nil {
			return nil, err
		}
		return guard.Inner(sqlDB), nil
	}
	if sqlDB, ok := pool.(*sql.DB); ok {
		return guard.Inner(sqlDB), nil
	}
	return nil, gorm.ErrInvalidDB
}

// pool is a guarded pool, and what hangs on it.
type pool struct {
	guarded  *sql.DB
	inner    *sql.DB // what guarded borrows from, or guarded itself
	proofs   proofs
	prepare  sync.Once
	prepared *gorm.PreparedStmtDB // by preparedFor, on
	waitless atomic.Pointer[sql.DB]
	admin    func() (*sql.DB, error)
	reader   func() (*sql.DB, error) // of read-only admin clients
	chosen   []*pool                 // for pools of dbresolver that are chosen in place of this one
	safe     atomic.Bool             // its roles are, says PostgreSQL, or the Config

	log atomic.Pointer[logger.Interface] // GORM's, for transactions that were refused
}

// pool returns the guarded pool for db, which may be guarded already. There is one for each db, made when it is first
// seen: a pool of database/sql has a goroutine of its own.
//
// main is nil for the pool of a *gorm.DB itself. Closing the guarded one closes that too: an application closes what
// (*gorm.DB).DB returns, and knows no other. A pool of dbresolver, chosen in place of main, it closes by itself; the
// guarded one for it ends with main.
//
// A pool that is the plugin's alone becomes the guarded one itself. From any other the guarded one borrows: it may be used
// without the plugin, too.
func (p *Plugin) pool(ctx context.Context, db *sql.DB, main *pool, alone bool) (*pool, error) {
	if known, ok := p.pools.Load(db); ok {
		return known.(*pool), nil
	}
	p.opening.Lock()
	defer p.opening.Unlock()
	if known, ok := p.pools.Load(db); ok {
		return known.(*pool), nil
	}

	added := &pool{guarded: db, inner: guard.Inner(db)}
	added.safe.Store(p.config.DangerouslyAllowUnsafeRole)
	added.admin = sync.OnceValues(func() (*sql.DB, error) { return p.openAdmin(added, p.config.AdminRole) })
	added.reader = sync.OnceValues(func() (*sql.DB, error) { return p.openReader(added) })
	want := p.guardConfig()
	if have, ok := guard.Of(db); !ok {
		if err := guard.Supported(ctx, db); err != nil {
			return nil, err
		}
		if !alone || !guard.TakeOver(ctx, db, want) {
			added.guarded = guard.Borrow(db, want)
			if main != nil {
				main.chosen = append(main.chosen, added)
			}
		}
	} else if have.Bypass || have.Setting != want.Setting || have.Role != want.Role || have.CleanAlways != want.CleanAlways {
		return nil, errors.New("the pool is guarded already, with another Setting, AppRole or CleanAlways than the plugin's")
	} else {
		want.OnBegin = have.OnBegin
	}
	if main != nil {
		added.log.Store(main.log.Load())
	}
	want.OnBegin.Set(func(ctx context.Context, refusal error) error {
		return p.tellBegin(ctx, added.logger(), refusal)
	})
	guard.OnClose(added.guarded, func() error { return p.close(added, main == nil) })
	for _, key := range []*sql.DB{db, added.guarded, added.inner} {
		p.pools.Store(key, added)
	}
	return added, nil
}

func (p *pool) logTo(log logger.Interface) { p.log.Store(&log) }

// logger returns nil for a pool that no *gorm.DB was seen with.
func (p *pool) logger() logger.Interface {
	if log := p.log.Load(); log != nil {
		return *log
	}
	return nil
}

// close ends what hangs on a guarded pool, after the pool itself. The closed pool stays known, so that no statement that
// comes too late opens another.
func (p *Plugin) close(closed *pool, andInner bool) error {
	p.opening.Lock()
	chosen := closed.chosen
	p.opening.Unlock()

	var errs []error
	for _, c := range chosen {
		errs = append(errs, c.guarded.Close())
	}
	if waitless := closed.waitless.Load(); waitless != nil {
		errs = append(errs, waitless.Close())
	}
	for _, open := range []func() (*sql.DB, error){closed.admin, closed.reader} {
		if admin, _ := open(); admin != nil {
			errs = append(errs, admin.Close())
		}
	}
	if andInner && closed.inner != closed.guarded {
		errs = append(errs, closed.inner.Close())
	}
	return errors.Join(errs...)
}

// install replaces the pool of db by its guarded one.
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
		return nil, fmt.Errorf("%T is not a *sql.DB of pgx", c)
	}
}

// openedByGORM reports whether GORM has made the pool of db from a DSN, so that no one has it but by (*gorm.DB).DB.
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

// guardPrepared puts the guarded pool inside c, GORM's store of prepared statements, and empties the store: statements
// that were prepared on the pool below would go on running there.
func (p *Plugin) guardPrepared(ctx context.Context, c *gorm.PreparedStmtDB, main *pool, alone bool) (*pool, error) {
	below, ok := plain(unbound(c.ConnPool)).(*sql.DB) // GORM's store can be made by a bound client
	if !ok {
		return nil, fmt.Errorf("prepared statements on %T, not on a *sql.DB of pgx", c.ConnPool)
	}
	_, seen := guard.Of(below)
	pool, err := p.pool(ctx, below, main, alone)
	if err == nil && (!seen || below != pool.guarded) {
		c.ConnPool = pool.guarded
		c.Close()
	}
	return pool, err
}

// guardStore does the same with the store that GORM keeps for Session{PrepareStmt: true}, if there is one; dbresolver
// leaves that of a replica there.
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

// followResolver makes dbresolver's choice a guarded pool in the moment it is made. Mostly the callbacks after it come
// early enough; not where dbresolver.Use or dbresolver.Write choose the pool for a transaction that begins right away.
func (p *Plugin) followResolver(db *gorm.DB) error {
	const name = "gorm:db_resolver"
	quiet := db.Logger
	db.Logger = quietLogger{quiet} // GORM reports each replaced callback
	defer func() { db.Logger = quiet }()

	create, query, update := db.Callback().Create(), db.Callback().Query(), db.Callback().Update()
	del, row, raw := db.Callback().Delete(), db.Callback().Row(), db.Callback().Raw()
	for _, c := range []struct {
		choose  func(*gorm.DB)
		replace interface {
			Replace(string, func(*gorm.DB)) error
		}
	}{
		{create.Get(name), create.Before("*")},
		{query.Get(name), query.Before("*")},
		{update.Get(name), update.Before("*")},
		{del.Get(name), del.Before("*")},
		{row.Get(name), row.Before("*")},
		{raw.Get(name), raw.Before("*")},
	} {
		if c.choose == nil {
			continue // no dbresolver, or it comes later: then its replicas are initialized one by one
		}
		if err := c.replace.Replace(name, func(db *gorm.DB) {
			c.choose(db)
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
	switch b := plain(db.Config.ConnPool).(type) {
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
		if err == nil && below != pool.waitless.Load() {
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
		if pool := known.(*pool); from == pool.guarded || from == pool.waitless.Load() {
			return pool, p.verifyRoles(ctx, pool, plain(c))
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
		waitless := guard.Sibling(pool.guarded, cfg)
		pool.waitless.Store(waitless)
		p.pools.Store(waitless, pool)
		pool.prepared = gorm.NewPreparedStmtDB(waitless, db.PrepareStmtMaxSize, db.PrepareStmtTTL)
	})
	return pool.prepared
}

// source returns the pool that a transaction or a connection comes from, and nil for anything else.
func source(c gorm.ConnPool) *sql.DB {
	switch c := plain(c).(type) {
	case *sql.Tx:
		return private.PoolOfTx(c)
	case *sql.Conn:
		return private.PoolOfConn(c)
	default:
		return nil
	}
}

// plain returns what is below GORM's prepared statements.
func plain(c gorm.ConnPool) gorm.ConnPool {
	for {
		switch wrapper := c.(type) {
		case *gorm.PreparedStmtDB:
			c = wrapper.ConnPool
		case *gorm.PreparedStmtTX:
			c = wrapper.Tx
		default:
			return c
		}
	}
}
