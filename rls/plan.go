package rls

import (
	"fmt"
	"slices"
	"strings"
)

// Change is one step that brings a table closer to what Isolation asks for.
type Change struct {
	Table       string // the table with its schema, such as "public.invoices"
	Description string // what the step does, for people, such as "create policy tenant_isolation"
	SQL         string // the statement that does it

	step    step
	column  bool   // it adds a column
	fill    string // the table whose rows must have a tenant before
	misfits string // the query that finds the rows which keep the statement from succeeding
	early   string // the statement that does or prepares it before the transaction, see migrateEarly; of an index, concurrently
	apart   string // the script that does it outside of a transaction, see IndexSQL

	// What follows makes the change fit for a script, which does not know what is there already.
	held    string   // the condition under which there is nothing to do
	before  string   // the statement that clears the way, whatever is there
	dated   string   // the statement for servers before versionOfColumnLists, where it is another
	unforce []string // the tables whose owner must see their rows
}

// step is a part of the plan. Each is done for all tables before the next.
type step int

const (
	stepOutdated step = iota
	stepKeys
	stepReferences
	stepIsolation
)

// unless notes when the change is there already.
func (c *Change) unless(condition string) { c.held = condition }

// table is a table as it is, and what it should be.
type table struct {
	relation
	name       string       // what the models call it, quoted as GORM quotes it in statements
	fresh      bool         // it has no rows
	whole      string       // the name of the table this one is a part of, if any
	isolated   *pattern     // nil for a table that tenants share
	index      string       // the name for an index of the tenant column
	uniques    []uniqueness // what tags of the models ask for
	references []reference  // what relations of the models ask for

	resolved []resolved // the references, with the tables at their other ends
	referred [][]string // the columns that other tables refer to
	checked  bool       // rows of the table are needed to check foreign keys
}

var (
	tablePrivileges    = []string{"SELECT", "INSERT", "UPDATE", "DELETE"}
	sequencePrivileges = []string{"USAGE", "SELECT"}
)

// plan returns what is left to do for the tables, in the order to do it. It is empty when there is nothing to do.
func (i Isolation) plan(tables []table) []Change {
	tables = slices.Clone(tables)
	i.resolve(tables)
	p := script{planned: map[string]*Change{}}
	for number, do := range []func(*script, *table){
		stepOutdated: i.planOutdated,
		stepKeys: func(p *script, t *table) {
			if t.isolated != nil && t.whole == "" {
				i.planColumn(p, *t)
				i.planUniques(p, *t)
			}
		},
		stepReferences: i.planMissing,
		stepIsolation: func(p *script, t *table) {
			if t.isolated != nil {
				i.planPolicies(p, *t)
			}
			for _, role := range i.roles() {
				if t.whole == "" {
					i.planGrants(p, t.relation, role)
				} else { // what is granted on the whole will do
					onTables, _ := i.privileges(role)
					p.revoke("", "TABLE "+t.quoted(), role, t.Grants[role], onTables)
				}
			}
		},
	} {
		for n := range tables {
			p.table, p.step = tables[n].String(), step(number)
			do(&p, &tables[n])
		}
	}
	return p.list()
}

// planColumn sees to it that every row has a tenant. The column is added without its default, which would give the rows
// that are there already to whatever tenant the migrating connection happens to have set.
func (i Isolation) planColumn(p *script, t table) {
	var (
		live  = column{}
		alter = "ALTER TABLE " + t.quoted()
		name  = ident(i.Column)
	)
	if t.Column != nil {
		live = *t.Column
	} else {
		sql := alter + " ADD COLUMN IF NOT EXISTS " + name + " " + t.isolated.columnType
		change := p.add("add column "+i.Column, sql)
		change.column, change.early, change.apart = true, t.early(sql), sql+";\n"
	}
	if !live.NotNull {
		p.add("require "+i.Column, alter+" ALTER COLUMN "+name+" SET NOT NULL").fill = t.quoted()
	}
	if live.Default != t.isolated.columnDefault {
		p.add("set default of "+i.Column, i.setDefault(t.quoted(), t.isolated.columnType))
	}
}

