package rls

import (
	"fmt"
	"slices"
	"strings"
)

const (
	createUnique = "CREATE UNIQUE INDEX"
	createIndex  = "CREATE INDEX"
	concurrently = " CONCURRENTLY"
)

// planUniques sees to it that what the models want to be unique is so within each tenant, that foreign keys find a key
// with the tenant column to refer to, and that an index leads with this column.
func (i Isolation) planUniques(p *script, t table) {
	var have, indexes [][]string
	if t.Column != nil {
		indexes = slices.Clone(t.Column.Indexes)
	}
	for _, live := range t.Uniques {
		if live.Whole {
			have = append(have, live.Columns)
		}
	}
	for _, u := range t.uniques {
		if !i.planUnique(p, t, u) {
			continue
		}
		columns := append([]string{i.Column}, u.columns...)
		if u.whole() {
			have = append(have, columns)
		}
		if u.suffix == "" {
			indexes = append(indexes, columns)
		}
	}
	for _, columns := range i.keys(t, indexes) {
		if slices.ContainsFunc(have, func(h []string) bool { return sameSet(h, columns) }) {
			continue
		}
		planIndex(p, t, "make unique "+strings.Join(columns, ", "), createUnique, keyName(t.Table, columns), columns)
		indexes = append(indexes, columns)
	}
	if len(indexes) == 0 {
		planIndex(p, t, "index "+i.Column, createIndex, t.index, []string{i.Column})
	}
}

// planUnique makes what a tag of a model asks to be unique so within each tenant. It is false when nothing is left to do.
func (i Isolation) planUnique(p *script, t table, u uniqueness) bool {
	if live, exists := t.unique(u.name); exists && !t.Indexes[u.name] {
		if slices.Contains(live.Columns, i.Column) {
			return false
		}
		i.dropUnique(p, t, live)
	}
	planUnfinished(p, t, u.name)
	what := fmt.Sprintf("make %s unique within a tenant", u.name)
	if live, exists := t.unique(u.prepared()); exists && !t.Indexes[u.prepared()] {
		if slices.Equal(live.Columns, append([]string{i.Column}, u.columns...)) {
			p.add(what, u.adopt(t))
			return true
		}
		p.drop(t, "drop outdated index ", u.prepared())
	}
	planUnfinished(p, t, u.prepared())
	change := p.add(what, u.create(t, i.Column))
	change.early = t.early(u.index(createUnique+concurrently, u.prepared(), t, i.Column))
	change.apart = u.index(createUnique+concurrently, u.name, t, i.Column) + ";\n"
	if u.constraint {
		change.unless(hasConstraint(t, u.name))
		adopt := fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE USING INDEX %[2]s", t.quoted(), ident(u.name))
		change.apart += Change{SQL: adopt, held: change.held}.script()
	}
	return true
}

// dropUnique drops what is unique among all tenants.
func (i Isolation) dropUnique(p *script, t table, live uniqueIndex) {
	what, sql := "drop "+live.Name+", unique among tenants", "DROP INDEX "+t.sibling(live.Name)
	if live.Constraint {
		sql = fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.quoted(), ident(live.Name))
	}
	p.add(what, sql)
}

// planIndex makes an index of columns.
func planIndex(p *script, t table, what, create, name string, columns []string) {
	planUnfinished(p, t, name)
	rest := fmt.Sprintf(" IF NOT EXISTS %s ON %s (%s)", ident(name), t.quoted(), identList(columns))
	change := p.add(what, create+rest)
	change.early, change.apart = t.early(create+concurrently+rest), create+concurrently+rest+";\n"
}

// planUnfinished takes what CREATE INDEX CONCURRENTLY left behind out of the way.
func planUnfinished(p *script, t table, name string) {
	if t.Indexes[name] {
		p.drop(t, "drop unfinished index ", name)
	}
}

// drop drops an index.
func (p *script) drop(t table, what, name string) {
	p.add(what+name, "DROP INDEX "+t.sibling(name)).early = t.early("DROP INDEX CONCURRENTLY " + t.sibling(name))
}

// early returns the statement, if the table is one whose indexes can be made concurrently: it is there, and not partitioned
// (PostgreSQL documentation, CREATE INDEX).
func (t table) early(statement string) string {
	if t.fresh || t.Partitioned {
		return ""
	}
	return statement
}

// unique returns the table's unique index of this name.
func (r relation) unique(name string) (uniqueIndex, bool) {
	for _, u := range r.Uniques {
		if u.Name == name {
			return u, true
		}
	}
	return uniqueIndex{}, false
}
