package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// resolved is a reference with what the tables make of it.
type resolved struct {
	model.Reference
	key    *tenantKey         // nil unless it must tell tenants apart
	weaker string             // what the model asked for and cannot have, of a reference to a table without policies
	live   catalog.ForeignKey // of the same name, as it is in the database
	exists bool

	prepared *catalog.ForeignKey // made early, beside the one that it replaces
}

// done reports whether nothing is left to do.
func (r resolved) done() bool {
	switch {
	case !r.exists:
		return false
	case r.key != nil:
		return r.key.is(r.live) && r.live.Valid
	default:
		return r.weaker == "" || r.live.OnDelete == catalog.ActionCode(r.OnDelete) && r.live.OnUpdate == catalog.ActionCode(r.OnUpdate)
	}
}

// resolve finds out what the references of the tables need, and notes it in them.
func (p Planner) resolve(tables []Table) {
	byName := map[string]*Table{}
	for n := range tables {
		byName[tables[n].name] = &tables[n]
	}
	for n := range tables {
		t := &tables[n]
		t.parents = slices.Clone(t.parents)
		for i := range t.parents {
			t.parents[i].to = byName[t.parents[i].to.name]
		}
		for _, wanted := range t.references {
			r := resolved{Reference: wanted}
			r.live, r.exists = t.ForeignKeys[wanted.Name]
			if live, exists := t.ForeignKeys[r.preparedName()]; exists {
				r.prepared = &live
			}
			if key, ok := p.tenantKey(t, wanted, byName[wanted.Parent]); ok {
				r.key = &key
				key.to.referred = append(key.to.referred, key.Keys)
				if !r.done() {
					t.checked, key.to.checked = true, true
				}
			}
			if r.key == nil {
				p.weaken(&r, t, byName[wanted.Parent])
			}
			t.resolved = append(t.resolved, r)
		}
		if t.Column == nil || !t.Column.NotNull {
			for _, parent := range t.parents {
				t.checked, parent.to.checked = true, true // to give the rows their tenants
			}
		}
	}
	for n := range tables {
		if whole := byName[tables[n].whole]; whole != nil {
			tables[n].checked = whole.checked
		}
	}
}

// weaken takes the actions from a reference of a tenant table to one without policies. PostgreSQL carries them out without regard to
// policies, so that a tenant that deletes a shared row, or changes its key, would delete or change the rows of all. The table of
// tenants has a policy on the key that is referred to: there a tenant reaches its own rows.
func (p Planner) weaken(r *resolved, t, to *Table) {
	if to == nil || !t.isolated() || to.isTenant() || p.refersToOwnKey(r.Reference, t, to) {
		return
	}
	acts := func(action string) bool { return action == "CASCADE" || strings.HasPrefix(action, "SET ") }
	var weaker []string
	if acts(r.OnDelete) {
		weaker = append(weaker, "ON DELETE "+r.OnDelete)
		r.OnDelete = "NO ACTION"
	}
	if acts(r.OnUpdate) {
		weaker = append(weaker, "ON UPDATE "+r.OnUpdate)
		r.OnUpdate = "NO ACTION"
	}
	r.weaker = strings.Join(weaker, " and ")
}

// refersToOwnKey reports whether the reference pairs the column by which the tenants of t are told apart with that of the table it
// refers to.
func (p Planner) refersToOwnKey(r model.Reference, t, to *Table) bool {
	if to.sharing != policy.SharedOwn || !t.isTenant() {
		return false
	}
	for n := range r.Keys {
		if r.Keys[n] == to.ownColumn && r.Columns[n] == p.Column {
			return true
		}
	}
	return false
}

// fills reports whether the rows of a table may have to be given their tenants.
func (p Planner) fills(t Table) bool {
	return p.Backfills && t.isolated() && (t.Column == nil || !t.Column.NotNull)
}

// planOutdated makes way for better foreign keys. It comes before the unique keys, which cannot be dropped while a foreign
// key uses them.
//
// A foreign key is not checked while its tables are forced: PostgreSQL looks for wrong rows as the owner of the tables,
// to which the policies show none, and takes the key for valid. So what is forced and has a foreign key to be checked
// is forced again only after that. The same goes for rows that get their tenant. No other session sees the table in between, because the
// change locks it to the end of the transaction.
func (p Planner) planOutdated(c *collector, t *Table) {
	if t.Forced && (t.checked || p.fills(*t)) {
		c.add("let the owner see all rows", "ALTER TABLE "+t.Quoted()+" NO FORCE ROW LEVEL SECURITY")
		t.Forced = false
	}
	for _, r := range t.resolved {
		if r.prepared != nil && (r.key == nil || !r.key.is(*r.prepared) || r.done()) {
			c.add("drop outdated foreign key "+r.preparedName(),
				fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.Quoted(), sqltext.Ident(r.preparedName())))
		}
		if r.exists && (r.key != nil && !r.key.is(r.live) || r.key == nil && !r.done()) {
			c.add("drop foreign key "+r.Name+", which ignores tenants",
				fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.Quoted(), sqltext.Ident(r.Name)))
		}
	}
}