// planPolicies sees to it that PostgreSQL applies our policies to the table, to its owner too.
func (i Isolation) planPolicies(p *script, t table) {
	for _, name := range []string{tenantPolicy, adminPolicy, readerPolicy} {
		live, exists := t.Policies[name]
		want, wanted := t.isolated.policies[name]
		if exists && wanted && live == want {
			continue
		}
		drop := fmt.Sprintf("DROP POLICY IF EXISTS %s ON %s", ident(name), t.quoted())
		if exists {
			p.add("drop outdated policy "+name, drop)
		}
		if wanted {
			p.add("create policy "+name, i.createPolicy(name, t.quoted(), t.isolated.columnType)).
				before = drop
		}
	}
	if !t.Enabled {
		p.add("enable row level security", "ALTER TABLE "+t.quoted()+" ENABLE ROW LEVEL SECURITY")
	}
	if !t.Forced {
		p.add("force row level security", "ALTER TABLE "+t.quoted()+" FORCE ROW LEVEL SECURITY")
	}
}

// setDefault makes the current tenant the default of the tenant column.
func (i Isolation) setDefault(table, columnType string) string {
	return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", table, ident(i.Column), i.current(columnType))
}

// createPolicy makes the policy of this name. The tenant's is for PUBLIC, so that it holds for roles that come later. The
// admin's is a policy of its own, because permissive policies are joined by OR, and PostgreSQL reduces "… OR true" for that
// role alone and leaves everyone else's index scans alone. That of the read-only role is for SELECT, so that no other command
// finds a row.
func (i Isolation) createPolicy(name, table, columnType string) string {
	if name == readerPolicy {
		return fmt.Sprintf("CREATE POLICY %s ON %s FOR SELECT TO %s USING (true)", ident(name), table, ident(i.ReadOnlyRole))
	}
	role, condition := "PUBLIC", i.predicate(columnType)
	if name == adminPolicy {
		role, condition = ident(i.AdminRole), "true"
	}
	return fmt.Sprintf("CREATE POLICY %s ON %s FOR ALL TO %s USING (%s) WITH CHECK (%s)",
		ident(name), table, role, condition, condition)
}

// planGrants lets the role read and write the table's rows, or only read them, and nothing more: TRUNCATE ignores policies,
// REFERENCES and TRIGGER let a role see rows by other ways.
func (i Isolation) planGrants(p *script, r relation, role string) {
	if role == r.Owner {
		return
	}
	if !slices.Contains(r.Usable, role) {
		p.add("grant USAGE on schema "+r.Schema+" to "+role, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", ident(r.Schema), ident(role)))
	}
	onTables, onSequences := i.privileges(role)
	p.grant("", "TABLE "+r.quoted(), role, r.Grants[role], onTables)
	for _, s := range r.Sequences {
		p.grant(" on "+s.Name, "SEQUENCE "+relation{Schema: s.Schema, Table: s.Name}.quoted(), role, s.Grants[role], onSequences)
	}
}

// script collects changes.
type script struct {
	table   string // the one that is planned for
	step    step
	planned map[string]*Change // by statement
	changes []*Change
}

// add appends a change, unless a table before this one needed the same, as tables of one schema do.
func (p *script) add(what, sql string) *Change {
	if change := p.planned[sql]; change != nil {
		return change
	}
	change := &Change{Table: p.table, Description: what, SQL: sql, step: p.step}
	p.planned[sql] = change
	p.changes = append(p.changes, change)
	return change
}

// list returns the changes.
func (p *script) list() []Change {
	var list []Change
	for _, change := range p.changes {
		list = append(list, *change)
	}
	return list
}

// grant appends what brings the privileges of a role on an object from those it has to those it should have. People are
// told which object it is by on, which is empty for the table itself.
func (p *script) grant(on, object, role string, has, wanted []string) {
	if missing := without(wanted, has); missing != "" {
		p.add("grant "+missing+on+" to "+role, fmt.Sprintf("GRANT %s ON %s TO %s", missing, object, ident(role)))
	}
	p.revoke(on, object, role, has, wanted)
}

// revoke appends what takes privileges away that the role should not have.
func (p *script) revoke(on, object, role string, has, wanted []string) {
	if excess := without(has, wanted); excess != "" {
		p.add("revoke "+excess+on+" from "+role, fmt.Sprintf("REVOKE %s ON %s FROM %s", excess, object, ident(role)))
	}
}

// without lists the privileges that are not among the others.
func without(privileges, others []string) string {
	var rest []string
	for _, privilege := range privileges {
		if !slices.Contains(others, privilege) {
			rest = append(rest, privilege)
		}
	}
	return strings.Join(rest, ", ")
}
