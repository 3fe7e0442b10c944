package statement_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

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
		"named": {2, func(db *gorm.DB) *gorm.DB {
			return db.Where("id IN (@ids)", map[string]any{"ids": root.Model(&Book{}).Select("author_id")})
		}},
		"named argument": {2, func(db *gorm.DB) *gorm.DB {
			return db.Where("id IN (@ids)", sql.Named("ids", root.Model(&Book{}).Select("author_id")))
		}},
		"generics": {2, func(db *gorm.DB) *gorm.DB {
			return db.Where("id IN (?)", gorm.G[Book](root).Where("id > ?", 0).Select("author_id"))
		}},
		"generics in generics": {3, func(db *gorm.DB) *gorm.DB {
			return db.Where("id IN (?)", gorm.G[Book](root).Select("author_id").Where("id IN (?)", gorm.G[Book](root).Select("id")))
		}},
		"table of generics": {1, func(db *gorm.DB) *gorm.DB { return db.Table("(?) AS authors", gorm.G[Author](root)) }},
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

	// In rows, and in what an upsert sets.
	count := root.Model(&Book{}).Select("count(*)")
	create := func(db *gorm.DB) *gorm.DB {
		return db.Model(&Author{}).Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Assignments(map[string]any{"age": gorm.Expr("(?)", count)}),
		}).Create(map[string]any{"id": 900, "name": "Eve", "age": gorm.Expr("(?)", count)})
	}
	for _, tenant := range []string{acme, globex} {
		sent := s.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return create(tx.WithContext(as(tenant))) })
		require.Equal(t, 2, strings.Count(sent, `"books"."tenant_id" = '`+tenant+`'`), sent)
	}
	for range 2 {
		require.NoError(t, create(s.db).Error)
		var age int
		require.NoError(t, s.db.Model(&Author{}).Where("id = ?", 900).Select("age").Scan(&age).Error)
		require.Equal(t, 3, age)
	}

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