// planMissing makes the foreign keys. Each needs its unique key first.
func (p Planner) planMissing(c *collector, t *Table) {
	for _, r := range t.resolved {
		switch {
		case r.done():
		case r.key == nil:
			what := "add foreign key " + r.Name
			if r.weaker != "" {
				what += " (" + r.weaker + ", which would reach the rows of all tenants, becomes NO ACTION)"
			}
			c.add(what, "ALTER TABLE "+t.Quoted()+" ADD "+constraint(r.Reference, r.Parent, nil)).
				unless(hasConstraint(*t, r.Name))
		default:
			p.planKey(c, *t, r)
		}
	}
}

// planKey makes and validates a foreign key between tenant tables. The two are apart where the table may have rows, so that
// those that are wrong can be told from other obstacles. A partitioned table cannot have its foreign key in two steps
// (PostgreSQL documentation, ALTER TABLE).
func (p Planner) planKey(c *collector, t Table, r resolved) {
	add := "ALTER TABLE " + t.Quoted() + " ADD " + constraint(r.key.Reference, r.key.to.Quoted(), r.key.nulled)
	if t.Fresh || t.Partitioned {
		change := c.add(r.key.what(), add)
		change.unless(hasConstraint(t, r.Name))
		change.Misfits = p.misfits(&t, *r.key)
		change.unforce = slices.Compact([]string{t.Quoted(), r.key.to.Quoted()})
		if len(r.key.nulled) > 0 {
			dated := r.key.Reference
			dated.OnDelete = "NO ACTION"
			change.dated = "ALTER TABLE " + t.Quoted() + " ADD " + constraint(dated, r.key.to.Quoted(), nil)
		}
		return
	}
	p.planInSteps(c, t, r, add)
}

// planInSteps makes a foreign key without a look at the rows, and then validates it. On a table in use both come early, under another
// name while a foreign key has that name which ignores tenants: until the last transaction the old one counts for rows without a tenant,
// which the new one takes for right (MATCH SIMPLE).
func (p Planner) planInSteps(c *collector, t Table, r resolved, add string) {
	var (
		alter   = "ALTER TABLE " + t.Quoted()
		made    = r.exists && r.key.is(r.live)
		adopted = !made && r.prepared != nil && r.key.is(*r.prepared)
		early   = !t.hidden && !r.key.to.hidden && r.key.to.early() && r.key.to.Column != nil
		name    = r.Name // until the last transaction
		rename  []string
	)
	if adopted || r.exists && !made {
		name = r.preparedName()
		rename = []string{fmt.Sprintf("%s RENAME CONSTRAINT %s TO %s", alter, sqltext.Ident(name), sqltext.Ident(r.Name))}
	}
	switch {
	case adopted:
		c.add(r.key.what(), rename[0])
	case !made:
		change := c.add(r.key.what(), add+" NOT VALID")
		if early {
			prepared := r.key.Reference
			prepared.Name = name
			change.early(t, References, alter+" ADD "+constraint(prepared, r.key.to.Quoted(), r.key.nulled)+" NOT VALID", rename...)
			if t.early() {
				change.Early[0].Parent = r.key.to.Quoted()
			}
		}
	}
	if made && r.live.Valid || adopted && r.prepared.Valid {
		return
	}
	change := c.add("validate foreign key "+r.Name, alter+" VALIDATE CONSTRAINT "+sqltext.Ident(r.Name))
	change.Misfits = p.misfits(&t, *r.key)
	if early {
		change.early(t, References, alter+" VALIDATE CONSTRAINT "+sqltext.Ident(name))
	}
}

// preparedName is the name of the foreign key while the one that it replaces has its own.
func (r resolved) preparedName() string { return sqltext.Fit("tenancy_" + r.Name) }

// hasConstraint is the condition that the table has a constraint of this name (PostgreSQL documentation, pg_constraint).
func hasConstraint(t Table, name string) string {
	return fmt.Sprintf("EXISTS (SELECT FROM pg_constraint WHERE conrelid = %s::regclass AND conname = %s)",
		sqltext.Literal(t.Quoted()), sqltext.Literal(name))
}
