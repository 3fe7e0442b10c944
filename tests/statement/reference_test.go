package statement_test

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type operation struct {
	name string
	run  func(db *gorm.DB) (any, *gorm.DB)
}

// found is an operation that reads rows into a slice.
func found[T any](name string, read func(db *gorm.DB, into *[]T) *gorm.DB) operation {
	return operation{name, func(db *gorm.DB) (any, *gorm.DB) {
		var into []T
		tx := read(db, &into)
		return into, tx
	}}
}

// one is an operation on one value.
func one[T any](name string, run func(db *gorm.DB, value *T) *gorm.DB) operation {
	return operation{name, func(db *gorm.DB) (any, *gorm.DB) {
		value := new(T)
		tx := run(db, value)
		return value, tx
	}}
}

// done is an operation without a result.
func done(name string, run func(db *gorm.DB) *gorm.DB) operation {
	return operation{name, func(db *gorm.DB) (any, *gorm.DB) { return nil, run(db) }}
}

// asError carries the error of what returns no *gorm.DB.
func asError(db *gorm.DB, err error) *gorm.DB {
	tx := db.Session(&gorm.Session{})
	tx.Error, tx.RowsAffected = err, 0
	return tx
}

func scanned(db *gorm.DB, rows *sql.Rows, err error) ([]string, *gorm.DB) {
	if err != nil {
		return nil, asError(db, err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, asError(db, err)
		}
		names = append(names, name)
	}
	return names, asError(db, rows.Err())
}

type brief struct {
	ID   int64
	Name string
}

