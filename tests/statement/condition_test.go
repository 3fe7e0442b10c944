package statement_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
)

// TestConditionInSQLOfCaller: the helper writes the condition into raw SQL, scopes and joins.
func TestConditionInSQLOfCaller(t *testing.T) {
	s := newGuarded(t, "raw", tenancy.Config{DangerouslyWarnOnly: true}, disabled()...)
	s.reset(t)
	var names []string
	require.NoError(t, s.db.Raw(`SELECT a.name FROM authors a JOIN companies c ON c.name < 'B' AND ? WHERE ? ORDER BY a.id`,
		tenancy.Condition("c"), tenancy.Condition("a")).Scan(&names).Error)
	require.Equal(t, []string{"Ann", "Bob", "Cid", "Dora"}, names)
	require.Contains(t, s.log.sent[0], `"c"."tenant_id" = 'acme' WHERE "a"."tenant_id" = 'acme' ORDER`)

	require.NoError(t, s.db.Transaction(func(tx *gorm.DB) error {
		return tx.WithContext(t.Context()).Raw(`SELECT name FROM authors WHERE ? ORDER BY id`, tenancy.Condition("authors")).Scan(&names).Error
	}))
	require.Len(t, names, 4)

	var n int64
	require.NoError(t, s.db.WithContext(tenancy.WithoutTenant(t.Context())).
		Raw(`SELECT count(*) FROM authors WHERE ?`, tenancy.Condition("authors")).Scan(&n).Error)
	require.EqualValues(t, 8, n, "policies decide, and there are none")

	plain := newPlain(t)
	require.ErrorIs(t, plain.db.Raw(`SELECT 1 WHERE ?`, tenancy.Condition("authors")).Scan(&n).Error, tenancy.ErrNotInstalled)
}

// TestConditionIsNotThereForAll: under no tenant, for shared models, in raw SQL and for the bypass client.
func TestConditionIsNotThereForAll(t *testing.T) {
	d := newDatabase(t, models...)
	log := &sqlLog{Interface: logger.Discard}
	db := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role, OnBypass: ignore}, usual(log))
	for _, find := range []*gorm.DB{
		db.WithContext(as(acme)).Find(&[]Country{}),
		db.WithContext(as(acme)).Raw(`SELECT * FROM authors`).Find(&[]Author{}),
		db.WithContext(tenancy.WithoutTenant(t.Context())).Find(&[]Author{}),
		tenancy.Bypass(db.WithContext(as(acme)), "test").Find(&[]Author{}),
		db.WithContext(as(acme)).Find(&[]Shared{}),
	} {
		require.NotContains(t, log.sent[len(log.sent)-1], "tenant_id")
		_ = find
	}
	require.NoError(t, tenancy.Bypass(db, "test").Where("id = ?", 1).Delete(&Author{}).Error)
	require.NotContains(t, log.sent[len(log.sent)-1], "tenant_id")

	// The same schema serves both clients, in turn.
	require.NoError(t, db.WithContext(as(acme)).Find(&[]Author{}).Error)
	require.Contains(t, log.sent[len(log.sent)-1], `"authors"."tenant_id" = 'acme'`)
	require.NoError(t, db.WithContext(as(globex)).Find(&[]Author{}).Error)
	require.Contains(t, log.sent[len(log.sent)-1], `"authors"."tenant_id" = 'globex'`)
}

// TestConditionInDryRun: ToSQL shows what is sent.
func TestConditionInDryRun(t *testing.T) {
	s := newGuarded(t, "dry", tenancy.Config{})
	require.Equal(t, `SELECT * FROM "authors" WHERE "authors"."tenant_id" = 'acme' AND age = 3`,
		s.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Where("age = ?", 3).Find(&[]Author{}) }))
	require.Equal(t, `SELECT * FROM "authors" WHERE "authors"."tenant_id" = 'acme' AND (age = 3 or age = 4)`,
		s.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Where("age = 3 or age = 4").Find(&[]Author{}) }))
	require.Equal(t, `DELETE FROM "authors" WHERE "authors"."tenant_id" = 'acme' AND age = 3`,
		s.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Where("age = ?", 3).Delete(&Author{}) }))
}

// TestConditionOfUnknownTable: a table that only the caller names gets the condition once PostgreSQL has said that it has the
// column, and none where it has not.
func TestConditionOfUnknownTable(t *testing.T) {
	s := newGuarded(t, "tables", tenancy.Config{})
	s.reset(t)
	for range 2 {
		require.NoError(t, s.db.Table("authors").Where("age > ?", 1).Find(&[]map[string]any{}).Error)
		require.NoError(t, s.db.Table("countries").Where("id > ?", 0).Find(&[]map[string]any{}).Error)
		require.NoError(t, s.db.Model(&Author{}).Table("countries").Select("id").Find(&[]brief{}).Error, "a model of another table")
	}
	require.Equal(t, []string{
		`SELECT * FROM "authors" WHERE age > 1`,
		`SELECT * FROM "countries" WHERE id > 0`,
		`SELECT "id" FROM "countries"`,
		`SELECT * FROM "authors" WHERE "authors"."tenant_id" = 'acme' AND age > 1`,
		`SELECT * FROM "countries" WHERE id > 0`,
		`SELECT "id" FROM "countries"`,
	}, s.log.sent)
}
