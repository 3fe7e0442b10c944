package plugin_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// busy has a tenant send statements that wait for a lock until the test lets them go.
func (d database) busy(t *testing.T, db *gorm.DB, tenant string, statements int) (letGo func()) {
	t.Helper()
	holder, err := sql.Open("pgx", d.Owner.DSN)
	require.NoError(t, err)
	lock, err := holder.Conn(t.Context())
	require.NoError(t, err)
	const key = 4711
	_, err = lock.ExecContext(t.Context(), `SELECT pg_advisory_lock($1)`, key)
	require.NoError(t, err)
	var done sync.WaitGroup
	for range statements {
		done.Go(func() {
			_ = db.WithContext(as(tenant)).Exec(`SELECT pg_advisory_lock_shared(?)`, key).Error
		})
	}
	return sync.OnceFunc(func() {
		require.NoError(t, lock.Close())
		require.NoError(t, holder.Close())
		done.Wait()
	})
}

// waiting returns how many connections wait for the lock.
func (d database) waiting(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, d.AdminDB.Raw(`SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
		WHERE l.locktype = 'advisory' AND NOT l.granted`).Scan(&n).Error)
	return n
}

// TestShareLeavesOthersConnections: however many statements of a tenant wait for something, another tenant's do not.
func TestShareLeavesOthersConnections(t *testing.T) {
	testdb.InBothForms(t, testShareLeavesOthersConnections)
}

func testShareLeavesOthersConnections(t *testing.T) {
	d := newDatabase(t)
	const limit, share = 4, 2
	for _, way := range []struct {
		name string
		open func(t *testing.T, cfg tenancy.Config) *gorm.DB
	}{
		{"pool", func(t *testing.T, cfg tenancy.Config) *gorm.DB {
			db := d.Open(t, cfg)
			pool, err := tenancy.UnguardedPool(db)
			require.NoError(t, err)
			pool.SetMaxOpenConns(limit)
			return db
		}},
		{"DSN", func(t *testing.T, cfg tenancy.Config) *gorm.DB {
			db, err := gorm.Open(postgres.Open(d.App.DSN), &gorm.Config{Logger: logger.Discard})
			require.NoError(t, err)
			require.NoError(t, db.Use(tenancy.New(cfg)))
			pool, err := db.DB()
			require.NoError(t, err)
			pool.SetMaxOpenConns(limit)
			t.Cleanup(func() { require.NoError(t, pool.Close()) })
			return db
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			cfg := d.Config()
			cfg.Share = share
			db := way.open(t, cfg)
			require.NoError(t, db.WithContext(as(globex)).Find(&[]Patient{}).Error)
			letGo := d.busy(t, db, acme, 64)
			defer letGo()
			require.Eventually(t, func() bool { return d.waiting(t) == share }, 10*time.Second, time.Millisecond)
			for range 20 {
				ctx, cancel := context.WithTimeout(as(globex), 10*time.Second)
				require.NoError(t, db.WithContext(ctx).Create(&Patient{Name: "new"}).Error)
				require.NoError(t, db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Patient{}).Error }))
				rows, err := db.WithContext(ctx).Model(&Patient{}).Rows()
				require.NoError(t, err)
				require.NoError(t, db.WithContext(ctx).Find(&[]Patient{}).Error, "while rows are read")
				require.NoError(t, rows.Close())
				require.NoError(t, db.WithContext(tenancy.WithoutTenant(ctx)).Find(&[]Country{}).Error)
				cancel()
			}
			ctx, cancel := context.WithTimeout(as(acme), 20*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, db.WithContext(ctx).Find(&[]Patient{}).Error, context.DeadlineExceeded)
			require.Equal(t, share, d.waiting(t))
			plugin := db.Plugins["tenancy"].(*tenancy.Plugin)
			all := []tenancy.TenantLoad{{Tenant: acme, InUse: share, Waiting: 64 - share}}
			require.Eventually(t, func() bool { return slices.Equal(all, plugin.Busiest(10)) }, 10*time.Second, time.Millisecond)
			require.Empty(t, plugin.Busiest(0))
			letGo()
			require.NoError(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error)
			require.Empty(t, plugin.Busiest(10))

			pool, err := tenancy.UnguardedPool(db)
			require.NoError(t, err)
			require.Equal(t, limit, pool.Stats().MaxOpenConnections)
			require.LessOrEqual(t, pool.Stats().OpenConnections, limit)
		})
	}
	t.Run("none", func(t *testing.T) { // so that the test can fail
		db := d.Open(t, tenancy.Config{})
		pool, err := tenancy.UnguardedPool(db)
		require.NoError(t, err)
		pool.SetMaxOpenConns(limit)
		letGo := d.busy(t, db, acme, 64)
		defer letGo()
		require.Eventually(t, func() bool { return d.waiting(t) == limit }, 10*time.Second, time.Millisecond)
		ctx, cancel := context.WithTimeout(as(globex), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, db.WithContext(ctx).Find(&[]Patient{}).Error, context.DeadlineExceeded)
	})
}

