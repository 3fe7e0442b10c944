package statement_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"pgregory.net/rapid"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// What GORM's methods do alone, reference_test.go compares. Here they are composed at random: conditions, groups, joins, subqueries,
// preloads and what ends the chain.

// part is a piece of a query. Root is a client for subqueries, under the context of the query or, as most code has it, under none.
type part func(db, root *gorm.DB) *gorm.DB

// composed is a query by authors or by books.
type composed struct {
	text  []string // what it is made of, for failures
	parts []part
	table string // the name under which its table is known in SQL
	book  bool
	other bool // it names a table in SQL of the caller, to which nothing but policies applies
	joins bool
}

func (c *composed) add(text string, p part) {
	c.text = append(c.text, text)
	c.parts = append(c.parts, p)
}

func (c *composed) on(db, root *gorm.DB) *gorm.DB {
	for _, p := range c.parts {
		db = p(db, root)
	}
	return db
}

// condition draws the arguments of Where, Or and Not.
func (c *composed) condition(t *rapid.T, depth int) (string, func(root *gorm.DB) []any) {
	n := rapid.IntRange(1, 5).Draw(t, "n")
	age := 10 * n
	name := rapid.SampledFrom([]string{"Ann", "Bob", "one", "two", "x OR y", "--", "'"}).Draw(t, "name")
	column, number, text := c.table+".age", age, c.table+".name"
	if c.book {
		column, number, text = c.table+".author_id", n, c.table+".title"
	}
	short := strings.TrimPrefix(column, c.table+".")
	is := func(args ...any) func(*gorm.DB) []any { return func(*gorm.DB) []any { return args } }
	kinds := []string{"tenant", "raw", "map", "eq", "in", "named", "or", "tenant", "null", "pair", "expr", "like", "clauses", "not", "struct", "ids", "in subquery", "average"}
	if depth > 0 {
		kinds = append(kinds, "group", "group", "exists", "table")
	}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "condition"); kind {
	case "raw":
		return column + " > " + fmt.Sprint(number), is(column+" > ?", number)
	case "map":
		return "map", is(map[string]any{short: []int{number, 10 + number}})
	case "eq":
		return "Eq", is(clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: short}, Value: number})
	case "in":
		return "IN", is(column+" IN ?", []int{number, 2, 30})
	case "named":
		return "named", is(column+" = @n OR "+text+" = @name", map[string]any{"n": number, "name": name})
	case "or":
		return "or", is(column+" = ? or\t"+text+" = ?", number, name)
	case "tenant":
		return "tenant", rapid.SampledFrom([]func(*gorm.DB) []any{
			is(c.table+".tenant_id = ?", acme), is(map[string]any{"tenant_id": acme}),
			is(clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: "tenant_id"}, Value: acme}),
		}).Draw(t, "form")
	case "null":
		return "NULL", is(text + " IS NULL OR " + text + " <> ''")
	case "pair":
		return "pair", is("("+c.table+".id, "+column+") IN ?", [][]any{{1, 30}, {n, number}})
	case "expr":
		return "Expr", is(gorm.Expr("? = "+column+" OR ?", number, gorm.Expr(text+" = ?", name)))
	case "like":
		return "LIKE", is(text+" LIKE ? /* or not */", "%o%")
	case "clauses":
		return "clauses", is(clause.Or(
			clause.Gt{Column: clause.Column{Table: clause.CurrentTable, Name: short}, Value: number},
			clause.And(clause.Neq{Column: clause.Column{Table: clause.CurrentTable, Name: "id"}, Value: n}, clause.Not(clause.IN{
				Column: clause.Column{Table: clause.CurrentTable, Name: "id"}, Values: []any{1, n},
			}))))
	case "not":
		return "NOT", is("NOT ("+column+" = ?)", number)
	case "struct":
		if c.book {
			return "struct", is(&Book{AuthorID: int64(n)})
		}
		return "struct", is(&Author{Age: age})
	case "ids":
		return "ids", is([]int{1, n, 101, 102})
	case "in subquery":
		negated := rapid.SampledFrom([]string{"", "NOT "}).Draw(t, "negated")
		return negated + "IN (?)", func(root *gorm.DB) []any {
			if c.book {
				return []any{c.table + ".author_id " + negated + "IN (?)", root.Model(&Author{}).Select("id").Where("age > ?", age)}
			}
			return []any{c.table + ".id " + negated + "IN (?)", root.Model(&Book{}).Select("author_id").Where("title <> ?", name).Or("id = ?", n)}
		}
	case "average":
		return "> (?)", func(root *gorm.DB) []any {
			return []any{c.table + ".id >= (?)", root.Model(&Author{}).Select("min(id)").Where("age >= ?", age).Having("count(*) > 0")}
		}
	case "exists":
		return "EXISTS (?)", func(root *gorm.DB) []any {
			if c.book {
				return []any{"EXISTS (?)", root.Model(&Author{}).Select("1").Where("authors.id = "+c.table+".author_id").Where("age = ?", age)}
			}
			return []any{"EXISTS (?)", root.Model(&Book{}).Select("1").Where("books.author_id = " + c.table + ".id")}
		}
	case "table":
		c.other = true
		return "IN (SELECT)", func(root *gorm.DB) []any {
			return []any{c.table + ".id IN (?)", root.Table("tags").Select("tags.id").Joins("JOIN author_tags ON author_tags.tag_id = tags.id")}
		}
	default:
		first, a := c.condition(t, depth-1)
		second, b := c.condition(t, depth-1)
		join := rapid.SampledFrom([]string{"Or", "Where", "Not"}).Draw(t, "join")
		return "(" + first + " " + join + " " + second + ")", func(root *gorm.DB) []any {
			group := where(root, "Where", a(root))
			return []any{where(group, join, b(root))}
		}
	}
}

