package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// limited is a client whose connections are counted when they are made.
type limited struct {
	*gorm.DB
	pool   *sql.DB // db.DB(), taken when the plugin was installed
	before *sql.DB // db.DB(), taken earlier
	opened atomic.Int64
}

// givers are the ways in which GORM comes to its pool.
var givers = map[string]func(t *testing.T, dsn string, count stdlib.OptionOpenDB) gorm.Dialector{
	"GORM's pool": func(_ *testing.T, dsn string, count stdlib.OptionOpenDB) gorm.Dialector {
		return postgres.New(postgres.Config{DSN: dsn, OptionOpenDB: []stdlib.OptionOpenDB{count}})
	},
	"a given pool": func(t *testing.T, dsn string, count stdlib.OptionOpenDB) gorm.Dialector {
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		return postgres.New(postgres.Config{Conn: stdlib.OpenDB(*cfg, count)})
	},
}

// open opens a client without the plugin, and installs it by use.
func (l *limited) open(ctx context.Context, t *testing.T, giver, dsn string, config gorm.Config) {
	t.Helper()
	db := open(t, givers[giver](t, dsn, stdlib.OptionAfterConnect(func(context.Context, *pgx.Conn) error {
		l.opened.Add(1)
		return nil
	})), config)
	pool, err := db.DB()
	require.NoError(t, err)
	l.DB, l.before, l.pool = db.WithContext(ctx), pool, pool
}

func (l *limited) use(t *testing.T, cfg tenancy.Config) {
	t.Helper()
	require.NoError(t, l.Use(tenancy.New(cfg)))
	pool, err := l.DB.DB()
	require.NoError(t, err)
	l.pool = pool
	t.Cleanup(func() { testdb.Close(t, l.DB) })
}

// bursts runs 40 times 10 statements at once, and returns how many connections that has opened.
func (l *limited) bursts(t *testing.T, db *gorm.DB) int64 {
	t.Helper()
	const bursts, statements = 40, 10
	before := l.opened.Load()
	for range bursts {
		var all sync.WaitGroup
		errs := make([]error, statements)
		for i := range errs {
			all.Add(1)
			go func() {
				defer all.Done()
				errs[i] = order(db)
			}()
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
	}
	return l.opened.Load() - before
}

func order(db *gorm.DB) error { return db.First(&Order{}).Error }

// eachLimited runs test for each way in which GORM comes to its pool, with and without prepared statements.
func eachLimited(t *testing.T, test func(t *testing.T, l *limited, d *database)) {
	d := newDatabase(t)
	two := d.newPair(t)
	for giver := range givers {
		for _, prepare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, PrepareStmt %t", giver, prepare), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(two.ctx(), time.Minute)
				defer cancel()
				l := &limited{}
				l.open(ctx, t, giver, d.dsn, gorm.Config{PrepareStmt: prepare})
				test(t, l, d)
			})
		}
	}
}

// TestLimitsHold sets them as GORM's documentation tells, before the plugin is installed, after, and on what was taken before.
func TestLimitsHold(t *testing.T) {
	for _, when := range []string{"before Use", "after Use", "after Use on the pool from before"} {
		t.Run(when, func(t *testing.T) {
			eachLimited(t, func(t *testing.T, l *limited, d *database) {
				set := func(pool *sql.DB) {
					pool.SetMaxIdleConns(10)
					pool.SetMaxOpenConns(10)
					pool.SetConnMaxLifetime(time.Hour)
				}
				if when == "before Use" {
					set(l.before)
				}
				l.use(t, d.Config())
				switch when {
				case "after Use":
					set(l.pool)
				case "after Use on the pool from before":
					set(l.before)
				}
				require.NoError(t, order(l.DB))
				require.LessOrEqual(t, l.bursts(t, l.DB), int64(9))
				require.LessOrEqual(t, l.bursts(t, tenancy.Bypass(l.DB, "test")), int64(9))
				require.LessOrEqual(t, l.opened.Load(), int64(11), "all, and the one that GORM has pinged before Use")
				for _, pool := range []*sql.DB{l.pool, l.before} {
					require.Equal(t, 10, pool.Stats().MaxOpenConnections)
				}
			})
		})
	}
}

