// Package plan says what is left to do until tables are isolated, as changes or as a script.
package plan

import (
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// Planner compares tables as they are with what they should be.
type Planner struct {
	policy.Config
	Backfills bool // rows can be given their tenants
}

// Table is a table as it is, and what it should be.
type Table struct {
	catalog.Relation
	Fresh bool // it has no rows

	name       string             // what the models call it, quoted as GORM quotes it in statements
	whole      string             // the name of the table this one is a part of, if any
	isolated   *catalog.Canonical // nil for a table that tenants share
	index      string             // the name for an index of the tenant column
	uniques    []model.Unique     // what tags of the models ask for
	references []model.Reference  // what relations of the models ask for

	resolved []resolved // the references, with the tables at their other ends
	referred [][]string // the columns that other tables refer to
	checked  bool       // rows of the table are needed to check foreign keys
}

// Plan returns what is left to do for the tables, in the order to do it. It is empty when there is nothing to do.
func (p Planner) Plan(tables []Table) []Change {
	tables = slices.Clone(tables)
	p.resolve(tables)
	c := collector{planned: map[string]*Change{}}
	for number, do := range []func(*collector, *Table){
		stepOutdated: p.planOutdated,
		stepKeys: func(c *collector, t *Table) {
			if t.isolated != nil && t.whole == "" {
				p.planColumn(c, *t)
				p.planUniques(c, *t)
			}
		},
		stepReferences: p.planMissing,
		stepIsolation: func(c *collector, t *Table) {
			if t.isolated != nil {
				p.planPolicies(c, *t)
			}
			for _, role := range p.Roles() {
				if t.whole == "" {
					p.planGrants(c, t.Relation, role)
				} else { // what is granted on the whole will do
					onTables, _ := p.Privileges(role)
					c.revoke("", "TABLE "+t.Quoted(), role, t.Grants[role], onTables)
				}
			}
		},
	} {
		for n := range tables {
			c.table, c.step = tables[n].String(), step(number)
			do(&c, &tables[n])
		}
	}
	return c.list()
}

// planColumn ensures that every row has a tenant. The column is added without its default, which would give the rows
// that are there already to whatever tenant the migrating connection happens to have set.
func (p Planner) planColumn(c *collector, t Table) {
	var (
		live  = catalog.Column{}
		alter = "ALTER TABLE " + t.Quoted()
		name  = sqltext.Ident(p.Column)
	)
	if t.Column != nil {
		live = *t.Column
	} else {
		sql := alter + " ADD COLUMN IF NOT EXISTS " + name + " " + t.isolated.ColumnType
		change := c.add("add column "+p.Column, sql)
		change.AddsColumn, change.Early, change.Apart = true, t.early(sql), sql+";\n"
	}
	if !live.NotNull {
		c.add("require "+p.Column, alter+" ALTER COLUMN "+name+" SET NOT NULL").Fill = t.Quoted()
	}
	if live.Default != t.isolated.Default {
		c.add("set default of "+p.Column, p.SetDefault(t.Quoted(), t.isolated.ColumnType))
	}
}

// planPolicies ensures that PostgreSQL applies our policies to the table, to its owner too.
func (p Planner) planPolicies(c *collector, t Table) {
	for _, name := range policy.Names {
		live, exists := t.Policies[name]
		want, wanted := t.isolated.Policies[name]
		if exists && wanted && live == want {
			continue
		}
		drop := policy.Drop(name, t.Quoted())
		if exists {
			c.add("drop outdated policy "+name, drop)
		}
		if wanted {
			c.add("create policy "+name, p.Create(name, t.Quoted(), t.isolated.ColumnType)).
				before = drop
		}
	}
	if !t.Enabled {
		c.add("enable row level security", "ALTER TABLE "+t.Quoted()+" ENABLE ROW LEVEL SECURITY")
	}
	if !t.Forced {
		c.add("force row level security", "ALTER TABLE "+t.Quoted()+" FORCE ROW LEVEL SECURITY")
	}
}

// planGrants lets the role read and write the table's rows, or only read them, and nothing more: TRUNCATE ignores policies,
// REFERENCES and TRIGGER let a role see rows by other ways.
func (p Planner) planGrants(c *collector, r catalog.Relation, role string) {
	if role == r.Owner {
		return
	}
	if !slices.Contains(r.Usable, role) {
		c.add("grant USAGE on schema "+r.Schema+" to "+role, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", sqltext.Ident(r.Schema), sqltext.Ident(role)))
	}
	onTables, onSequences := p.Privileges(role)
	c.grant("", "TABLE "+r.Quoted(), role, r.Grants[role], onTables)
	for _, s := range r.Sequences {
		c.grant(" on "+s.Name, "SEQUENCE "+catalog.Relation{Schema: s.Schema, Table: s.Name}.Quoted(), role, s.Grants[role], onSequences)
	}
}
