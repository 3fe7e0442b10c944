package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

const (
	createUnique = "CREATE UNIQUE INDEX"
	createIndex  = "CREATE INDEX"
	concurrently = " CONCURRENTLY"
)

// planUniques ensures that what the models want to be unique is so within each tenant, that foreign keys find a key
// with the tenant column to refer to, and that an index leads with this column.
func (p Planner) planUniques(c *collector, t Table) {
	have, indexes := t.unique()
	for _, u := range t.uniques {
		if p.KeepSchema && !(unique{u}).in(t) || !p.planUnique(c, t, unique{u}) {
			continue
		}
		columns := append([]string{p.Column}, u.Columns...)
		if u.Whole() {
			have = append(have, columns)
		}
		if u.Suffix == "" {
			indexes = append(indexes, columns)
		}
	}
	if p.WidenUniques {
		p.widen(c, t)
	}
	p.planKeys(c, t, have, indexes)
}

// unique returns the columns of what is unique, so that a foreign key can refer to it, and of the indexes that begin with the tenant
// column.
func (t Table) unique() (have, indexes [][]string) {
	if t.Column != nil {
		indexes = slices.Clone(t.Column.Indexes)
	}
	for _, live := range t.Uniques {
		if live.Whole {
			have = append(have, live.Columns)
		}
	}
	return have, indexes
}

// planKeys makes the keys that foreign keys refer to, and an index that begins with the tenant column.
func (p Planner) planKeys(c *collector, t Table, have, indexes [][]string) {
	if p.adopts(t) {
		p.adoptPrimary(c, t)
		key := p.leading(t.Primary)
		have, indexes = append(have, key), append(indexes, key)
	}
	for _, columns := range p.keys(t, indexes) {
		if slices.ContainsFunc(have, func(h []string) bool { return sameSet(h, columns) }) {
			continue
		}
		planIndex(c, t, "make unique "+strings.Join(columns, ", "), createUnique, sqltext.UniqueIndexName(t.Table, columns...), columns)
		indexes = append(indexes, columns)
	}
	if len(indexes) == 0 {
		planIndex(c, t, "index "+p.Column, createIndex, t.index, []string{p.Column})
	}
}

// planUnique makes what a tag of a model asks to be unique so within each tenant. It is false when nothing is left to do.
func (p Planner) planUnique(c *collector, t Table, u unique) bool {
	if live, exists := t.Unique(u.Name); exists && !t.Indexes[u.Name] {
		if slices.Contains(live.Columns, p.Column) {
			return false
		}
		p.dropUnique(c, t, live)
	}
	planUnfinished(c, t, u.Name)
	what := fmt.Sprintf("make %s unique within a tenant", u.Name)
	if live, exists := t.Unique(u.prepared()); exists && !t.Indexes[u.prepared()] {
		if slices.Equal(live.Columns, append([]string{p.Column}, u.Columns...)) {
			c.add(what, u.adopt(t))
			return true
		}
		c.drop(t, "drop outdated index ", u.prepared())
	}
	planUnfinished(c, t, u.prepared())
	change := c.add(what, u.create(t, p.Column))
	change.Misfits = p.duplicates(&t, u)
	change.early(t, Indexes, u.index(createUnique+concurrently, u.prepared(), t, p.Column), u.adopt(t))
	change.Apart = u.index(createUnique+concurrently, u.Name, t, p.Column) + ";\n"
	if u.Constraint {
		change.unless(hasConstraint(t, u.Name))
		adopt := fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE USING INDEX %[2]s", t.Quoted(), sqltext.Ident(u.Name))
		change.Apart += Change{SQL: adopt, held: change.held}.script()
	}
	return true
}

// widen makes what is unique without a tag unique within each tenant.
func (p Planner) widen(c *collector, t Table) {
	for _, live := range t.Uniques {
		tagged := slices.ContainsFunc(t.uniques, func(u model.Unique) bool { return u.Name == live.Name || (unique{u}).prepared() == live.Name })
		if live.Primary || tagged || slices.Contains(live.Columns, p.Column) || t.Indexes[live.Name] || t.Fresh {
			continue
		}
		what := fmt.Sprintf("make %s unique within a tenant", live.Name)
		name, column := sqltext.Ident(live.Name), sqltext.Ident(p.Column)
		if live.Constraint {
			head, columns, _ := strings.Cut(live.Definition, "(")
			c.add(what, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %[2]s %s(%s, %s", t.Quoted(), name, head, column, columns))
			continue
		}
		c.add("drop "+live.Name+", unique among tenants", "DROP INDEX "+t.Sibling(live.Name))
		c.add(what, fmt.Sprintf("%s %s ON %s USING %s (%s, %s", createUnique, name, t.Quoted(), sqltext.Ident(live.Method), column, live.Definition))
	}
}

// dropUnique drops what is unique among all tenants.
func (p Planner) dropUnique(c *collector, t Table, live catalog.UniqueIndex) {
	what, sql := "drop "+live.Name+", unique among tenants", "DROP INDEX "+t.Sibling(live.Name)
	if live.Constraint {
		sql = fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.Quoted(), sqltext.Ident(live.Name))
	}
	c.add(what, sql)
}

// planIndex makes an index of columns.
func planIndex(c *collector, t Table, what, create, name string, columns []string) {
	planUnfinished(c, t, name)
	rest := fmt.Sprintf(" IF NOT EXISTS %s ON %s (%s)", sqltext.Ident(name), t.Quoted(), sqltext.Idents(columns))
	change := c.add(what, create+rest)
	change.early(t, Indexes, create+concurrently+rest)
	change.Apart = create + concurrently + rest + ";\n"
}

// planUnfinished takes what CREATE INDEX CONCURRENTLY left behind out of the way.
func planUnfinished(c *collector, t Table, name string) {
	if t.Indexes[name] {
		c.drop(t, "drop unfinished index ", name)
	}
}

// drop drops an index.
func (c *collector) drop(t Table, what, name string) {
	c.add(what+name, "DROP INDEX "+t.Sibling(name)).early(t, Indexes, "DROP INDEX CONCURRENTLY "+t.Sibling(name))
}

// early reports whether the table can be changed in short steps. One that is not there yet needs none, and of a partitioned one
// neither indexes can be made concurrently nor foreign keys be validated later (PostgreSQL documentation, CREATE INDEX and ALTER TABLE).
func (t Table) early() bool { return !t.Fresh && !t.Partitioned }