func where(db *gorm.DB, method string, args []any) *gorm.DB {
	switch method {
	case "Or":
		return db.Or(args[0], args[1:]...)
	case "Not":
		return db.Not(args[0], args[1:]...)
	default:
		return db.Where(args[0], args[1:]...)
	}
}

func (c *composed) addConditions(t *rapid.T, least int) {
	for range rapid.IntRange(least, 3).Draw(t, "conditions") {
		method := rapid.SampledFrom([]string{"Where", "Where", "Or", "Or", "Not"}).Draw(t, "method")
		text, args := c.condition(t, 2)
		if rapid.IntRange(0, 5).Draw(t, "in a scope") == 0 {
			c.add("Scopes("+method+" "+text+")", func(db, root *gorm.DB) *gorm.DB {
				return db.Scopes(func(db *gorm.DB) *gorm.DB { return where(db, method, args(root)) })
			})
			continue
		}
		c.add(method+" "+text, func(db, root *gorm.DB) *gorm.DB { return where(db, method, args(root)) })
	}
}

func (c *composed) addJoins(t *rapid.T) {
	relations := []string{"Company", "Profile"}
	raw := []string{
		"LEFT JOIN books b ON b.author_id = authors.id", "JOIN companies c ON c.id = authors.company_id AND c.name <> 'or'",
		"RIGHT JOIN companies c ON c.id = authors.company_id", "FULL OUTER JOIN profiles p ON p.author_id = authors.id", "CROSS JOIN tags",
	}
	if c.book {
		relations = []string{"Author", "Author.Company"}
		raw = []string{"LEFT JOIN authors a ON a.id = books.author_id", "JOIN authors right_author ON right_author.id = books.author_id", "CROSS JOIN tags"}
	}
	for range rapid.IntRange(0, 2).Draw(t, "joins") {
		c.joins = true
		relation := rapid.SampledFrom(relations).Draw(t, "relation")
		switch kind := rapid.SampledFrom([]string{"Joins", "InnerJoins", "on", "raw", "subquery"}).Draw(t, "join"); kind {
		case "Joins":
			c.add("Joins "+relation, func(db, _ *gorm.DB) *gorm.DB { return db.Joins(relation) })
		case "InnerJoins":
			c.add("InnerJoins "+relation, func(db, _ *gorm.DB) *gorm.DB { return db.InnerJoins(relation) })
		case "on":
			c.add("Joins on "+relation, func(db, root *gorm.DB) *gorm.DB {
				return db.Joins(relation, root.Where(root.Where("1 = 1").Or("2 = 2")).Or("1 = 2"))
			})
		case "raw":
			sql := rapid.SampledFrom(raw).Draw(t, "sql")
			c.other = true
			c.add(sql, func(db, _ *gorm.DB) *gorm.DB { return db.Joins(sql) })
		default:
			name := fmt.Sprintf("s%d", len(c.parts))
			on := "authors.id"
			if c.book {
				on = "books.author_id"
			}
			c.add("Joins (?)", func(db, root *gorm.DB) *gorm.DB {
				return db.Joins("LEFT JOIN (?) "+name+" ON "+name+".author_id = "+on, root.Model(&Book{}).Select("author_id, count(*) AS n").Group("author_id"))
			})
		}
	}
}