// TestLimitsDefault sets nothing: as in plain GORM, two connections are kept.
func TestLimitsDefault(t *testing.T) {
	eachLimited(t, func(t *testing.T, l *limited, d *database) {
		l.use(t, d.Config())
		l.bursts(t, l.DB)
		require.Eventually(t, func() bool { return d.traffic.Connections() == 2 }, 10*time.Second, time.Millisecond)
		require.Equal(t, 2, l.before.Stats().Idle)
		opened := l.opened.Load()
		for range 100 {
			require.NoError(t, order(l.DB))
		}
		require.Equal(t, opened, l.opened.Load())
	})
}

// TestStats compares what db.DB() says with what there is.
func TestStats(t *testing.T) {
	eachLimited(t, func(t *testing.T, l *limited, d *database) {
		l.before.SetMaxOpenConns(4)
		l.use(t, d.Config())
		l.pool.SetMaxIdleConns(3)
		for range 5 {
			require.NoError(t, order(l.DB))
		}
		// The one that was closed while the plugin was installed may take a moment.
		require.Eventually(t, func() bool { return d.traffic.Connections() == 1 }, 10*time.Second, time.Millisecond)
		got := l.pool.Stats()
		require.Equal(t, []int{4, 1, 0, 1}, []int{got.MaxOpenConnections, got.OpenConnections, got.InUse, got.Idle})
		require.Zero(t, got.WaitCount)

		var held []*gorm.DB
		for range 4 {
			tx := l.Begin()
			require.NoError(t, order(tx))
			held = append(held, tx)
		}
		require.Equal(t, 4, d.traffic.Connections())
		got = l.pool.Stats()
		require.Equal(t, []int{4, 4, 4, 0}, []int{got.MaxOpenConnections, got.OpenConnections, got.InUse, got.Idle})

		short, cancel := context.WithTimeout(l.Statement.Context, 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, l.WithContext(short).Transaction(order), context.DeadlineExceeded)
		require.EqualValues(t, 1, l.pool.Stats().WaitCount)

		for _, tx := range held {
			require.NoError(t, tx.Commit().Error)
		}
		require.Eventually(t, func() bool { return d.traffic.Connections() == 3 }, 10*time.Second, time.Millisecond)
		got = l.pool.Stats()
		require.Equal(t, []int{3, 0, 3}, []int{got.OpenConnections, got.InUse, got.Idle})
		require.EqualValues(t, 1, got.MaxIdleClosed)
	})
}

// TestPoolOfOneConnection has tenants and the admin client take turns on the only one.
func TestPoolOfOneConnection(t *testing.T) {
	eachLimited(t, func(t *testing.T, l *limited, d *database) {
		l.use(t, d.Config())
		l.pool.SetMaxOpenConns(1)
		require.NoError(t, order(l.DB))
		opened := l.opened.Load()
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			all.Add(1)
			go func() {
				defer all.Done()
				for range 5 {
					errs[i] = errors.Join(errs[i], order(l.DB), order(tenancy.Bypass(l.DB, "test")), l.Transaction(order),
						tenancy.Bypass(l.DB, "test").Transaction(order), l.Create(&Note{}).Error)
				}
			}()
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Equal(t, opened, l.opened.Load())
		require.Equal(t, 1, d.traffic.Connections())
		require.Zero(t, l.pool.Stats().InUse)

		require.NoError(t, l.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, order(tx))
			short, cancel := context.WithTimeout(l.Statement.Context, 10*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, order(tenancy.Bypass(l.DB, "test").WithContext(short)), context.DeadlineExceeded, "it is in use")
			return nil
		}))
		require.NoError(t, order(tenancy.Bypass(l.DB, "test")))
		require.Equal(t, opened, l.opened.Load())
	})
}

