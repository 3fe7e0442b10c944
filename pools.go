package tenancy

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/private"
)

// OpenDB returns a guarded pool whose connections connector makes, a connector of github.com/jackc/pgx/v5/stdlib. Use it to give
// GORM a pool that is guarded from the start:
//
//	pool := tenancy.OpenDB(connector, cfg)
//	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}))
//	err = db.Use(tenancy.New(cfg))
//
// The plugin recognises the pool, and requires the same Setting, AppRole, LookupRole, CleanAlways, DangerouslyObserve, SigningKeys, ProofLifetime
// and DangerouslyUnboundProofs. Of two functions for SigningKeys it asks for a key that both return, because keys may have changed in between.
func OpenDB(connector driver.Connector, cfg Config) *sql.DB {
	return guard.Open(connector, New(cfg).guardConfig())
}

// UnguardedPool returns the pool of PostgreSQL's connections, which Close closes. If GORM has opened it from a DSN, it is the
// guarded pool, which (*gorm.DB).DB also returns, unless Config.Share is set. If the application has given GORM a pool, it is that one: its Stats count
// every user's connections, and statements that are sent through it are not guarded, so that the policies show them no tenant's
// row. It returns an error if db has no pool of database/sql.
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

// pool is a guarded pool, and what belongs to it.
type pool struct {
	guarded   *sql.DB
	inner     *sql.DB  // what guarded borrows from, or guarded itself
	home      *server  // inner, as a server
	servers   sync.Map // *server by *sql.DB: the others of Config.Place
	placed    bool     // there is a Config.Place
	reads     bool     // inner is one of the replicas in Config.Servers
	bound     boundTables
	prepare   sync.Once
	prepared  *gorm.PreparedStmtDB // by preparedFor, on preparing
	preparing atomic.Pointer[sql.DB]
	admin     func() (*sql.DB, error)
	reader    func() (*sql.DB, error) // of read-only admin clients
	chosen    []*pool                 // pools that dbresolver chooses in place of this one

	log atomic.Pointer[logger.Interface] // GORM's, for transactions that are refused
}

// pool returns the guarded pool for db, which may be guarded already. It is made when db is first seen, once, because a pool of
// database/sql has a goroutine of its own.
//
// main is nil for the pool of a *gorm.DB itself. Closing its guarded pool closes db as well, because the application knows only
// what (*gorm.DB).DB returns. For a pool of dbresolver, main is the pool that it is chosen in place of. The application closes
// that one itself, and the guarded pool for it is closed with main.
//
// If alone, db is the plugin's only, and becomes the guarded pool itself. From any other pool the guarded one borrows, because
// that pool may be used without the plugin, too.
func (p *Plugin) pool(ctx context.Context, db *sql.DB, main *pool, alone bool) (*pool, error) {
	if known, ok := p.pools.Load(db); ok {
		return known.(*pool), nil
	}
	p.opening.Lock()
	defer p.opening.Unlock()
	if known, ok := p.pools.Load(db); ok {
		return known.(*pool), nil
	}

	added := &pool{guarded: db, inner: guard.Inner(db), placed: p.config.Place != nil}
	if err := p.known.check(added.inner); err != nil {
		return nil, err
	}
	added.reads = p.known.replicas[added.inner] != nil
	added.home = p.newServer(added.inner)
	added.home.safe.Store(p.config.DangerouslyAllowUnsafeRole)
	added.admin = sync.OnceValues(func() (*sql.DB, error) { return p.openAdmin(added, p.config.AdminRole) })
	added.reader = sync.OnceValues(func() (*sql.DB, error) { return p.openReader(added) })
	want := p.guardConfig()
	want.Share, want.Place = added.home.Share, p.place(added)
	if have, ok := guard.Of(db); ok {
		if err := sameGuard(ctx, have, want); err != nil {
			return nil, err
		}
		want.OnBegin = have.OnBegin
	} else {
		if err := guard.Supported(ctx, db); err != nil {
			return nil, err
		}
		if !alone || want.Share != nil || want.Place != nil || !guard.TakeOver(ctx, db, want) {
			added.guarded = guard.Borrow(db, want)
			if main != nil {
				main.chosen = append(main.chosen, added)
			}
		}
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

// sameGuard refuses a pool that is guarded in another way than the plugin's Config says. What the plugin asks PostgreSQL at the start counts
// for its own roles and keys only.
func sameGuard(ctx context.Context, have, want guard.Config) error {
	if (have.Share == nil) != (want.Share == nil) || (have.Place == nil) != (want.Place == nil) {
		return errors.New("the pool is guarded already, without Share or Place: give GORM a DSN or a pool of pgx's stdlib, and not that of tenancy.OpenDB")
	}
	keys, err := have.Signer.Agrees(ctx, want.Signer)
	if err != nil {
		return fmt.Errorf("tenancy: %w", err)
	}
	var differ []string
	for _, field := range []struct {
		name    string
		differs bool
	}{
		{"Setting", have.Setting != want.Setting},
		{"AppRole", have.Role != want.Role},
		{"LookupRole", have.LookupRole != want.LookupRole},
		{"CleanAlways", have.CleanAlways != want.CleanAlways},
		{"Engine", have.Citus != want.Citus},
		{"DangerouslyObserve", (have.Observe == nil) != (want.Observe == nil)},
		{"SigningKeys, ProofLifetime or DangerouslyUnboundProofs", !keys},
	} {
		if field.differs {
			differ = append(differ, field.name)
		}
	}
	switch {
	case have.Bypass:
		return errors.New("the pool is guarded already, and is that of a client of Bypass: give GORM the pool of the application")
	case len(differ) > 0:
		return fmt.Errorf("the pool is guarded already, with another %s: give tenancy.OpenDB and tenancy.New the same Config", strings.Join(differ, ", "))
	default:
		return nil
	}
}

func (p *pool) logTo(log logger.Interface) { p.log.Store(&log) }

// logger returns nil for a pool that was not seen with a *gorm.DB.
func (p *pool) logger() logger.Interface {
	if log := p.log.Load(); log != nil {
		return *log
	}
	return nil
}

// close closes what belongs to a guarded pool, after the pool itself. The closed pool stays known, so that a late statement does
// not open another.
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

// unprepared returns the pool or transaction below GORM's prepared statements.
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