// newQuery draws a query up to what ends it.
func newQuery(t *rapid.T, conditions int, joins bool) *composed {
	c := &composed{table: "authors", book: rapid.Bool().Draw(t, "books")}
	if c.book {
		c.table = "books"
	}
	if joins {
		c.addJoins(t)
	}
	if !c.joins && joins && rapid.IntRange(0, 4).Draw(t, "alias") == 0 {
		table := c.table
		c.table = "x"
		c.add("Table "+table+" AS x", func(db, _ *gorm.DB) *gorm.DB { return db.Table(table + " AS x") })
	}
	c.addConditions(t, conditions)
	if c.book && rapid.IntRange(0, 4).Draw(t, "unscoped") == 0 {
		c.add("Unscoped", func(db, _ *gorm.DB) *gorm.DB { return db.Unscoped() })
	}
	return c
}

func (c *composed) model() any {
	if c.book {
		return &Book{}
	}
	return &Author{}
}

// results is what a query has found, as JSON texts without order.
func results[T any](found []T) []string {
	var texts []string
	for _, v := range found {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		texts = append(texts, withoutTenant(string(text)))
	}
	slices.Sort(texts)
	return texts
}

func find[T any](db *gorm.DB) ([]string, *gorm.DB) {
	var found []T
	tx := db.Find(&found)
	return results(found), tx
}

var errEndless = errors.New("GORM finds the same batch again where an OR stands beside its condition")

func batches[T any](db *gorm.DB) ([]string, *gorm.DB) {
	var batch, all []T
	tx := db.FindInBatches(&batch, 2, func(_ *gorm.DB, n int) error {
		if n > 9 {
			return errEndless
		}
		all = append(all, batch...)
		return nil
	})
	return results(all), tx
}

type ending func(c *composed, db *gorm.DB) ([]string, *gorm.DB)

func (c *composed) find(db *gorm.DB) ([]string, *gorm.DB) {
	if c.book {
		return find[Book](db)
	}
	return find[Author](db)
}

