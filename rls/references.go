package rls

import (
	"fmt"
	"strings"
)

// reference is a foreign key that the relation of a model asks for, in GORM's words: without the tenant column.
type reference struct {
	name               string
	columns            []string
	parent             string   // the table it refers to, quoted as GORM quotes it in statements
	keys               []string // the columns it refers to
	onDelete, onUpdate string
}

// actionCodes are the actions of foreign keys, as SQL and as the catalog (pg_constraint.confdeltype) writes them.
var actionCodes = map[string]string{"": "a", "NO ACTION": "a", "RESTRICT": "r", "CASCADE": "c", "SET NULL": "n", "SET DEFAULT": "d"}

// versionOfColumnLists is the first server that can null some columns of a foreign key and not all of them (PostgreSQL 15
// release notes).
const versionOfColumnLists = 150000

// tenantKey is a foreign key between tables of tenants. It leads with the tenant column on both sides: the checks of
// PostgreSQL ignore policies, so it is the key that must tell tenants apart (PostgreSQL documentation, "Row Security
// Policies": referential integrity checks always bypass row security).
type tenantKey struct {
	reference
	to     *table
	nulled []string // the columns that ON DELETE SET NULL, or SET DEFAULT, is about
	weaker string   // what the model asked for and can't have
}

// tenantKey makes a reference of t tell tenants apart. It is false when it does so already in other ways, or need not.
func (i Isolation) tenantKey(t *table, r reference, to *table) (tenantKey, bool) {
	if to == nil || t.isolated == nil || to.isolated == nil {
		return tenantKey{}, false
	}
	k := tenantKey{reference: r, to: to}
	k.columns, k.keys = []string{i.Column}, []string{i.Column}
	for n, key := range r.keys {
		switch {
		case key == i.Column: // told by the child's own tenant column
		case r.columns[n] == i.Column:
			return tenantKey{}, false // the tenant itself is what is referred to
		default:
			k.columns, k.keys = append(k.columns, r.columns[n]), append(k.keys, key)
		}
	}
	if len(k.columns) == 1 {
		return tenantKey{}, false
	}
	if action := k.onDelete; strings.HasPrefix(action, "SET ") {
		if t.Version >= versionOfColumnLists {
			k.nulled = k.columns[1:]
		} else {
			k.onDelete, k.weaker = "NO ACTION", "ON DELETE "+action
		}
	}
	if action := k.onUpdate; strings.HasPrefix(action, "SET ") {
		k.onUpdate, k.weaker = "NO ACTION", "ON UPDATE "+action
	}
	return k, true
}

// is tells whether a foreign key of the catalog is this one.
func (k tenantKey) is(live liveForeignKey) bool {
	return live.Schema == k.to.Schema && live.Table == k.to.Table &&
		sameSet(pairs(live.Columns, live.Keys), pairs(k.columns, k.keys)) && sameSet(live.Nulled, k.nulled) &&
		live.OnDelete == actionCodes[k.onDelete] && live.OnUpdate == actionCodes[k.onUpdate]
}

func pairs(columns, keys []string) []string {
	list := make([]string, len(columns))
	for n := range columns {
		list[n] = ident(columns[n], keys[n])
	}
	return list
}

// constraint is the definition of the foreign key.
func (r reference) constraint(parent string, nulled []string) string {
	sql := fmt.Sprintf("CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)",
		ident(r.name), identList(r.columns), parent, identList(r.keys))
	if r.onDelete != "" {
		sql += " ON DELETE " + r.onDelete
	}
	if len(nulled) > 0 {
		sql += " (" + identList(nulled) + ")"
	}
	if r.onUpdate != "" {
		sql += " ON UPDATE " + r.onUpdate
	}
	return sql
}

// what describes the foreign key to people.
func (k tenantKey) what() string {
	what := fmt.Sprintf("add foreign key %s of the same tenant", k.name)
	if k.weaker != "" {
		what += fmt.Sprintf(" (%s, which would take the tenant too, becomes NO ACTION)", k.weaker)
	}
	return what
}

// misfits is the query that finds the rows which keep the foreign key of t from being valid.
func (k tenantKey) misfits(t table) string {
	same := make([]string, len(k.columns))
	for n := range k.columns {
		same[n] = fmt.Sprintf("parent.%s = child.%s", ident(k.keys[n]), ident(k.columns[n]))
	}
	set := make([]string, 0, len(k.columns))
	for _, c := range k.columns[1:] {
		set = append(set, fmt.Sprintf("child.%s IS NOT NULL", ident(c)))
	}
	return fmt.Sprintf("SELECT * FROM %s child WHERE %s AND NOT EXISTS (SELECT FROM %s parent WHERE %s)",
		t.quoted(), strings.Join(set, " AND "), k.to.quoted(), strings.Join(same, " AND "))
}

// action returns the action of a foreign key as PostgreSQL's documentation spells it. A list of columns is left out: it is
// ours to make.
func action(tag string) string {
	tag, _, _ = strings.Cut(tag, "(")
	return strings.ToUpper(strings.Join(strings.Fields(tag), " "))
}