var operations = []operation{
	found("Find", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Order("id").Find(a) }),
	found("Find without order", func(db *gorm.DB, a *[]Country) *gorm.DB { return db.Find(a) }),
	found("Find by primary keys", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Order("id").Find(a, []int{1, 3, 101}) }),
	found("Find inline", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Order("id").Find(a, "age > ?", 35) }),
	found("Find of another's id", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Find(a, 101) }),
	one("First", func(db *gorm.DB, a *Author) *gorm.DB { return db.First(a) }),
	one("First by id", func(db *gorm.DB, a *Author) *gorm.DB { return db.First(a, 2) }),
	one("First by id of another", func(db *gorm.DB, a *Author) *gorm.DB { return db.First(a, 102) }),
	one("First by the model's id", func(db *gorm.DB, a *Author) *gorm.DB { a.ID = 2; return db.First(a) }),
	one("Take", func(db *gorm.DB, a *Author) *gorm.DB { return db.Where("name = ?", "Cid").Take(a) }),
	one("Last", func(db *gorm.DB, a *Author) *gorm.DB { return db.Last(a) }),
	found("Where with Or", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Where("age = ?", 30).Or("age = ?", 50).Order("id").Find(a)
	}),
	found("Or first", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Or("age = ?", 30).Order("id").Find(a) }),
	found("raw OR in Where", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Where("age = 30 or\nage = 50").Order("id").Find(a) }),
	found("a comment in Where", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Where("age = 30 or age = 50 -- old").Find(a) }),
	found("nested groups", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Where(db.Where("age = ?", 30).Or("age = ?", 40)).Where(db.Where("name = ?", "Ann").Or("name = ?", "Dora")).Order("id").Find(a)
	}),
	found("Not", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Not("age = ?", 40).Order("id").Find(a) }),
	found("Not with Or", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Not(db.Where("age = ?", 30).Or("age = ?", 50)).Order("id").Find(a)
	}),
	found("Where by struct", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Where(&Author{Age: 40}).Order("id").Find(a) }),
	found("Where by map", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Where(map[string]any{"age": 40, "name": []string{"Bob", "Ann"}}).Find(a)
	}),
	found("named arguments", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Where("age > @min AND age < @max", map[string]any{"min": 30, "max": 50}).Order("id").Find(a)
	}),
	found("clause expressions", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Clauses(clause.Or(clause.Eq{Column: "age", Value: 30}, clause.Eq{Column: "age", Value: 50})).Order("id").Find(a)
	}),
	found("Select", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Select("id", "name").Order("id").Find(a) }),
	found("Omit", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Omit("age").Order("id").Find(a) }),
	found("a smaller struct", func(db *gorm.DB, b *[]brief) *gorm.DB { return db.Model(&Author{}).Order("id").Find(b) }),
	found("Scan", func(db *gorm.DB, b *[]brief) *gorm.DB {
		return db.Model(&Author{}).Where("age = ?", 40).Order("id").Scan(b)
	}),
	found("Table", func(db *gorm.DB, b *[]brief) *gorm.DB {
		return db.Table("authors").Where("age = ?", 40).Order("id").Find(b)
	}),
	found("Table into maps", func(db *gorm.DB, m *[]map[string]any) *gorm.DB {
		return db.Table("authors").Select("id, name").Order("id").Find(m)
	}),
	found("Table with alias", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Table("authors AS x").Where("x.age = ?", 40).Order("x.id").Find(a)
	}),
	found("Model and Table with alias", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Model(&Author{}).Table("authors x").Where("x.age = ?", 40).Order("x.id").Find(a)
	}),
	found("self-join", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Table("authors AS x").Select("x.*").Joins("JOIN authors y ON y.age = x.age AND y.id <> x.id").Order("x.id").Find(a)
	}),
	found("Table of a subquery", func(db *gorm.DB, b *[]brief) *gorm.DB {
		return db.Table("(?) AS u", db.Model(&Author{}).Select("id", "name").Where("age = ?", 40)).Order("u.id").Find(b)
	}),
	found("subquery in Where", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Where("age > (?)", db.Model(&Author{}).Select("avg(age)")).Order("id").Find(a)
	}),
	found("subquery in IN", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Where("id IN (?)", db.Model(&Book{}).Select("author_id")).Order("id").Find(a)
	}),
	found("subquery in Select", func(db *gorm.DB, m *[]map[string]any) *gorm.DB {
		return db.Model(&Author{}).Select("id, (?) AS books", db.Model(&Book{}).Select("count(*)").Where("books.author_id = authors.id")).Order("id").Find(m)
	}),
	found("subquery in Having", func(db *gorm.DB, m *[]map[string]any) *gorm.DB {
		return db.Model(&Author{}).Select("age, count(*) AS n").Group("age").Having("count(*) >= (?)", db.Model(&Company{}).Select("count(*)")).Order("age").Find(m)
	}),
	found("Group and Having", func(db *gorm.DB, m *[]map[string]any) *gorm.DB {
		return db.Model(&Author{}).Select("age, count(*) AS n").Group("age").Having("count(*) > ?", 1).Find(m)
	}),
	found("Distinct", func(db *gorm.DB, ages *[]int) *gorm.DB {
		return db.Model(&Author{}).Distinct().Order("age").Pluck("age", ages)
	}),
	found("Pluck", func(db *gorm.DB, names *[]string) *gorm.DB {
		return db.Model(&Author{}).Order("id").Pluck("name", names)
	}),
	one("Count", func(db *gorm.DB, n *int64) *gorm.DB { return db.Model(&Author{}).Count(n) }),
	one("Count of a table", func(db *gorm.DB, n *int64) *gorm.DB { return db.Table("authors").Count(n) }),
	one("Count of groups", func(db *gorm.DB, n *int64) *gorm.DB { return db.Model(&Author{}).Group("age").Count(n) }),
	one("Count of distinct", func(db *gorm.DB, n *int64) *gorm.DB { return db.Model(&Author{}).Distinct("age").Count(n) }),
	one("Count of soft-deleted", func(db *gorm.DB, n *int64) *gorm.DB { return db.Model(&Book{}).Count(n) }),
	found("Limit and Offset", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Order("id").Limit(2).Offset(1).Find(a) }),
	found("Locking", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Clauses(clause.Locking{Strength: "UPDATE"}).Order("id").Find(a)
	}),
	{"Rows", func(db *gorm.DB) (any, *gorm.DB) {
		rows, err := db.Model(&Author{}).Select("name").Order("id").Rows()
		return scanned(db, rows, err)
	}},
	{"Row", func(db *gorm.DB) (any, *gorm.DB) {
		var n int64
		err := db.Model(&Author{}).Select("sum(age)").Row().Scan(&n)
		return n, asError(db, err)
	}},
	{"Row of a table", func(db *gorm.DB) (any, *gorm.DB) {
		var n int64
		err := db.Table("authors").Select("sum(age)").Row().Scan(&n)
		return n, asError(db, err)
	}},
	{"FindInBatches", func(db *gorm.DB) (any, *gorm.DB) {
		var batch []Author
		var sizes []int
		tx := db.Where("age > 0").FindInBatches(&batch, 3, func(*gorm.DB, int) error { sizes = append(sizes, len(batch)); return nil })
		return sizes, tx
	}},
	found("soft delete", func(db *gorm.DB, b *[]Book) *gorm.DB { return db.Order("id").Find(b) }),
	found("soft delete with Or", func(db *gorm.DB, b *[]Book) *gorm.DB {
		return db.Where("title = ?", "one").Or("title = ?", "gone").Order("id").Find(b)
	}),
	found("Unscoped", func(db *gorm.DB, b *[]Book) *gorm.DB { return db.Unscoped().Order("id").Omit("deleted_at").Find(b) }),
	found("Preload", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Preload("Books").Preload("Company").Preload("Profile").Preload("Tags").Order("id").Find(a)
	}),
	found("Preload with conditions", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Preload("Books", "title = ?", "two").Order("id").Find(a)
	}),
	found("Preload of associations", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Preload(clause.Associations).Order("id").Find(a)
	}),
	found("nested Preload", func(db *gorm.DB, b *[]Book) *gorm.DB { return db.Preload("Author.Company").Order("id").Find(b) }),
	found("Joins", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.Joins("Company").Order("authors.id").Find(a) }),
	found("InnerJoins", func(db *gorm.DB, a *[]Author) *gorm.DB { return db.InnerJoins("Company").Order("authors.id").Find(a) }),
	found("Joins with conditions", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Joins("Company", db.Where(&Company{Name: "A"})).Order("authors.id").Find(a)
	}),
	found("Joins of two", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Joins("Company").Joins("Profile").Where("authors.age < ?", 50).Order("authors.id").Find(a)
	}),
	found("nested Joins", func(db *gorm.DB, b *[]Book) *gorm.DB {
		return db.Joins("Author").Joins("Author.Company").Order("books.id").Find(b)
	}),
	found("nested Joins at once", func(db *gorm.DB, b *[]Book) *gorm.DB { return db.Joins("Author.Company").Order("books.id").Find(b) }),
	found("Joins of raw SQL", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Joins("JOIN books ON books.author_id = authors.id AND books.title = ?", "one").Find(a)
	}),
	found("a right join", func(db *gorm.DB, m *[]map[string]any) *gorm.DB {
		return db.Model(&Author{}).Select("authors.name, companies.name AS company").
			Joins("RIGHT JOIN companies ON companies.id = authors.company_id AND authors.age = 30").Order("companies.id").Find(m)
	}),
	found("Joins of a subquery", func(db *gorm.DB, m *[]map[string]any) *gorm.DB {
		return db.Model(&Author{}).Select("authors.name, n").
			Joins("JOIN (?) AS c ON c.author_id = authors.id", db.Model(&Book{}).Select("author_id, count(*) AS n").Group("author_id")).
			Order("authors.id").Find(m)
	}),
	found("clause.From", func(db *gorm.DB, m *[]map[string]any) *gorm.DB {
		return db.Model(&Author{}).Clauses(clause.From{Tables: []clause.Table{{Name: "companies"}}}).Select("name").Order("id").Find(m)
	}),
	found("Scopes", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("age = ?", 40) }).Order("id").Find(a)
	}),
	one("FirstOrInit", func(db *gorm.DB, a *Author) *gorm.DB {
		return db.Where(Author{Name: "Eve"}).Attrs(Author{Age: 9}).FirstOrInit(a)
	}),
	one("FirstOrCreate", func(db *gorm.DB, a *Author) *gorm.DB {
		return db.Where(Author{Name: "Eve"}).Attrs(Author{Age: 9}).FirstOrCreate(a)
	}),
	one("FirstOrCreate of one that is there", func(db *gorm.DB, a *Author) *gorm.DB {
		return db.Where(Author{Name: "Ann"}).Assign(Author{Age: 31}).FirstOrCreate(a)
	}),
	one("generics", func(db *gorm.DB, a *[]Author) *gorm.DB {
		var err error
		*a, err = gorm.G[Author](db).Where("age = ?", 40).Order("id").Find(db.Statement.Context)
		return asError(db, err)
	}),
	one("generics Joins", func(db *gorm.DB, a *[]Author) *gorm.DB {
		var err error
		*a, err = gorm.G[Author](db).Joins(clause.Has("Company"), func(j gorm.JoinBuilder, _, _ clause.Table) error {
			j.Where("name = ?", "A")
			return nil
		}).Order("authors.id").Find(db.Statement.Context)
		return asError(db, err)
	}),
	one("generics Update", func(db *gorm.DB, n *int) *gorm.DB {
		var err error
		*n, err = gorm.G[Author](db).Where("age = ?", 40).Update(db.Statement.Context, "age", 41)
		return asError(db, err)
	}),
	one("generics Delete", func(db *gorm.DB, n *int) *gorm.DB {
		var err error
		*n, err = gorm.G[Company](db).Where("id = ?", 2).Delete(db.Statement.Context)
		return asError(db, err)
	}),

	one("Create", func(db *gorm.DB, a *Author) *gorm.DB { a.Name = "Eve"; return db.Create(a) }),
	one("Create with associations", func(db *gorm.DB, a *Author) *gorm.DB {
		*a = Author{Name: "Eve", Company: &Company{Name: "C"}, Profile: &Profile{Bio: "b"}, Books: []Book{{Title: "x"}, {Title: "y"}}, Tags: []Tag{{Label: "new"}, {ID: 1, Label: "red"}}}
		return db.Create(a)
	}),
	one("Create of slices", func(db *gorm.DB, a *[]Author) *gorm.DB {
		*a = []Author{{Name: "Eve", Company: &Company{Name: "C"}}, {Name: "Fay", Company: &Company{Name: "D"}}}
		return db.Create(a)
	}),
	one("CreateInBatches", func(db *gorm.DB, a *[]Tag) *gorm.DB {
		*a = []Tag{{Label: "x"}, {Label: "y"}, {Label: "z"}}
		return db.CreateInBatches(a, 2)
	}),
	done("Create from a map", func(db *gorm.DB) *gorm.DB { return db.Model(&Author{}).Create(map[string]any{"name": "Eve", "age": 5}) }),
	done("Create on conflict do nothing", func(db *gorm.DB) *gorm.DB {
		return db.Clauses(clause.OnConflict{DoNothing: true}).Create(&[]Tag{{ID: 1, Label: "again"}, {Label: "new"}})
	}),
	done("Create on conflict update all", func(db *gorm.DB) *gorm.DB {
		return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&[]Tag{{ID: 1, Label: "again"}, {Label: "new"}})
	}),
	one("Save", func(db *gorm.DB, a *Author) *gorm.DB {
		*a = Author{ID: 1, TenantID: acme, Name: "Anne", Age: 31}
		return db.Save(a)
	}),
	one("Save of a new one", func(db *gorm.DB, a *Author) *gorm.DB { a.Name = "Eve"; return db.Save(a) }),
	one("Save of a new one with an id", func(db *gorm.DB, a *Author) *gorm.DB { *a = Author{ID: 77, Name: "Eve"}; return db.Save(a) }),
	done("Save of slices", func(db *gorm.DB) *gorm.DB { return db.Save(&[]Tag{{ID: 1, Label: "rosy"}, {Label: "new"}}) }),

	done("Update", func(db *gorm.DB) *gorm.DB { return db.Model(&Author{}).Where("age = ?", 40).Update("age", 41) }),
	done("Update by the model's id", func(db *gorm.DB) *gorm.DB { return db.Model(&Author{ID: 2}).Update("age", 41) }),
	done("Update of another's id", func(db *gorm.DB) *gorm.DB { return db.Model(&Author{ID: 102}).Update("age", 41) }),
	done("Update with Or", func(db *gorm.DB) *gorm.DB {
		return db.Model(&Author{}).Where("age = ?", 30).Or("age = ?", 50).Update("age", 41)
	}),
	done("Updates of a struct", func(db *gorm.DB) *gorm.DB { return db.Model(&Author{ID: 2}).Updates(Author{Name: "Bo", Age: 41}) }),
	done("Updates of a map", func(db *gorm.DB) *gorm.DB {
		return db.Model(&Author{}).Where("id = ?", 2).Updates(map[string]any{"age": gorm.Expr("age + ?", 1)})
	}),
	done("Updates by a subquery", func(db *gorm.DB) *gorm.DB {
		return db.Model(&Author{}).Where("id = ?", 2).Update("name", db.Model(&Company{}).Select("name").Where("companies.id = authors.company_id"))
	}),
	done("Update without conditions", func(db *gorm.DB) *gorm.DB { return db.Model(&Author{}).Update("age", 1) }),
	done("Update of soft-deleted without conditions", func(db *gorm.DB) *gorm.DB { return db.Model(&Book{}).Update("title", "x") }),
	done("Update after Count", func(db *gorm.DB) *gorm.DB {
		var n int64
		tx := db.Model(&Author{})
		if err := tx.Count(&n).Error; err != nil {
			return tx
		}
		return tx.Update("age", 1)
	}),
	done("AllowGlobalUpdate", func(db *gorm.DB) *gorm.DB {
		return db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Author{}).Update("age", 1)
	}),
	done("UpdateColumn of a table", func(db *gorm.DB) *gorm.DB { return db.Table("authors").Where("age = ?", 40).UpdateColumn("age", 1) }),
	done("Update of soft-deleted", func(db *gorm.DB) *gorm.DB { return db.Model(&Book{}).Where("author_id = ?", 1).Update("title", "x") }),
	one("Update returning", func(db *gorm.DB, a *[]Author) *gorm.DB {
		return db.Model(a).Clauses(clause.Returning{}).Where("age = ?", 40).Update("age", 41)
	}),
	done("Update from", func(db *gorm.DB) *gorm.DB {
		return db.Model(&Author{}).Clauses(clause.From{Tables: []clause.Table{{Name: "companies"}}}).
			Where("companies.id = authors.company_id AND companies.name = ?", "A").Update("age", 1)
	}),
	done("Delete by id", func(db *gorm.DB) *gorm.DB { return db.Delete(&Profile{}, 1) }),
	done("Delete of another's id", func(db *gorm.DB) *gorm.DB { return db.Delete(&Profile{}, 101) }),
	done("Delete with conditions", func(db *gorm.DB) *gorm.DB { return db.Where("bio LIKE ?", "bio%").Delete(&Profile{}) }),
	done("Delete without conditions", func(db *gorm.DB) *gorm.DB { return db.Delete(&Profile{}) }),
	done("Delete of soft-deleted without conditions", func(db *gorm.DB) *gorm.DB { return db.Delete(&Book{}) }),
	done("Delete all", func(db *gorm.DB) *gorm.DB {
		return db.Session(&gorm.Session{AllowGlobalUpdate: true}).Delete(&Profile{})
	}),
	done("soft Delete", func(db *gorm.DB) *gorm.DB { return db.Delete(&Book{ID: 1}) }),
	done("soft Delete with Or", func(db *gorm.DB) *gorm.DB { return db.Where("id = ?", 1).Or("id = ?", 2).Delete(&Book{}) }),
	done("soft Delete all", func(db *gorm.DB) *gorm.DB {
		return db.Session(&gorm.Session{AllowGlobalUpdate: true}).Delete(&Book{})
	}),
	done("Unscoped Delete", func(db *gorm.DB) *gorm.DB { return db.Unscoped().Where("id = ?", 3).Delete(&Book{}) }),
	done("Delete of slices", func(db *gorm.DB) *gorm.DB { return db.Delete(&[]Book{{ID: 1}, {ID: 2}, {ID: 104}}) }),
	one("Delete returning", func(db *gorm.DB, p *[]Profile) *gorm.DB {
		return db.Clauses(clause.Returning{}).Where("bio <> ''").Delete(p)
	}),
	done("Delete with Select of associations", func(db *gorm.DB) *gorm.DB { return db.Select("Profile", "Tags").Delete(&Author{ID: 1}) }),

	found("Association Find", func(db *gorm.DB, b *[]Book) *gorm.DB {
		return asError(db, db.Model(&Author{ID: 1}).Order("books.id").Association("Books").Find(b))
	}),
	found("Association Find of many", func(db *gorm.DB, g *[]Tag) *gorm.DB {
		return asError(db, db.Model(&Author{ID: 1}).Order("tags.id").Association("Tags").Find(g))
	}),
	one("Association Count", func(db *gorm.DB, n *int64) *gorm.DB {
		association := db.Model(&Author{ID: 1}).Association("Tags")
		*n = association.Count()
		return asError(db, association.Error)
	}),
	done("Association Append", func(db *gorm.DB) *gorm.DB {
		return asError(db, db.Model(&Author{ID: 2}).Association("Tags").Append(&Tag{Label: "new"}, &Tag{ID: 1, Label: "red"}))
	}),
	done("Association Replace", func(db *gorm.DB) *gorm.DB {
		return asError(db, db.Model(&Author{ID: 1}).Association("Tags").Replace(&Tag{Label: "new"}))
	}),
	done("Association Delete", func(db *gorm.DB) *gorm.DB {
		return asError(db, db.Model(&Author{ID: 1}).Association("Tags").Delete(&Tag{ID: 1}))
	}),
	done("Association Clear", func(db *gorm.DB) *gorm.DB { return asError(db, db.Model(&Author{ID: 1}).Association("Tags").Clear()) }),
	done("Association Replace of has one", func(db *gorm.DB) *gorm.DB {
		return asError(db, db.Model(&Author{ID: 2}).Association("Company").Replace(&Company{Name: "C"}))
	}),

	found("composite key", func(db *gorm.DB, d *[]Doc) *gorm.DB { return db.Order("id").Find(d) }),
	one("composite key First", func(db *gorm.DB, d *Doc) *gorm.DB { return db.Where("id = ?", 2).First(d) }),
	done("composite key Delete", func(db *gorm.DB) *gorm.DB { return db.Delete(&Doc{TenantID: keyTenant(db), ID: 1}) }),
	done("composite key Delete of slices", func(db *gorm.DB) *gorm.DB {
		return db.Delete(&[]Doc{{TenantID: keyTenant(db), ID: 1}, {TenantID: keyTenant(db), ID: 2}})
	}),
	one("composite key Save", func(db *gorm.DB, d *Doc) *gorm.DB {
		*d = Doc{TenantID: keyTenant(db), ID: 1, Title: "saved"}
		return db.Save(d)
	}),
	one("composite key Save of a new one", func(db *gorm.DB, d *Doc) *gorm.DB {
		*d = Doc{TenantID: keyTenant(db), ID: 9, Title: "saved"}
		return db.Save(d)
	}),
	one("composite key Create of one that is there", func(db *gorm.DB, d *Doc) *gorm.DB {
		*d = Doc{TenantID: keyTenant(db), ID: 1, Title: "again"}
		return db.Create(d)
	}),
	one("composite key Association Count", func(db *gorm.DB, n *int64) *gorm.DB {
		association := db.Model(&Doc{TenantID: keyTenant(db), ID: 1}).Association("Pages")
		*n = association.Count()
		return asError(db, association.Error)
	}),
	found("composite key Association Find", func(db *gorm.DB, p *[]Page) *gorm.DB {
		return asError(db, db.Model(&Doc{TenantID: keyTenant(db), ID: 1}).Order("pages.id").Association("Pages").Find(p))
	}),
	done("composite key Association Append", func(db *gorm.DB) *gorm.DB {
		return asError(db, db.Model(&Doc{TenantID: keyTenant(db), ID: 1}).Association("Pages").Append(&Page{Text: "new"}))
	}),
	done("composite key Update", func(db *gorm.DB) *gorm.DB { return db.Model(&Doc{ID: 1}).Update("title", "x") }),
	found("composite key Preload", func(db *gorm.DB, d *[]Doc) *gorm.DB { return db.Preload("Pages").Order("id").Find(d) }),

	{"Transaction", func(db *gorm.DB) (any, *gorm.DB) {
		var n int64
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Tag{Label: "x"}).Error; err != nil {
				return err
			}
			return tx.Model(&Tag{}).Count(&n).Error
		})
		return n, asError(db, err)
	}},
	{"Transaction whose context says nothing", func(db *gorm.DB) (any, *gorm.DB) {
		var n int64
		var labels []string
		err := db.Transaction(func(tx *gorm.DB) error {
			tx = tx.WithContext(context.Background())
			if err := tx.Create(&Tag{Label: "x"}).Error; err != nil {
				return err
			}
			if err := tx.Model(&Tag{}).Where("id IN (?)", tx.Model(&Tag{}).Select("id")).Count(&n).Error; err != nil {
				return err
			}
			return tx.Model(&Tag{}).Order("id").Pluck("label", &labels).Error
		})
		return fmt.Sprint(n, labels), asError(db, err)
	}},
}

