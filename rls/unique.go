package rls

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// uniqueness is what a tag of a model asks to be unique. Among tenants that would be a leak: one would learn what the others
// have, from the error. So it is made unique within each tenant.
type uniqueness struct {
	name       string
	constraint bool // of the columns, not a mere index
	indexParts
}

// whole tells whether a foreign key could refer to it, and any query use it.
func (u uniqueness) whole() bool { return u.suffix == "" && !slices.Contains(u.columns, "") }

// create makes it, with the tenant column before all others.
func (u uniqueness) create(t table, column string) string {
	if u.constraint {
		return fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE (%s)",
			t.quoted(), ident(u.name), identList(append([]string{column}, u.columns...)))
	}
	return fmt.Sprintf("CREATE UNIQUE INDEX IF NOT EXISTS %s ON %s%s (%s)%s",
		ident(u.name), t.quoted(), u.using, strings.Join(append([]string{ident(column)}, u.elements...), ", "), u.suffix)
}

// keys returns what must be unique of an isolated table for the sake of foreign keys: the primary key within each tenant,
// and what foreign keys refer to otherwise. A primary key that has the tenant column does already.
func (i Isolation) keys(t table) [][]string {
	var wanted [][]string
	add := func(columns []string) {
		covered := func(have []string) bool { return sameSet(have, columns) }
		if !slices.ContainsFunc(wanted, covered) {
			wanted = append(wanted, columns)
		}
	}
	if len(t.Primary) > 0 {
		add(i.leading(t.Primary))
	}
	for _, columns := range t.referred {
		add(columns)
	}
	return wanted
}

// leading returns the columns with the tenant column first.
func (i Isolation) leading(columns []string) []string {
	rest := slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return c == i.Column })
	return append([]string{i.Column}, rest...)
}

// planUniques sees to it that what the models want to be unique is so within each tenant, that foreign keys find a key
// with the tenant column to refer to, and that an index leads with this column.
func (i Isolation) planUniques(p *script, t table) {
	indexed := t.Column != nil && t.Column.Indexed
	var have [][]string
	for _, live := range t.Uniques {
		if live.Whole {
			have = append(have, live.Columns)
		}
	}
	for _, u := range t.uniques {
		at := slices.IndexFunc(t.Uniques, func(live uniqueIndex) bool { return live.Name == u.name })
		if at >= 0 && slices.Contains(t.Uniques[at].Columns, i.Column) {
			continue
		}
		if at >= 0 {
			i.dropUnique(p, t, t.Uniques[at])
		}
		change := p.add(fmt.Sprintf("make %s unique within a tenant", u.name), u.create(t, i.Column))
		if u.constraint {
			change.unless(hasConstraint(t, u.name))
		}
		if u.whole() {
			have = append(have, append([]string{i.Column}, u.columns...))
		}
		indexed = indexed || u.suffix == ""
	}
	for _, columns := range i.keys(t) {
		if slices.ContainsFunc(have, func(h []string) bool { return sameSet(h, columns) }) {
			continue
		}
		name := keyName(t.Table, columns)
		p.add("make unique "+strings.Join(columns, ", "), fmt.Sprintf("CREATE UNIQUE INDEX IF NOT EXISTS %s ON %s (%s)",
			ident(name), t.quoted(), identList(columns)))
		indexed = true
	}
	if !indexed {
		p.add("index "+i.Column, fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s (%s)",
			ident(t.index), t.quoted(), ident(i.Column)))
	}
}

// dropUnique drops what is unique among all tenants.
func (i Isolation) dropUnique(p *script, t table, live uniqueIndex) {
	what, sql := "drop "+live.Name+", unique among tenants", "DROP INDEX "+t.sibling(live.Name)
	if live.Constraint {
		sql = fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.quoted(), ident(live.Name))
	}
	p.add(what, sql)
}

// keyName is the name of a unique index on the columns.
func keyName(table string, columns []string) string {
	return fit("uni_" + table + "_" + strings.Join(columns, "_"))
}

// fit shortens a name that is too long for PostgreSQL, which would cut it off without a word; a hash keeps it distinct.
func fit(name string) string {
	if len(name) <= maxIdentifier {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return cut(name, maxIdentifier-9) + "_" + hex.EncodeToString(sum[:4])
}

// cut returns as much of s as goes into so many bytes without breaking a character, as PostgreSQL does.
func cut(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:size]
}

// sameSet tells whether two lists of columns hold the same.
func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
