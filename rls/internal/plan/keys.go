package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// unique is what a tag of a model asks to be unique, and the plan makes unique within each tenant.
type unique struct{ model.Unique }

// create makes it, with the tenant column before all others.
func (u unique) create(t Table, column string) string {
	if u.Constraint {
		return fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE (%s)",
			t.Quoted(), sqltext.Ident(u.Name), sqltext.Idents(append([]string{column}, u.Columns...)))
	}
	return u.index(createUnique, u.Name, t, column)
}

// index makes a unique index of this name, among all tenants if column is empty.
func (u unique) index(create, name string, t Table, column string) string {
	elements := u.Elements
	if u.Constraint {
		elements = []string{sqltext.Idents(u.Columns)}
	}
	if column != "" {
		elements = append([]string{sqltext.Ident(column)}, elements...)
	}
	return fmt.Sprintf("%s IF NOT EXISTS %s ON %s%s (%s)%s",
		create, sqltext.Ident(name), t.Quoted(), u.Using, strings.Join(elements, ", "), u.Suffix)
}

// prepared is the name of the index while it is made concurrently, beside an older one that has its name.
func (u unique) prepared() string { return sqltext.Fit("tenancy_" + u.Name) }

// in reports whether the table has it, in one form or another.
func (u unique) in(t Table) bool {
	_, exists := t.Unique(u.Name)
	_, prepared := t.Unique(u.prepared())
	return exists || prepared
}

// adopt makes it of the prepared index. A constraint gives the index its own name.
func (u unique) adopt(t Table) string {
	if u.Constraint {
		return fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE USING INDEX %s", t.Quoted(), sqltext.Ident(u.Name), sqltext.Ident(u.prepared()))
	}
	return fmt.Sprintf("ALTER INDEX %s RENAME TO %s", t.Sibling(u.prepared()), sqltext.Ident(u.Name))
}

// keys returns what must be unique of an isolated table: what foreign keys refer to, and the primary key within each tenant,
// whose index serves the policy and the order of the primary key as well. Where another index begins as that one would, and
// no foreign key needs it, it would only slow writes down. A primary key that has the tenant column is unique already.
func (p Planner) keys(t Table, indexes [][]string) [][]string {
	var wanted [][]string
	add := func(columns []string) {
		covered := func(have []string) bool { return sameSet(have, columns) }
		if !slices.ContainsFunc(wanted, covered) {
			wanted = append(wanted, columns)
		}
	}
	if len(t.Primary) > 0 {
		key := p.leading(t.Primary)
		begins := func(index []string) bool { return len(index) >= len(key) && slices.Equal(index[:len(key)], key) }
		if !slices.ContainsFunc(indexes, begins) {
			add(key)
		}
	}
	for _, columns := range t.referred {
		add(columns)
	}
	return wanted
}

// leading returns the columns with the tenant column first.
func (p Planner) leading(columns []string) []string {
	rest := slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return c == p.Column })
	return append([]string{p.Column}, rest...)
}

// sameSet reports whether two lists of columns hold the same.
func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