// TestConnectionsExpire lets each of the two times close what is idle, without a statement that would notice.
func TestConnectionsExpire(t *testing.T) {
	for name, set := range map[string]func(*sql.DB){
		"lifetime":  func(pool *sql.DB) { pool.SetConnMaxLifetime(time.Millisecond) },
		"idle time": func(pool *sql.DB) { pool.SetConnMaxIdleTime(time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			eachLimited(t, func(t *testing.T, l *limited, d *database) {
				l.use(t, d.Config())
				require.NoError(t, order(l.DB))
				require.NoError(t, order(tenancy.Bypass(l.DB, "test")))
				require.Equal(t, 1, d.traffic.Connections())
				set(l.pool)
				require.Eventually(t, func() bool {
					return d.traffic.Connections() == 0 && l.pool.Stats().OpenConnections == 0
				}, 20*time.Second, 10*time.Millisecond)
				require.NoError(t, order(l.DB))
			})
		})
	}
}

// TestGivenPoolIsShared: what is idle in the guarded pool is not kept from those who use the given one.
func TestGivenPoolIsShared(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	l := &limited{}
	l.open(two.ctx(), t, "a given pool", d.dsn, gorm.Config{})
	l.use(t, d.Config())
	l.pool.SetMaxIdleConns(10)
	l.pool.SetConnMaxIdleTime(time.Hour)
	l.pool.SetConnMaxLifetime(time.Hour)
	l.before.SetMaxOpenConns(1)
	for range 5 {
		require.NoError(t, order(l.DB))
		require.Zero(t, l.before.Stats().InUse, "what the guarded pool keeps holds none")
		require.NoError(t, order(tenancy.Bypass(l.DB, "test")))
		require.NoError(t, l.Transaction(order))
		require.NoError(t, l.before.PingContext(two.ctx()))
	}
	require.Equal(t, 1, l.before.Stats().OpenConnections)
	require.Zero(t, l.before.Stats().MaxIdleClosed+l.before.Stats().MaxLifetimeClosed, "the connection was used again")
}

// TestPoolOfPgxKeepsConnections: where GORM is given a pool of pgx's, that one keeps what is idle, and nothing else does.
func TestPoolOfPgxKeepsConnections(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	below, err := pgxpool.New(t.Context(), d.dsn)
	require.NoError(t, err)
	t.Cleanup(below.Close)
	given := stdlib.OpenDBFromPool(below)
	db := open(t, postgres.New(postgres.Config{Conn: given}), gorm.Config{}).WithContext(two.ctx())
	require.NoError(t, db.Use(tenancy.New(d.Config())))
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { testdb.Close(t, db) })
	pool.SetMaxOpenConns(5)
	for range 10 {
		require.NoError(t, order(db))
		require.Zero(t, below.Stat().AcquiredConns())
		require.Zero(t, given.Stats().OpenConnections)
		require.Equal(t, 5, given.Stats().MaxOpenConnections)
		require.Equal(t, 1, pool.Stats().OpenConnections, "an empty one, which is used again")
	}
	require.NoError(t, db.Exec("SET my.secret = 'x'").Error)
	require.EqualValues(t, 1, below.Stat().NewConnsCount())
}

// TestPoolFromBeforeIsGuarded: GORM's own pool has no way around the guard, and closing it closes everything.
func TestPoolFromBeforeIsGuarded(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	l := &limited{}
	l.open(two.ctx(), t, "GORM's pool", d.dsn, gorm.Config{})
	earlier := l.Session(&gorm.Session{})
	l.use(t, d.Config())
	require.Same(t, l.before, l.pool)
	_, err := l.before.ExecContext(context.Background(), "SELECT 1")
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	require.ErrorIs(t, earlier.WithContext(context.Background()).Exec("SELECT 1").Error, tenancy.ErrNoTenant)
	require.NoError(t, order(tenancy.Bypass(l.DB, "test")))
	require.NoError(t, l.before.Close())
	require.Eventually(t, func() bool { return d.traffic.Connections() == 0 }, 10*time.Second, time.Millisecond)
}

// TestPoolInUse: a pool that has borrowed a connection is borrowed from.
func TestPoolInUse(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	l := &limited{}
	l.open(two.ctx(), t, "GORM's pool", d.dsn, gorm.Config{})
	held, err := l.before.Conn(two.ctx())
	require.NoError(t, err)
	l.use(t, d.Config())
	require.NotSame(t, l.before, l.pool)
	require.NoError(t, held.Close())
	requireGuarded(t, d, l.DB, nothing)
	l.pool.SetMaxIdleConns(10)
	require.LessOrEqual(t, l.bursts(t, l.DB), int64(9))
}
