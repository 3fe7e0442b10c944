package tenancy_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
)

// The tests of this package need no server: they look at the SQL that GORM would send, and at what is refused before
// anything is sent. What PostgreSQL has to say is tested in tests/.

// open returns a *gorm.DB with the plugin, whose connections nothing answers.
func open(t testing.TB, cfg tenancy.Config, opts ...func(*gorm.Config)) *gorm.DB {
	t.Helper()
	db := plain(t, opts...)
	cfg.DangerouslyAllowUnsafeRole = true
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	require.NoError(t, db.Use(tenancy.New(cfg)))
	t.Cleanup(func() {
		sqlDB, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, sqlDB.Close())
	})
	return db
}

// plain is open without the plugin.
func plain(t testing.TB, opts ...func(*gorm.Config)) *gorm.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig("postgres://nobody@127.0.0.1:1/nothing?connect_timeout=1")
	require.NoError(t, err)
	pool := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	// GORM begins its default transaction in a dry run too, and would want a connection.
	config := &gorm.Config{DisableAutomaticPing: true, SkipDefaultTransaction: true, Logger: logger.Discard}
	for _, opt := range opts {
		opt(config)
	}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), config)
	require.NoError(t, err)
	return db
}

// dry returns a client for one tenant whose statements end before they are sent.
func dry(t testing.TB, tenant string) *gorm.DB {
	t.Helper()
	return open(t, tenancy.Config{}, dryRun).WithContext(as(tenant))
}

func as(tenant string) context.Context { return tenancy.WithTenant(context.Background(), tenant) }

// sqlOf is the SQL that a dry run left, with its values.
func sqlOf(tx *gorm.DB) string {
	return tx.Dialector.Explain(tx.Statement.SQL.String(), tx.Statement.Vars...)
}

func dryRun(c *gorm.Config) { c.DryRun = true }
