package tenancy

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"sync/atomic"

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
	guarded   *sql.DB
	inner     *sql.DB // what guarded borrows from, or guarded itself
	proofs    proofs
	prepare   sync.Once
	prepared  *gorm.PreparedStmtDB // by preparedFor, on
	preparing atomic.Pointer[sql.DB]
	admin     func() (*sql.DB, error)
	reader    func() (*sql.DB, error) // of read-only admin clients
	chosen    []*pool                 // for pools of dbresolver that are chosen in place of this one
	safe      atomic.Bool             // its roles are, says PostgreSQL, or the Config

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
		return p.reportBegin(ctx, added.logger(), refusal)
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
	if preparing := closed.preparing.Load(); preparing != nil {
		errs = append(errs, preparing.Close())
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

// source returns the pool that a transaction or a connection comes from, and nil for anything else.
func source(c gorm.ConnPool) *sql.DB {
	switch c := unprepared(c).(type) {
	case *sql.Tx:
		return private.PoolOfTx(c)
	case *sql.Conn:
		return private.PoolOfConn(c)
	default:
		return nil
	}
}

// unprepared returns what is below GORM's prepared statements.
func unprepared(c gorm.ConnPool) gorm.ConnPool {
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
