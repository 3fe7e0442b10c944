package rls

import (
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// resolved is a reference with what the tables make of it.
type resolved struct {
	reference
	key    *tenantKey     // nil unless it must tell tenants apart
	live   liveForeignKey // of the same name, as it is in the database
	exists bool
}

// done tells whether nothing is left to do.
func (r resolved) done() bool {
	return r.exists && (r.key == nil || r.key.is(r.live) && r.live.Valid)
}

// resolve finds out what the references of the tables need, and notes it in them.
func (i Isolation) resolve(tables []table) {
	byName := map[string]*table{}
	for n := range tables {
		byName[tables[n].name] = &tables[n]
	}
	for n := range tables {
		t := &tables[n]
		for _, wanted := range t.references {
			r := resolved{reference: wanted}
			r.live, r.exists = t.ForeignKeys[wanted.name]
			if key, ok := i.tenantKey(t, wanted, byName[wanted.parent]); ok {
				r.key = &key
				key.to.referred = append(key.to.referred, key.keys)
				if !r.done() {
					t.checked, key.to.checked = true, true
				}
			}
			t.resolved = append(t.resolved, r)
		}
	}
	for n := range tables {
		if whole := byName[tables[n].whole]; whole != nil {
			tables[n].checked = whole.checked
		}
	}
}

// fills tells whether the rows of a table may have to be given their tenants.
func (i Isolation) fills(t table) bool {
	return i.Backfill != nil && t.isolated != nil && (t.Column == nil || !t.Column.NotNull)
}

// planOutdated makes way for better foreign keys. It comes before the unique keys, which can't be dropped while a foreign
// key uses them.
//
// A foreign key is not checked while its tables are forced: PostgreSQL looks for wrong rows as the owner of the tables,
// from whom the policies hide them all, and takes the key for valid. So what is forced and has a foreign key to be checked
// is forced again only after that. The same goes for rows that get their tenant. Nobody sees it in between, because the change locks the table to the end of the
// transaction.
func (i Isolation) planOutdated(p *script, t *table) {
	if t.Forced && (t.checked || i.fills(*t)) {
		p.add("let the owner see all rows", "ALTER TABLE "+t.quoted()+" NO FORCE ROW LEVEL SECURITY")
		t.Forced = false
	}
	for _, r := range t.resolved {
		if r.key != nil && r.exists && !r.key.is(r.live) {
			p.add("drop foreign key "+r.name+", which ignores tenants",
				fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.quoted(), ident(r.name)))
		}
	}
}

// planMissing makes the foreign keys. Each needs its unique key first.
func (i Isolation) planMissing(p *script, t *table) {
	for _, r := range t.resolved {
		switch {
		case r.done():
		case r.key == nil:
			p.add("add foreign key "+r.name, "ALTER TABLE "+t.quoted()+" ADD "+r.constraint(r.parent, nil)).
				unless(hasConstraint(*t, r.name))
		default:
			r.plan(p, *t)
		}
	}
}

// plan makes and validates a foreign key between tenants' tables. The two are apart where the table may have rows, so that
// those that are wrong can be told from other obstacles. A partitioned table can't have its foreign key in two steps
// (PostgreSQL documentation, ALTER TABLE).
func (r resolved) plan(p *script, t table) {
	add := "ALTER TABLE " + t.quoted() + " ADD " + r.key.constraint(r.key.to.quoted(), r.key.nulled)
	if t.fresh || t.Partitioned {
		change := p.add(r.key.what(), add)
		change.unless(hasConstraint(t, r.name))
		change.misfits = r.key.misfits(t)
		change.unforce = slices.Compact([]string{t.quoted(), r.key.to.quoted()})
		if len(r.key.nulled) > 0 {
			dated := r.key.reference
			dated.onDelete = "NO ACTION"
			change.dated = "ALTER TABLE " + t.quoted() + " ADD " + dated.constraint(r.key.to.quoted(), nil)
		}
		return
	}
	if !r.exists || !r.key.is(r.live) {
		p.add(r.key.what(), add+" NOT VALID")
	}
	p.add("validate foreign key "+r.name, fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", t.quoted(), ident(r.name))).
		misfits = r.key.misfits(t)
}

// hasConstraint is the condition that the table has a constraint of this name (PostgreSQL documentation, pg_constraint).
func hasConstraint(t table, name string) string {
	return fmt.Sprintf("EXISTS (SELECT FROM pg_constraint WHERE conrelid = %s::regclass AND conname = %s)",
		sqltext.Literal(t.quoted()), sqltext.Literal(name))
}
