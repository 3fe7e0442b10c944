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
	return u.index(createUnique, u.name, t, column)
}

// index makes a unique index of this name.
func (u uniqueness) index(create, name string, t table, column string) string {
	elements := u.elements
	if u.constraint {
		elements = []string{identList(u.columns)}
	}
	return fmt.Sprintf("%s IF NOT EXISTS %s ON %s%s (%s)%s",
		create, ident(name), t.quoted(), u.using, strings.Join(append([]string{ident(column)}, elements...), ", "), u.suffix)
}

// prepared is the name of the index while it is made concurrently, beside an older one that has its name.
func (u uniqueness) prepared() string { return fit("tenancy_" + u.name) }

// adopt makes it of the prepared index. A constraint gives the index its own name.
func (u uniqueness) adopt(t table) string {
	if u.constraint {
		return fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s UNIQUE USING INDEX %s", t.quoted(), ident(u.name), ident(u.prepared()))
	}
	return fmt.Sprintf("ALTER INDEX %s RENAME TO %s", t.sibling(u.prepared()), ident(u.name))
}

// keys returns what must be unique of an isolated table: what foreign keys refer to, and the primary key within each tenant,
// whose index serves the policy and the order of the primary key as well. Where another index begins as that one would, and
// no foreign key needs it, it would only slow writes down. A primary key that has the tenant column is unique already.
func (i Isolation) keys(t table, indexes [][]string) [][]string {
	var wanted [][]string
	add := func(columns []string) {
		covered := func(have []string) bool { return sameSet(have, columns) }
		if !slices.ContainsFunc(wanted, covered) {
			wanted = append(wanted, columns)
		}
	}
	if len(t.Primary) > 0 {
		key := i.leading(t.Primary)
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
func (i Isolation) leading(columns []string) []string {
	rest := slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return c == i.Column })
	return append([]string{i.Column}, rest...)
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
