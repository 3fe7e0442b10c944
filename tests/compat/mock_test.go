package compat

import (
	"context"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestMockIsRefused: a mock is no PostgreSQL that keeps tenants apart, so the plugin does not start on it.
func TestMockIsRefused(t *testing.T) {
	pool, mock, err := sqlmock.New()
	require.NoError(t, err)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	err = db.Use(tenancy.New(tenancy.Config{}))
	require.ErrorContains(t, err, "open it with github.com/jackc/pgx/v5/stdlib")
	mock.ExpectClose()
	require.NoError(t, pool.Close())
}

// TestRolledBackTransactions runs a test's work in transactions that are rolled back, as docs/testing.md says.
func TestRolledBackTransactions(t *testing.T) { testdb.InBothForms(t, testRolledBackTransactions) }

func testRolledBackTransactions(t *testing.T) {
	d := testdb.New(t, &Note{})
	db := d.Open(t, tenancy.Config{})
	ctx := tenancy.WithTenant(context.Background(), "acme")
	for range 2 {
		tx := db.WithContext(ctx).Begin()
		require.NoError(t, tx.Error)
		require.NoError(t, tx.Create(&Note{Text: "one"}).Error)
		require.NoError(t, tx.Transaction(func(inner *gorm.DB) error { return inner.Create(&Note{Text: "two"}).Error }), "a savepoint")
		var count int64
		require.NoError(t, tx.Model(&Note{}).Count(&count).Error)
		require.EqualValues(t, 2, count)
		other := tx.WithContext(tenancy.WithTenant(context.Background(), "globex"))
		require.ErrorIs(t, other.Create(&Note{Text: "three"}).Error, tenancy.ErrTenantMismatch, "it belongs to one tenant")
		require.ErrorIs(t, tenancy.Bypass(tx, "look").Find(&[]Note{}).Error, tenancy.ErrInTransaction)
		require.NoError(t, tx.Rollback().Error)
	}
	var count int64
	require.NoError(t, d.AdminDB.Model(&Note{}).Count(&count).Error)
	require.Zero(t, count)
}
