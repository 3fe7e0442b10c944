package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// parent is a tenant table that a child table refers to.
type parent struct {
	model.Parent
	to *Table
}

// byDepth returns the tables with the parents before their children, and otherwise in their order.
func byDepth(tables []Table) []*Table {
	ordered := make([]*Table, len(tables))
	for n := range tables {
		ordered[n] = &tables[n]
	}
	slices.SortStableFunc(ordered, func(a, b *Table) int { return a.depth - b.depth })
	return ordered
}

// planFill gives the rows of a child table the tenants of the rows that they refer to. Of several parents each may be missing in
// a row; that they agree is what the foreign keys require. What refers to no parent is left to Backfill.
func (p Planner) planFill(c *collector, t Table) {
	if t.Required[p.requirement()] {
		return // no row is without one
	}
	column := sqltext.Ident(p.Column)
	if expression := p.Fills[t.name]; expression != "" {
		sql := fmt.Sprintf("UPDATE %s child SET %s = (%s) WHERE child.%[2]s IS NULL AND (%[3]s) IS NOT NULL", t.Quoted(), column, expression)
		c.add("give each row its tenant", sql).batches(t, sql)
	}
	for _, parent := range t.parents {
		if parent.to.name == t.name {
			continue
		}
		sql := parent.fill(t, column, sqltext.Ident(p.columnOf(parent.to)))
		c.add(fmt.Sprintf("give each row the tenant of its row of %s", parent.to.Relation), sql).batches(t, sql, parent.to)
	}
	for _, parent := range t.parents {
		if parent.to.name != t.name {
			continue
		}
		// A row that only refers to one of the same table has the tenant of the last in the chain.
		keys := aliased("", parent.Keys)
		c.add("give each row the tenant of the row that it refers to", fmt.Sprintf(
			"WITH RECURSIVE parent (%[1]s, %[2]s) AS (SELECT %[1]s, %[2]s FROM %[3]s WHERE %[2]s IS NOT NULL "+
				"UNION SELECT %[4]s, parent.%[2]s FROM %[3]s child JOIN parent ON %[5]s WHERE child.%[2]s IS NULL) "+
				"UPDATE %[3]s child SET %[2]s = parent.%[2]s FROM parent WHERE child.%[2]s IS NULL AND %[5]s",
			keys, column, t.Quoted(), aliased("child.", parent.Keys), parent.matches())).
			batches(t, parent.fill(t, column, column), parent.to)
	}
}

// fill gives the rows of the child t that have no tenant that of their row of the parent.
func (p parent) fill(t Table, column, parentColumn string) string {
	return fmt.Sprintf("UPDATE %[1]s child SET %[2]s = parent.%[5]s FROM %[3]s parent WHERE child.%[2]s IS NULL AND parent.%[5]s IS NOT NULL AND %[4]s",
		t.Quoted(), column, p.to.Quoted(), p.matches(), parentColumn)
}

// matches is the condition that a row of the child refers to one of the parent.
func (p parent) matches() string { return p.matchesAs("child", "parent") }

// matchesAs does what matches does, in a query that calls the two by these names.
func (p parent) matchesAs(child, parent string) string {
	terms := make([]string, 0, len(p.Columns)+1)
	for n := range p.Columns {
		terms = append(terms, fmt.Sprintf("%s.%s = %s.%s", child, sqltext.Ident(p.Columns[n]), parent, sqltext.Ident(p.Keys[n])))
	}
	if p.Type != "" {
		terms = append(terms, fmt.Sprintf("%s.%s = %s", child, sqltext.Ident(p.Type), sqltext.Literal(p.Value)))
	}
	return strings.Join(terms, " AND ")
}

// aliased lists columns, each with a prefix.
func aliased(prefix string, columns []string) string {
	list := make([]string, len(columns))
	for n, column := range columns {
		list[n] = prefix + sqltext.Ident(column)
	}
	return strings.Join(list, ", ")
}

// findParents notes the parents of child tables: those that models name, and those that a foreign key of the database refers to
// where no model says so. A parent comes before its children in depth.
func findParents(tables []Table, byName map[string]*Table, byTable map[string]string) {
	for n := range tables {
		t := &tables[n]
		for _, p := range t.asked.Parents {
			t.parents = append(t.parents, parent{p, byName[p.Table]})
		}
	}
	for found := true; found; {
		found = false
		for n := range tables {
			t := &tables[n]
			if t.belongs() || t.sharing != policy.NotShared {
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(t.ForeignKeys)) {
				key := t.ForeignKeys[name]
				to := byName[byTable[sqltext.Ident(key.Schema, key.Table)]]
				if to != nil && to != t && to.belongs() && to.sharing == policy.NotShared {
					t.parents = append(t.parents, parent{model.Parent{Table: to.name, Columns: key.Columns, Keys: key.Keys}, to})
					found = true
				}
			}
		}
	}
	for range tables { // at most one level more each time
		for n := range tables {
			t := &tables[n]
			if t.asked.Tenant || len(t.parents) == 0 {
				continue
			}
			depth := len(tables)
			for _, p := range t.parents {
				if p.to != t {
					depth = min(depth, p.to.depth+1)
				}
			}
			t.depth = depth
		}
	}
}

// belongs reports whether the rows of the table belong to tenants.
func (t *Table) belongs() bool { return t.asked.IsTenant(t.Relation) || len(t.parents) > 0 }