// keyTenant is what a struct must name without the plugin, and need not with it.
func keyTenant(db *gorm.DB) string {
	if _, ok := db.Plugins["tenancy"]; ok {
		return ""
	}
	return acme
}

func TestStatementBehavesAsWithoutPlugin(t *testing.T) {
	plain := newPlain(t)
	guarded := []*side{
		newGuarded(t, "both", tenancy.Config{}),
		newGuarded(t, "policies alone", tenancy.Config{OmitTenantCondition: true}),
		newGuarded(t, "condition alone", tenancy.Config{DangerouslyWarnOnly: true}, disabled()...),
		guardedOf(t, withoutForeignKeys(t, testdb.NewSigned(t), models...), "signed", tenancy.Config{}),
		guardedOf(t, withoutForeignKeys(t, testdb.NewSigned(t), models...), "signed policies alone", tenancy.Config{OmitTenantCondition: true}),
		guardedOf(t, withoutForeignKeys(t, testdb.NewTenantKeys(t), models...), "tenant keys", tenancy.Config{}),
		guardedOf(t, withoutForeignKeys(t, testdb.NewTenantKeys(t), models...), "tenant keys, same ids", tenancy.Config{}),
		guardedOf(t, withoutForeignKeys(t, testdb.NewTenantKeys(t), models...), "tenant keys, policies alone, same ids", tenancy.Config{OmitTenantCondition: true}),
		guardedOf(t, withoutForeignKeys(t, testdb.NewTenantKeys(t), models...), "tenant keys, condition alone", tenancy.Config{DangerouslyWarnOnly: true}, disabled()...),
	}
	for name, p := range map[string]rls.Partitioned{
		"64 partitions":      {Hash: 64},
		"partitions by list": {List: []string{acme}, Hash: 4},
	} {
		parted := testdb.NewPartitioned(t, p, partitionedModels)
		guarded = append(guarded, guardedOf(t, withoutForeignKeys(t, parted, models...), "tenant keys, "+name+", same ids", tenancy.Config{}))
		guarded[len(guarded)-1].parted = true
	}
	if testdb.HasCluster() {
		guarded = append(guarded, newCitus(t))
	}
	for _, s := range guarded {
		if strings.HasSuffix(s.name, "same ids") {
			s.base = 0
		}
	}
	require.Greater(t, len(operations), 100)
	for _, op := range operations {
		want := plain.run(t, op.run)
		for _, s := range guarded {
			t.Run(op.name+"/"+s.name, func(t *testing.T) {
				if strings.HasSuffix(s.name, "condition alone") && othersTable[op.name] {
					return
				}
				s.reset(t)
				others := s.dump(t, globex)
				_ = s.run(t, op.run) // once PostgreSQL has said which tables have the column
				got := s.run(t, op.run)
				sent := strings.Join(s.log.sent, "\n")
				if says, refused := refusedByCitus[op.name]; refused && s.name == "citus" {
					require.Contains(t, got.Err, says)
					return
				}
				if s.parted {
					got.Err = ofPartition.ReplaceAllString(got.Err, "$1")
				}
				if s.name == "citus" {
					got.Err = ofShard.ReplaceAllString(got.Err, `$1"`)
				}
				require.Equal(t, want.Err, got.Err, sent)
				require.Equal(t, withoutTenant(want.Result), withoutTenant(got.Result), sent)
				require.Equal(t, want.Affected, got.Affected, sent)
				require.Equal(t, want.Rows, got.Rows, sent)
				require.Equal(t, others, s.dump(t, globex), sent)
				if (s.name == "both" || s.name == "signed" || strings.HasPrefix(s.name, "tenant keys") && !strings.Contains(s.name, "alone")) && got.Err != gorm.ErrMissingWhereClause.Error() {
					requireTenantOnce(t, s.log.sent)
				}
			})
		}
	}
}