// readings end a query that reads.
var readings = map[string]ending{
	"Find": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) { return c.find(db) },
	"Find with Preload": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			return c.find(db.Preload("Author.Profile").Preload("Author.Tags", "label <> ? OR 1 = 1", "red"))
		}
		return c.find(db.Preload(clause.Associations).Preload("Books", func(db *gorm.DB) *gorm.DB { return db.Where("title <> 'one'").Or("title = 'one'").Order("id") }))
	},
	"Find some": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		return c.find(db.Distinct().Omit("Company", "Author").Order(c.table + ".id").Limit(2).Offset(1))
	},
	"First": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			var b Book
			tx := db.First(&b)
			return results([]Book{b}), tx
		}
		var a Author
		tx := db.First(&a)
		return results([]Author{a}), tx
	},
	"Count": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		var n int64
		tx := db.Model(c.model()).Count(&n)
		return results([]int64{n}), tx
	},
	"Count distinct": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		var n int64
		tx := db.Model(c.model()).Distinct(c.table + ".id").Count(&n)
		return results([]int64{n}), tx
	},
	"Pluck": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		var ids []int64
		tx := db.Model(c.model()).Pluck(c.table+".id", &ids)
		return results(ids), tx
	},
	"groups": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		var rows []map[string]any
		tx := db.Model(c.model()).Select("count(*) AS n, max(" + c.table + ".id) AS last").Group(c.table + ".id % 2").Having("count(*) > 0 OR 1 = 2").Find(&rows)
		return results(rows), tx
	},
	"Rows": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		rows, err := db.Model(c.model()).Select(c.table + ".id::text").Rows()
		ids, tx := scanned(db, rows, err)
		slices.Sort(ids)
		return ids, tx
	},
	"subquery": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		var rows []map[string]any
		outer := db.Session(&gorm.Session{NewDB: true})
		tx := outer.Table("(?) AS q", db.Model(c.model()).Select(c.table+".id")).Where("q.id > 0").Or("q.id = 1").Find(&rows)
		return results(rows), tx
	},
	"lock": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		return c.find(db.Clauses(clause.Locking{Strength: "SHARE", Table: clause.Table{Name: c.table}}))
	},
	"batches": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			return batches[Book](db)
		}
		return batches[Author](db)
	},
}

// writings end a query that writes.
var writings = map[string]ending{
	"Update": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		return nil, db.Model(c.model()).Update("id", gorm.Expr("id"))
	},
	"Updates": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			return nil, db.Model(&Book{}).Updates(Book{Title: "written"})
		}
		return nil, db.Model(&Author{}).Updates(map[string]any{"age": gorm.Expr("age + ?", 1), "name": "written"})
	},
	"Updates of an id": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			return nil, db.Model(&Book{ID: 2}).Updates(Book{Title: "written"})
		}
		return nil, db.Model(&Author{ID: 2}).Updates(Author{Name: "written"})
	},
	"UpdateColumn": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			return nil, db.Model(&Book{}).UpdateColumn("title", db.Session(&gorm.Session{NewDB: true}).Model(&Author{}).Select("max(name)").Where("authors.id = books.author_id"))
		}
		return nil, db.Model(&Author{}).UpdateColumn("name", "written")
	},
	"returning": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			var b []Book
			tx := db.Model(&b).Clauses(clause.Returning{}).Update("title", "written")
			return results(b), tx
		}
		var a []Author
		tx := db.Model(&a).Clauses(clause.Returning{}).Update("name", "written")
		return results(a), tx
	},
	"Delete": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) { return nil, db.Delete(c.model()) },
	"Delete of an id": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			return nil, db.Delete(&Book{}, []int{1, 2, 102})
		}
		return nil, db.Delete(&Author{ID: 2})
	},
	"Delete of all": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		return nil, db.Session(&gorm.Session{AllowGlobalUpdate: true}).Delete(c.model())
	},
	"FirstOrCreate": func(c *composed, db *gorm.DB) ([]string, *gorm.DB) {
		if c.book {
			b := Book{}
			tx := db.Attrs(Book{AuthorID: 1}).Assign(Book{Title: "assigned"}).FirstOrCreate(&b)
			return results([]Book{b}), tx
		}
		a := Author{}
		tx := db.Attrs(Author{Age: 7}).Assign(Author{Name: "assigned"}).FirstOrCreate(&a)
		return results([]Author{a}), tx
	},
}

func draw(t *rapid.T, endings map[string]ending) (string, ending) {
	names := make([]string, 0, len(endings))
	for name := range endings {
		names = append(names, name)
	}
	slices.Sort(names)
	name := rapid.SampledFrom(names).Draw(t, "ending")
	return name, endings[name]
}

