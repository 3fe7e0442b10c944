package statement_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// TestSubqueryWithoutContext: a subquery made of a *gorm.DB without a context has the condition of the statement around it, and
// serves another tenant next.
func TestSubqueryWithoutContext(t *testing.T) {
	s := newGuarded(t, "subqueries", tenancy.Config{DangerouslyWarnOnly: true}, disabled()...)
	s.reset(t)
	root := s.db.WithContext(t.Context())
	for name, query := range map[string]struct {
		conditions int
		build      func(db *gorm.DB) *gorm.DB
	}{
		"where": {2, func(db *gorm.DB) *gorm.DB { return db.Where("id IN (?)", root.Model(&Book{}).Select("author_id")) }},
		"or": {2, func(db *gorm.DB) *gorm.DB {
			return db.Where(root.Where("id IN (?)", root.Model(&Book{}).Select("author_id")).Or("age = ?", 50))
		}},
		"not": {2, func(db *gorm.DB) *gorm.DB { return db.Not("id IN (?)", root.Model(&Book{}).Select("author_id")) }},
		"nest": {3, func(db *gorm.DB) *gorm.DB {
			return db.Where("id IN (?)", root.Model(&Book{}).Select("author_id").Where("id IN (?)", root.Model(&Book{}).Select("id")))
		}},
		"select": {2, func(db *gorm.DB) *gorm.DB {
			return db.Select("authors.*, (?) AS books", root.Model(&Book{}).Select("count(*)"))
		}},
		"having": {2, func(db *gorm.DB) *gorm.DB {
			return db.Select("age").Group("age").Having("count(*) >= (?)", root.Model(&Company{}).Select("count(*)"))
		}},
		"join": {2, func(db *gorm.DB) *gorm.DB {
			return db.Joins("JOIN (?) AS b ON b.author_id = authors.id", root.Model(&Book{}).Select("author_id"))
		}},
		"table": {1, func(db *gorm.DB) *gorm.DB {
			return db.Table("(?) AS authors", root.Model(&Author{}).Where("age > ?", 1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tenant := range []string{acme, globex} {
				sent := s.db.ToSQL(func(tx *gorm.DB) *gorm.DB {
					return query.build(tx.WithContext(as(tenant)).Model(&Author{})).Find(&[]brief{})
				})
				require.Equal(t, query.conditions, strings.Count(sent, `"tenant_id" = '`+tenant+`'`), sent)
				require.NoError(t, query.build(s.db.WithContext(as(tenant)).Model(&Author{})).Find(&[]map[string]any{}).Error)
			}
		})
	}

	update := func(db *gorm.DB) *gorm.DB {
		return db.Model(&Author{}).Where("id = ?", 2).Update("name", root.Model(&Company{}).Select("min(name)"))
	}
	require.Equal(t, 2, strings.Count(s.db.ToSQL(update), `"tenant_id" = 'acme'`), s.db.ToSQL(update))

	// One that is used again is not changed.
	subquery := root.Model(&Book{}).Select("author_id")
	again := root.Model(&Author{}).Where("id IN (?)", subquery)
	for _, tenant := range []string{acme, globex} {
		var authors []Author
		require.NoError(t, again.WithContext(as(tenant)).Find(&authors).Error)
		require.Len(t, authors, 2)
		require.Equal(t, tenant, authors[0].TenantID)
	}
	require.Equal(t, t.Context(), subquery.Statement.Context)
}