// ofPartition finds what names of indexes have more in a partition.
var ofPartition = regexp.MustCompile(`(?:_p[0-9]{1,2}|_t_[a-z]+)(_pkey")`)

// othersTable names the operations that read a table in SQL of the caller, which only its policy isolates.
var othersTable = map[string]bool{"self-join": true, "a right join": true, "clause.From": true}

// disabled is SQL that takes the policies away.
func disabled() (sql []string) {
	for _, table := range append([]string{"author_tags"}, tenantTables...) {
		sql = append(sql, "ALTER TABLE "+table+" DISABLE ROW LEVEL SECURITY")
	}
	return sql
}

// withoutTenant leaves out the tenant, which rows of the plain side have for other reasons.
func withoutTenant(result string) string {
	return regexp.MustCompile(`"(TenantID|tenant_id)":"[^"]*"`).ReplaceAllString(result, `"$1":""`)
}

var (
	condition = regexp.MustCompile(`"tenant_id" = 'acme'`)
	readFrom  = regexp.MustCompile(`(?i)\b(?:FROM|JOIN|UPDATE) "?(?:` + strings.Join(tenantTables, "|") + `|author_tags)\b`)
	rawJoin   = regexp.MustCompile(`JOIN (?:books|authors|companies)\b`)
	fromOther = regexp.MustCompile(`FROM "companies" (?:WHERE companies|ORDER)|SET "age"=1 FROM "companies"`)
)

// requireTenantOnce requires that each statement which GORM has built names the tenant once for each tenant table in it.
func requireTenantOnce(t *testing.T, sent []string) {
	t.Helper()
	require.NotEmpty(t, sent)
	for _, sql := range sent {
		if strings.HasPrefix(sql, "INSERT") || strings.Contains(sql, "RIGHT JOIN") {
			continue
		}
		tables := len(readFrom.FindAllString(sql, -1)) - len(rawJoin.FindAllString(sql, -1)) - len(fromOther.FindAllString(sql, -1))
		require.Len(t, condition.FindAllString(sql, -1), tables, sql)
	}
}
