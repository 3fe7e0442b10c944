package plan

import (
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// tenantKey is a foreign key between tables of tenants. It leads with the tenant column on both sides: the checks of
// PostgreSQL ignore policies, so it is the key that must tell tenants apart (PostgreSQL documentation, "Row Security
// Policies": referential integrity checks always bypass row security).
type tenantKey struct {
	model.Reference
	to     *Table
	nulled []string // the columns that ON DELETE SET NULL, or SET DEFAULT, is about
	weaker string   // what the model asked for and cannot have
}

// tenantKey makes a reference of t tell tenants apart. It is false when it does so already in other ways, or need not.
func (p Planner) tenantKey(t *Table, r model.Reference, to *Table) (tenantKey, bool) {
	if to == nil || !to.isTenant() || !t.isTenant() && (!t.isolated() || t.ownColumn != p.Column) {
		return tenantKey{}, false
	}
	k := tenantKey{Reference: r, to: to}
	k.Columns, k.Keys = []string{p.Column}, []string{p.Column}
	for n, key := range r.Keys {
		switch {
		case key == p.Column: // told by the child's own tenant column
		case r.Columns[n] == p.Column:
			return tenantKey{}, false // the tenant itself is what is referred to
		default:
			k.Columns, k.Keys = append(k.Columns, r.Columns[n]), append(k.Keys, key)
		}
	}
	if len(k.Columns) == 1 {
		return tenantKey{}, false
	}
	// Servers before PostgreSQL 15 null all columns of a foreign key or none (PostgreSQL 15 release notes).
	if action := k.OnDelete; strings.HasPrefix(action, "SET ") {
		if t.Version >= sqltext.PostgreSQL15 {
			k.nulled = k.Columns[1:]
		} else {
			k.OnDelete, k.weaker = "NO ACTION", "ON DELETE "+action
		}
	}
	if action := k.OnUpdate; strings.HasPrefix(action, "SET ") {
		k.OnUpdate, k.weaker = "NO ACTION", "ON UPDATE "+action
	}
	return k, true
}

// is reports whether a foreign key of the catalog is this one.
func (k tenantKey) is(live catalog.ForeignKey) bool {
	return live.Schema == k.to.Schema && live.Table == k.to.Table &&
		sameSet(pairs(live.Columns, live.Keys), pairs(k.Columns, k.Keys)) && sameSet(live.Nulled, k.nulled) &&
		live.OnDelete == catalog.ActionCode(k.OnDelete) && live.OnUpdate == catalog.ActionCode(k.OnUpdate)
}

func pairs(columns, keys []string) []string {
	list := make([]string, len(columns))
	for n := range columns {
		list[n] = sqltext.Ident(columns[n], keys[n])
	}
	return list
}

// constraint is the definition of the foreign key.
func constraint(r model.Reference, parent string, nulled []string) string {
	sql := fmt.Sprintf("CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)",
		sqltext.Ident(r.Name), sqltext.Idents(r.Columns), parent, sqltext.Idents(r.Keys))
	if r.OnDelete != "" {
		sql += " ON DELETE " + r.OnDelete
	}
	if len(nulled) > 0 {
		sql += " (" + sqltext.Idents(nulled) + ")"
	}
	if r.OnUpdate != "" {
		sql += " ON UPDATE " + r.OnUpdate
	}
	return sql
}

// what describes the foreign key to people.
func (k tenantKey) what() string {
	what := fmt.Sprintf("add foreign key %s of the same tenant", k.Name)
	if k.weaker != "" {
		what += fmt.Sprintf(" (%s, which would take the tenant too, becomes NO ACTION)", k.weaker)
	}
	return what
}
