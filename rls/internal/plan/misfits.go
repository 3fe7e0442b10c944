package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// The queries of this file find rows that stand in the way. People run them as the owner after a migration has failed and was rolled
// back: they name no column that may be gone then, and make visible what policies hide.

// tenant is the expression for the tenant of a row of t, which the query calls alias: what its column says, or the row that it refers to.
// It is NULL where only Backfill knows.
func (p Planner) tenant(t *Table, alias string) string {
	return p.tenantOf(t, alias, 0)
}

func (p Planner) tenantOf(t *Table, alias string, depth int) string {
	var from []string
	if column := p.columnOf(t); t.Column != nil && !p.Added[t.Quoted()] || column != p.Column {
		if t.Column != nil && t.Column.NotNull || column != p.Column {
			return alias + "." + sqltext.Ident(column)
		}
		from = append(from, alias+"."+sqltext.Ident(column))
	}
	if expression := p.Fills[t.name]; expression != "" {
		from = append(from, fmt.Sprintf("(SELECT (%s) FROM (SELECT %s.*) child)", expression, alias))
	}
	for n, parent := range t.parents {
		if parent.to.name == t.name || depth > len(t.parents)+8 {
			continue
		}
		name := fmt.Sprintf("parent%d_%d", depth, n)
		from = append(from, fmt.Sprintf("(SELECT %s FROM %s %s WHERE %s)", p.tenantOf(parent.to, name, depth+1), parent.to.Quoted(), name,
			parent.matchesAs(alias, name)))
	}
	switch len(from) {
	case 0:
		return "NULL"
	case 1:
		return from[0]
	default:
		return "coalesce(" + strings.Join(from, ", ") + ")"
	}
}

// visible lets the owner see all rows of the tables while the query runs.
func visible(query string, tables ...*Table) string {
	var before strings.Builder
	var done []string
	for _, t := range tables {
		if t.hidden && !slices.Contains(done, t.Quoted()) {
			done = append(done, t.Quoted())
			fmt.Fprintf(&before, "ALTER TABLE %s NO FORCE ROW LEVEL SECURITY; ", t.Quoted())
		}
	}
	if before.Len() == 0 {
		return query
	}
	return "BEGIN; " + before.String() + query + "; ROLLBACK"
}

// above returns the table and those that the tenants of its rows come from.
func above(t *Table) []*Table {
	tables := []*Table{t}
	for n := 0; n < len(tables); n++ {
		for _, parent := range tables[n].parents {
			if !slices.Contains(tables, parent.to) {
				tables = append(tables, parent.to)
			}
		}
	}
	return tables
}

// orphans finds the rows without a tenant.
func (p Planner) orphans(t *Table) string {
	query := fmt.Sprintf("SELECT * FROM %s child", t.Quoted())
	if tenant := p.tenant(t, "child"); tenant != "NULL" {
		query += " WHERE " + tenant + " IS NULL"
	}
	return visible(query, above(t)...)
}

// duplicates finds the rows that keep an index from being unique within each tenant.
func (p Planner) duplicates(t *Table, u unique) string {
	by, set := []string{p.tenant(t, "child")}, []string{}
	for n, column := range u.Columns {
		element := "child." + sqltext.Ident(column)
		if column == "" {
			element = u.Elements[n]
		}
		by, set = append(by, element), append(set, element+" IS NOT NULL")
	}
	if _, where, found := strings.Cut(u.Suffix, " WHERE "); found {
		set = append(set, "("+where+")")
	}
	query := fmt.Sprintf("SELECT * FROM (SELECT child.*, count(*) OVER (PARTITION BY %s) AS tenancy_count FROM %s child WHERE %s) rows WHERE tenancy_count > 1",
		strings.Join(by, ", "), t.Quoted(), strings.Join(set, " AND "))
	return visible(query, above(t)...)
}

// misfits finds the rows of t that refer to a row of another tenant, or to none.
func (p Planner) misfits(t *Table, k tenantKey) string {
	same, set := []string{}, []string{}
	for n := range k.Columns {
		child, parent := "child."+sqltext.Ident(k.Columns[n]), "parent."+sqltext.Ident(k.Keys[n])
		if k.Columns[n] == p.Column && k.Keys[n] == p.Column {
			child, parent = p.tenant(t, "child"), p.tenant(k.to, "parent")
		} else {
			set = append(set, child+" IS NOT NULL")
		}
		if child != "NULL" && parent != "NULL" {
			same = append(same, parent+" = "+child)
		}
	}
	query := fmt.Sprintf("SELECT * FROM %s child WHERE %s AND NOT EXISTS (SELECT FROM %s parent WHERE %s)",
		t.Quoted(), strings.Join(set, " AND "), k.to.Quoted(), strings.Join(same, " AND "))
	return visible(query, append(above(t), above(k.to)...)...)
}