// TestShareLosesNothing: whatever ends a statement, its connection counts no longer.
func TestShareLosesNothing(t *testing.T) { testdb.InBothForms(t, testShareLosesNothing) }

func testShareLosesNothing(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{Share: 2}, func(t *testing.T, db *gorm.DB) {
		pool, err := tenancy.UnguardedPool(db)
		require.NoError(t, err)
		pool.SetMaxOpenConns(3)
		var workers sync.WaitGroup
		for worker := range 12 {
			random := rand.New(rand.NewPCG(uint64(worker), 1)) //nolint:gosec // for a test
			workers.Go(func() {
				for range 25 {
					tenant := []string{acme, globex}[random.IntN(2)]
					ctx, cancel := context.WithTimeout(as(tenant), time.Duration(1+random.IntN(20_000))*time.Microsecond)
					tx := db.WithContext(ctx)
					switch random.IntN(6) {
					case 0:
						_ = tx.Find(&[]Patient{}).Error
					case 1:
						_ = tx.Transaction(func(tx *gorm.DB) error { _ = tx.Find(&[]Patient{}).Error; return errors.New("no") })
					case 2:
						if rows, err := tx.Model(&Patient{}).Rows(); err == nil {
							_ = rows.Close()
						}
					case 3:
						_ = tx.Exec(`SELECT pg_sleep(0.002)`).Error
					case 4:
						_ = tx.Exec(`no SQL`).Error
					case 5:
						func() {
							defer func() { _ = recover() }()
							_ = tx.Transaction(func(tx *gorm.DB) error { _ = tx.Find(&[]Patient{}).Error; panic("no") })
						}()
					}
					cancel()
				}
			})
		}
		workers.Wait()
		for _, tenant := range []string{acme, globex} { // each has its whole share again
			first := db.WithContext(as(tenant)).Begin()
			require.NoError(t, first.Find(&[]Patient{}).Error)
			ctx, cancel := context.WithTimeout(as(tenant), 10*time.Second)
			require.NoError(t, db.WithContext(ctx).Find(&[]Patient{}).Error)
			second := db.WithContext(ctx).Begin()
			require.NoError(t, second.Find(&[]Patient{}).Error)
			soon, stop := context.WithTimeout(as(tenant), 10*time.Millisecond)
			require.ErrorIs(t, db.WithContext(soon).Find(&[]Patient{}).Error, context.DeadlineExceeded, "and not more")
			stop()
			require.NoError(t, second.Rollback().Error)
			require.NoError(t, first.Rollback().Error)
			cancel()
		}
	})
}

func TestShareIsRefusedWhereItCannotHold(t *testing.T) {
	testdb.InBothForms(t, testShareIsRefusedWhereItCannotHold)
}

func testShareIsRefusedWhereItCannotHold(t *testing.T) {
	d := newDatabase(t)
	cfg := d.Config()
	for _, share := range []int{-1, 1} {
		db := testdb.OpenPlain(t, d.App.DSN)
		cfg.Share = share
		require.ErrorContains(t, db.Use(tenancy.New(cfg)), "must be at least 2")
	}
	connect, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	cfg.Share = 2
	pool := tenancy.OpenDB(stdlib.GetConnector(*connect), cfg)
	defer func() { require.NoError(t, pool.Close()) }()
	db := testdb.OpenPlain(t, "", testdb.Pool(pool))
	require.ErrorContains(t, db.Use(tenancy.New(cfg)), "guarded already, without Share")
}
