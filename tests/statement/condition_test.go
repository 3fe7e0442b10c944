package statement_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
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

// TestConditionIsInParentheses: SQL of the caller that may hold an OR is, wherever it stands.
func TestConditionIsInParentheses(t *testing.T) {
	s := newGuarded(t, "or", tenancy.Config{DangerouslyWarnOnly: true}, disabled()...)
	s.reset(t)
	for name, where := range map[string]any{
		"text":            "id = 1 or true",
		"expression":      gorm.Expr("id = 1 or true"),
		"of another":      gorm.Expr("?", gorm.Expr("id = 1 or true")),
		"value":           map[string]any{"id": gorm.Expr("1 or true")},
		"value of a list": clause.IN{Column: "id", Values: []any{gorm.Expr("1 or true")}},
		"comparison":      clause.Gt{Column: "id", Value: gorm.Expr("1 or true")},
		"column":          clause.Eq{Column: clause.Column{Name: "true or id", Raw: true}, Value: 1},
		"Or":              clause.Or(clause.Eq{Column: "id", Value: 1}, clause.Expr{SQL: "true"}),
	} {
		t.Run(name, func(t *testing.T) {
			var authors []Author
			require.NoError(t, s.db.Where(where).Find(&authors).Error)
			require.Len(t, authors, 4)
		})
	}
}

// TestConditionOfApplicationBesideOr: one that the application has of its own is true for all of its rows.
func TestConditionOfApplicationBesideOr(t *testing.T) {
	s := newGuarded(t, "own", tenancy.Config{})
	own := map[string]any{"tenant_id": acme}
	for name, where := range map[string]func(db *gorm.DB) *gorm.DB{
		"before":       func(db *gorm.DB) *gorm.DB { return db.Where(own).Or("id = ?", 1) },
		"of a struct":  func(db *gorm.DB) *gorm.DB { return db.Where(&Author{TenantID: acme}).Or("id = ?", 1) },
		"behind":       func(db *gorm.DB) *gorm.DB { return db.Where("id = ?", 1).Or(own) },
		"before two":   func(db *gorm.DB) *gorm.DB { return db.Where(own).Or("id = ?", 1).Or("id = ?", 2) },
		"before a Not": func(db *gorm.DB) *gorm.DB { return db.Where(own).Or("id = ?", 1).Not("id = ?", 99) },
	} {
		t.Run(name, func(t *testing.T) {
			s.reset(t)
			var authors []Author
			require.NoError(t, where(s.db).Find(&authors).Error)
			require.Len(t, authors, 4)
			require.EqualValues(t, 4, where(s.db.Model(&Author{})).Update("age", 1).RowsAffected)
			require.EqualValues(t, 4, where(s.db).Delete(&Author{}).RowsAffected)
		})
	}
	require.Equal(t, `SELECT * FROM "authors" WHERE "authors"."tenant_id" = 'acme' AND age = 3`,
		s.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Where(own).Where("age = ?", 3).Find(&[]Author{}) }), "alone it is not repeated")
}

// TestConditionWithJoins: it is left out where a join keeps other rows, and nowhere else.
func TestConditionWithJoins(t *testing.T) {
	s := newGuarded(t, "joins", tenancy.Config{})
	for join, has := range map[string]bool{
		"RIGHT JOIN companies ON true":                                  false,
		"NATURAL full\nouter join companies":                            false,
		"RIGHT/**/JOIN companies ON true":                               false,
		"FULL -- all\nJOIN companies ON true":                           false,
		"JOIN companies ON companies.name <> 'the right one'":           true,
		"JOIN companies ON right(companies.name, 1) = 'A'":              true,
		"JOIN companies AS copyright ON copyright.name = authors.name":  true,
		"LEFT JOIN companies ON companies.name = authors.full_name":     true,
		"LEFT JOIN companies ON companies.name LIKE '%brightest, full'": true,
	} {
		sent := s.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Joins(join).Find(&[]Author{}) })
		require.Equal(t, has, strings.Contains(sent, `"authors"."tenant_id" = 'acme'`), sent)
	}
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
	require.NoError(t, s.db.Find(&[]Company{}).Error)
	require.NoError(t, s.db.Table("companies").Find(&[]map[string]any{}).Error, "a table of which it has said so with a model")
	require.Equal(t, []string{
		`SELECT * FROM "authors" WHERE age > 1`,
		`SELECT * FROM "countries" WHERE id > 0`,
		`SELECT "id" FROM "countries"`,
		`SELECT * FROM "authors" WHERE "authors"."tenant_id" = 'acme' AND age > 1`,
		`SELECT * FROM "countries" WHERE id > 0`,
		`SELECT "id" FROM "countries"`,
		`SELECT * FROM "companies" WHERE "companies"."tenant_id" = 'acme'`,
		`SELECT * FROM "companies" WHERE "companies"."tenant_id" = 'acme'`,
	}, s.log.sent)
}
