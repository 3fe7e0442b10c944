package compat

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// closing is an application that closes what db.DB() returns.
type closing struct {
	name string
	open func(t *testing.T, d *database) (*gorm.DB, func()) // with what the application closes besides
}

var closings = []closing{
	{"not used", func(t *testing.T, d *database) (*gorm.DB, func()) {
		return openToClose(t, d, gorm.Config{}, d.Config()), func() {}
	}},
	{"bypass used", func(t *testing.T, d *database) (*gorm.DB, func()) {
		db := openToClose(t, d, gorm.Config{}, d.Config())
		requireBypass(t, db)
		return db, func() {}
	}},
	{"PrepareStmt", func(t *testing.T, d *database) (*gorm.DB, func()) {
		db := openToClose(t, d, gorm.Config{PrepareStmt: true}, d.Config())
		requireBypass(t, db)
		return db, func() {}
	}},
	{"AdminDB, which stays open", func(t *testing.T, d *database) (*gorm.DB, func()) {
		admin, err := sql.Open("pgx", d.Admin.DSN)
		require.NoError(t, err)
		cfg := d.Config()
		cfg.AdminRole, cfg.AdminDB = "", admin
		db := openToClose(t, d, gorm.Config{}, cfg)
		requireBypass(t, db)
		return db, func() {
			require.NoError(t, admin.Ping())
			require.NoError(t, admin.Close())
		}
	}},
	{"OpenDB", func(t *testing.T, d *database) (*gorm.DB, func()) {
		connector, err := stdlib.GetDefaultDriver().(*stdlib.Driver).OpenConnector(d.dsn)
		require.NoError(t, err)
		pool := tenancy.OpenDB(connector, d.Config())
		db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
		require.NoError(t, err)
		require.NoError(t, db.Use(tenancy.New(d.Config())))
		requireBypass(t, db)
		return db, func() {}
	}},
	{"pgxpool, which stays open", func(t *testing.T, d *database) (*gorm.DB, func()) {
		pool, err := pgxpool.New(t.Context(), d.dsn)
		require.NoError(t, err)
		db, err := gorm.Open(postgres.New(postgres.Config{Conn: stdlib.OpenDBFromPool(pool)}), &gorm.Config{})
		require.NoError(t, err)
		require.NoError(t, db.Use(tenancy.New(d.Config())))
		requireBypass(t, db)
		return db, func() {
			require.NoError(t, pool.Ping(context.Background()))
			pool.Close()
		}
	}},
	{"dbresolver before", func(t *testing.T, d *database) (*gorm.DB, func()) {
		resolver := asReplica(d)
		db := openToClose(t, d, gorm.Config{}, d.Config(), resolver)
		requireBypass(t, db)
		return db, func() { closeAll(t, resolver) }
	}},
	{"dbresolver before, PrepareStmt", func(t *testing.T, d *database) (*gorm.DB, func()) {
		resolver := asReplica(d)
		db := openToClose(t, d, gorm.Config{PrepareStmt: true}, d.Config(), resolver)
		requireBypass(t, db)
		return db, func() { closeAll(t, resolver) }
	}},
	{"dbresolver after", func(t *testing.T, d *database) (*gorm.DB, func()) {
		resolver := asReplica(d)
		db := openToClose(t, d, gorm.Config{}, d.Config(), tenancy.New(d.Config()), resolver)
		requireBypass(t, db)
		return db, func() { closeAll(t, resolver) }
	}},
	{"dbresolver after, PrepareStmt", func(t *testing.T, d *database) (*gorm.DB, func()) {
		resolver := asReplica(d)
		db := openToClose(t, d, gorm.Config{PrepareStmt: true}, d.Config(), tenancy.New(d.Config()), resolver)
		requireBypass(t, db)
		return db, func() { closeAll(t, resolver) }
	}},
}

// openToClose opens GORM with the plugins, and with this one if it is not among them. It leaves the pool to the test.
func openToClose(t *testing.T, d *database, config gorm.Config, cfg tenancy.Config, plugins ...gorm.Plugin) *gorm.DB {
	t.Helper()
	config.Logger = logger.Discard
	db, err := gorm.Open(postgres.Open(d.dsn), &config)
	require.NoError(t, err)
	for _, plugin := range plugins {
		require.NoError(t, db.Use(plugin))
	}
	if _, ok := db.Plugins["tenancy"]; !ok {
		require.NoError(t, db.Use(tenancy.New(cfg)))
	}
	return db
}

func requireBypass(t *testing.T, db *gorm.DB) {
	t.Helper()
	var n int64
	require.NoError(t, tenancy.Bypass(db, "test").Model(&Note{}).Count(&n).Error)
	require.Positive(t, n)
}

// asReplica has dbresolver take the database for its own replica.
func asReplica(d *database) *dbresolver.DBResolver {
	return dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{postgres.Open(d.dsn)}})
}

// TestCloseLeavesNothing closes what db.DB() returns, as an application does, and looks what is left.
func TestCloseLeavesNothing(t *testing.T) { testdb.InBothForms(t, testCloseLeavesNothing) }

func testCloseLeavesNothing(t *testing.T) {
	d := newDatabase(t)
	for _, c := range closings {
		t.Run(c.name, func(t *testing.T) {
			two := d.newPair(t)
			others := []goleak.Option{goleak.IgnoreCurrent()}
			for _, function := range endless {
				others = append(others, goleak.IgnoreAnyFunction(function))
			}
			db, closeRest := c.open(t, d)
			tx := db.WithContext(two.ctx())
			require.NoError(t, tx.Create(&Note{}).Error)
			require.NoError(t, tx.First(&Note{}).Error)
			inner, err := tenancy.UnguardedPool(db)
			require.NoError(t, err)
			require.NoError(t, inner.Ping())

			testdb.Close(t, db)
			testdb.Close(t, db)
			require.ErrorContains(t, inner.Ping(), "database is closed")
			require.Zero(t, inner.Stats().OpenConnections)
			require.ErrorContains(t, tx.Create(&Note{}).Error, "database is closed")
			late := tenancy.Bypass(db, "too late").WithContext(two.ctx())
			require.Error(t, late.First(&Note{}).Error)
			closeRest()
			require.Eventually(t, func() bool { return d.traffic.Connections() == 0 }, 10*time.Second, time.Millisecond,
				"connections that are left")
			require.NoError(t, goleak.Find(others...))
		})
	}
}
