package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// Rollout is how far the isolation of an application goes whose older version, which knows no tenants, goes on meanwhile.
type Rollout int

// The stages of a rollout.
const (
	Enforced Rollout = iota // the isolation is complete
	Observed                // there are columns, but no policies
	Shadowed                // there are policies, which do not bind the older version
)

// giver is the trigger that gives rows of the older version their tenant.
const giver = catalog.RolloutTrigger

// planGiver makes or drops the trigger. It comes before old rows get their tenants, so that none is left out.
func (p Planner) planGiver(c *collector, t Table) {
	if t.whole != "" || !t.isTenant() {
		return
	}
	function := t.Sibling(sqltext.Fit(giver + "_" + t.Table))
	body, on := p.giverBody(t), p.Rollout != Enforced
	switch {
	case on && body != "" && (t.Giver == nil || *t.Giver != body):
		sql := fmt.Sprintf("CREATE OR REPLACE FUNCTION %[1]s() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS %[2]s; "+
			"CREATE OR REPLACE TRIGGER %[3]s BEFORE INSERT OR UPDATE ON %[4]s FOR EACH ROW WHEN (NEW.%[5]s IS NULL) EXECUTE FUNCTION %[1]s()",
			function, sqltext.Literal(body), giver, t.Quoted(), sqltext.Ident(p.Column))
		c.add("give new rows their tenant by a trigger", sql).early(t, Columns, sql)
	case t.Giver != nil && (!on || body == ""):
		c.add("drop the trigger that gives new rows their tenant", fmt.Sprintf("DROP TRIGGER %s ON %s; DROP FUNCTION %s()", giver, t.Quoted(), function))
	}
}

// giverBody is the trigger's function: the tenant that an expression of Fills gives, or that of the first parent.
func (p Planner) giverBody(t Table) string {
	var sources []string
	if expression := p.Fills[t.name]; expression != "" {
		sources = append(sources, "("+expression+")")
	}
	for _, parent := range t.parents {
		sources = append(sources, fmt.Sprintf("(SELECT parent.%s FROM %s parent WHERE %s)",
			sqltext.Ident(p.columnOf(parent.to)), parent.to.Quoted(), parent.matches()))
	}
	if len(sources) == 0 {
		return ""
	}
	return fmt.Sprintf("BEGIN NEW.%s := (SELECT coalesce(%s) FROM (SELECT NEW.*) child); RETURN NEW; END",
		sqltext.Ident(p.Column), strings.Join(sources, ", "))
}

// Unknown returns a tenant table to which the older version would write rows without a tenant, which the new one would not see.
func (p Planner) Unknown(tables []Table) (Table, bool) {
	n := slices.IndexFunc(tables, func(t Table) bool { return t.isTenant() && t.whole == "" && p.giverBody(t) == "" })
	if p.Rollout != Shadowed || n < 0 {
		return Table{}, false
	}
	return tables[n], true
}

// planNullable lets the older version write rows that the trigger does not know.
func (p Planner) planNullable(c *collector, t Table) {
	if t.Column.NotNull && !slices.Contains(t.Primary, p.Column) {
		c.add("let rows be without "+p.Column, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", t.Quoted(), sqltext.Ident(p.Column)))
	}
}

// planBeside has what is unique among all tenants, which the older version names in ON CONFLICT, beside what is so within each.
func (p Planner) planBeside(c *collector, t Table) {
	have, indexes := t.unique()
	for _, tagged := range t.uniques {
		u := unique{tagged}
		live, exists := t.Unique(u.Name)
		if !exists {
			continue
		}
		if u.Suffix == "" {
			indexes = append(indexes, append([]string{p.Column}, u.Columns...))
		}
		if slices.Contains(live.Columns, p.Column) {
			if _, made := t.Unique(u.narrow()); !made || t.Indexes[u.narrow()] {
				planUnfinished(c, t, u.narrow())
				c.beside(t, fmt.Sprintf("make %s unique among all tenants again", u.Name), u, u.narrow(), "")
			}
			continue
		}
		if wide, made := t.Unique(u.prepared()); !made || t.Indexes[u.prepared()] || !slices.Contains(wide.Columns, p.Column) {
			planUnfinished(c, t, u.prepared())
			c.beside(t, fmt.Sprintf("make %s unique within a tenant, too", u.Name), u, u.prepared(), p.Column)
		}
	}
	p.planKeys(c, t, have, indexes)
}

// beside makes an index for what a tag makes unique, with or without the tenant column.
func (c *collector) beside(t Table, what string, u unique, name, column string) {
	index := func(create string) string { return u.index(create, name, t, column) }
	c.add(what, index(createUnique)).early(t, Indexes, index(createUnique+concurrently))
}

// narrow is the name of the index without the tenant column that a rollout makes again.
func (u unique) narrow() string { return sqltext.Fit("tenancy_all_" + u.Name) }

// dropNarrow drops it.
func (p Planner) dropNarrow(c *collector, t Table) {
	for _, tagged := range t.uniques {
		u := unique{tagged}
		if _, made := t.Unique(u.narrow()); made {
			c.drop(t, "drop index among all tenants ", u.narrow())
		}
	}
}

// planSecurity has PostgreSQL apply the policies as far as the rollout goes.
func (p Planner) planSecurity(c *collector, t Table) {
	alter := "ALTER TABLE " + t.Quoted()
	if t.Forced && p.Rollout != Enforced {
		c.add("let the owner see all rows", alter+" NO FORCE ROW LEVEL SECURITY")
	}
	switch enable := p.Rollout != Observed; {
	case enable && !t.Enabled:
		c.add("enable row level security", alter+" ENABLE ROW LEVEL SECURITY")
	case !enable && t.Enabled:
		c.add("disable row level security", alter+" DISABLE ROW LEVEL SECURITY")
	}
	if !t.Forced && p.Rollout == Enforced {
		c.add("force row level security", alter+" FORCE ROW LEVEL SECURITY")
	}
}

// wantsInRollout reports whether a table should have the policy at this stage, apart from what it would have in the end.
func (p Planner) wantsInRollout(name string) bool {
	if name == policy.Rollout {
		return p.Rollout == Shadowed && p.OldRole != ""
	}
	return p.Rollout != Observed
}

// IsRolledOut reports whether the rows of a table belong to tenants, so that each must have one.
func (p Planner) IsRolledOut(t Table) bool { return t.isTenant() && t.whole == "" }

// Left returns the changes that are not done, of those that are planned after all were made.
func Left(changes []Change) []Change {
	return slices.DeleteFunc(changes, func(c Change) bool { return c.Repeats })
}