// composedSides are the clients that are compared.
func composedSides(t *testing.T) (plain *side, guarded []*side) {
	plain = newPlain(t)
	prepared := newGuarded(t, "prepared", tenancy.Config{})
	prepared.db = prepared.db.Session(&gorm.Session{PrepareStmt: true})
	guarded = []*side{
		newGuarded(t, "both", tenancy.Config{}), prepared,
		newGuarded(t, "policies alone", tenancy.Config{OmitTenantCondition: true}),
		newGuarded(t, "condition alone", tenancy.Config{DangerouslyWarnOnly: true}, disabled()...),
		guardedOf(t, withoutForeignKeys(t, testdb.NewTenantKeys(t), models...), "tenant keys, same ids", tenancy.Config{}),
	}
	guarded[len(guarded)-1].base = 0
	return plain, guarded
}

// check compares what a query does on all sides. Each side is as every operation begins.
func (c *composed) check(t *rapid.T, plain *side, guarded []*side, name string, end ending, bare bool) (want []string) {
	run := func(s *side) (found []string, err string, affected int64) {
		s.log.sent = nil
		root := s.db.Session(&gorm.Session{NewDB: true})
		if bare && s != plain {
			root = root.WithContext(t.Context())
		}
		found, tx := end(c, c.on(s.db, root))
		if tx.Error != nil {
			if err = tx.Error.Error(); strings.Contains(err, "SQLSTATE") {
				err = err[strings.LastIndex(err, "("):] // what PostgreSQL says names other columns
			}
		}
		return found, err, tx.RowsAffected
	}
	want, wantErr, wantAffected := run(plain)
	for _, s := range guarded {
		if s.name == "condition alone" && c.other {
			continue
		}
		found, err, affected := run(s)
		about := fmt.Sprintf("%s: %s %s\nplain: %s\nguarded: %s", s.name, strings.Join(c.text, ", "), name, plain.log.sent, s.log.sent)
		require.Equal(t, wantErr, err, about)
		if err != "" {
			continue
		}
		require.Equal(t, want, found, about)
		require.Equal(t, wantAffected, affected, about)
	}
	return want
}

// composedQueries is how many queries of each kind are composed.
func composedQueries(t *testing.T, n int) {
	t.Helper()
	for name, value := range map[string]string{"rapid.checks": fmt.Sprint(n), "rapid.seed": "1"} {
		f := flag.Lookup(name)
		if f.Value.String() == f.DefValue {
			require.NoError(t, f.Value.Set(value))
			t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
		}
	}
}

// TestComposedQueries: a query that is composed at random finds the same with the plugin, among the rows of two tenants, as without, in
// a database that holds the rows of one. -rapid.seed=N composes others.
func TestComposedQueries(t *testing.T) {
	plain, guarded := composedSides(t)
	for _, s := range append(guarded, plain) {
		s.reset(t)
	}
	composedQueries(t, 600)
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		c := newQuery(t, 0, true)
		name, end := draw(t, readings)
		if len(c.check(t, plain, guarded, name, end, rapid.Bool().Draw(t, "bare"))) > 0 {
			found++
		}
	})
	require.Greater(t, found, 200, "queries that found something")
}

// TestComposedWrites does the same with updates and deletes, and compares all rows afterwards, also those of the other tenant.
func TestComposedWrites(t *testing.T) {
	plain, guarded := composedSides(t)
	for _, s := range guarded {
		s.reset(t)
	}
	others := make([]string, len(guarded))
	for i, s := range guarded {
		others[i] = s.dump(t, globex)
	}
	composedQueries(t, 60)
	testing := t
	rapid.Check(t, func(t *rapid.T) {
		for _, s := range append(guarded, plain) {
			s.reset(testing)
		}
		c := newQuery(t, 0, false)
		name, end := draw(t, writings)
		c.check(t, plain, guarded, name, end, rapid.Bool().Draw(t, "bare"))
		want := plain.dump(testing, acme)
		for i, s := range guarded {
			if s.name == "condition alone" && c.other {
				continue
			}
			about := fmt.Sprintf("%s: %s %s\n%s", s.name, strings.Join(c.text, ", "), name, s.log.sent)
			require.Equal(t, want, s.dump(testing, acme), about)
			require.Equal(t, others[i], s.dump(testing, globex), about)
		}
	})
}
