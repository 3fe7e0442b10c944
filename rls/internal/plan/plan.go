// Package plan says what is left to do until tables are isolated, as changes or as a script.
package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// Planner compares tables as they are with what they should be.
type Planner struct {
	policy.Config
	Backfills    bool                        // rows can be given their tenants
	WidenUniques bool                        // what is unique without a tag becomes so within each tenant
	TenantKeys   bool                        // primary keys begin with the tenant column
	Partitions   map[string]model.Partitions // of tables, by their names as in statements
	Rollout      Rollout                     // how far it goes
	Distributes  bool                        // Citus distributes the tables
	Signer       string                      // the role that owns the keys and functions of package signing
	SetUp        bool                        // those are there
	KeepSchema   bool                        // of tables that are there, what has nothing to do with tenants
	Fills        map[string]string           // expressions for the tenants of rows, by the name of the table as in statements
	Added        map[string]bool             // the tables whose tenant column goes when the transaction is rolled back
	Hidden       map[string]bool             // the tables whose policies hide rows from the owner when the transaction is rolled back
	Lookups      map[string][]string         // the columns that LookupRole reads, by the name of the table as in statements
	Audits       map[string]Audit            // the tables whose changes are recorded, by the same
}

// Table is a table as it is, and what it should be.
type Table struct {
	catalog.Relation
	Fresh bool // it has no rows

	asked      *model.Table      // what the models ask for; nil for a part of another table
	name       string            // what the models call it, quoted as GORM quotes it in statements
	whole      string            // the name of the table this one is a part of, if any
	columnType string            // of the column that tells whose a row is; empty for a table without policies
	sharing    policy.Sharing    // a table that tenants share in one way or another
	ownColumn  string            // of a SharedOwn table: whose a row is
	parents    []parent          // of a child table
	depth      int               // of a child table: how many steps to a table of a model with the tenant column
	lookups    []string          // the columns that LookupRole may read
	primary    []string          // the primary key of the model
	index      string            // the name for an index of the tenant column
	uniques    []model.Unique    // what tags of the models ask for
	references []model.Reference // what relations of the models ask for

	columnMade string // the type of the tenant column that GORM would make

	resolved []resolved // the references, with the tables at their other ends
	referred [][]string // the columns that other tables refer to
	checked  bool       // rows of the table are needed to check foreign keys
	hidden   bool       // policies hide rows from the owner

	store *catalog.AuditStore // of the table of records

	making string // the statement that makes it, of a partition that is missing
}

// Plan returns what is left to do for the tables, in the order to do it. It is empty when there is nothing to do.
func (p Planner) Plan(tables []Table) []Change {
	tables = slices.Clone(tables)
	for n := range tables {
		tables[n].hidden = tables[n].Enabled && tables[n].Forced || p.Hidden[tables[n].Quoted()]
	}
	p.resolve(tables)
	ordered := byDepth(tables)
	c := collector{planned: map[string]*Change{}}
	if p.Form != policy.Unsigned && !p.SetUp {
		c.table, c.step = signing.Schema, stepOutdated
		c.add("make the keys and functions that verify the tenant's signature", signing.Setup(p.Signer)).block = true
	}
	first := p.distributed(tables)
	for number, do := range []func(*collector, *Table){
		stepOutdated: func(c *collector, t *Table) {
			if p.Rollout == Enforced {
				p.planOutdated(c, t)
			}
		},
		stepKeys: func(c *collector, t *Table) {
			switch {
			case t.making != "":
				p.planPartition(c, *t)
			case t.whole != "":
			case t.store != nil:
				p.planAuditStore(c, *t)
			case t.isTenant():
				p.planColumn(c, *t)
				if p.Rollout != Enforced {
					p.planBeside(c, *t)
					return
				}
				p.dropNarrow(c, *t)
				p.planUniques(c, p.planPrimary(c, *t))
			case t.sharing == policy.SharedOwn && t.ownColumn == p.Column && t.Column != nil && len(t.Column.Indexes) == 0:
				planIndex(c, *t, "index "+p.Column, createIndex, t.index, []string{p.Column})
			}
		},
		stepDistribution: func(c *collector, t *Table) {
			if p.Distributes {
				p.planDistribution(c, *t, first)
			}
		},
		stepReferences: func(c *collector, t *Table) {
			if p.Rollout == Enforced {
				p.planMissing(c, t)
			}
		},
		stepIsolation: func(c *collector, t *Table) {
			if t.isolated() {
				p.planPolicies(c, *t)
				p.planAuditPolicy(c, *t)
			}
			for _, role := range p.Roles() {
				if t.whole == "" || role == p.BackupRole { // pg_dump reads each part by its own name
					p.planGrants(c, *t, role)
				} else { // what is granted on the whole will do
					onTables, _ := p.Privileges(role, t.sharing)
					c.revoke("", "TABLE "+t.Quoted(), role, t.Grants[role], onTables)
				}
			}
		},
		stepAudit: func(c *collector, t *Table) { p.planAuditTriggers(c, ordered, *t) },
	} {
		for _, t := range ordered {
			c.table, c.relation, c.step = t.String(), t.Quoted(), step(number)
			do(&c, t)
		}
	}
	return c.list()
}

// isolated reports whether the table gets policies.
func (t *Table) isolated() bool { return t.columnType != "" }

// isTenant reports whether the table is a tenant table.
func (t *Table) isTenant() bool { return t.isolated() && t.sharing == policy.NotShared }

// columnOf returns the column that says whose a row is.
func (p Planner) columnOf(t *Table) string {
	if t.sharing == policy.SharedOwn {
		return t.ownColumn
	}
	return p.Column
}

// wants reports whether the table should have the policy.
func (p Planner) wants(t *Table, name string) bool {
	if !p.wantsInRollout(name) {
		return false
	}
	if name == policy.Lookup {
		return t.sharing == policy.SharedOwn && (p.LookupRole == "" || len(t.lookups) > 0) || t.isTenant() && len(t.lookups) > 0
	}
	return name == policy.Rollout || slices.Contains(p.Names(), name)
}

// isolates reports whether the policies of the table are made now.
func (p Planner) isolates(t *Table) bool {
	return t.isolated() && slices.ContainsFunc(policy.Names, func(name string) bool {
		_, exists := t.Policies[name]
		return p.wants(t, name) && !exists
	})
}

// planColumn ensures that every row has a tenant. The column is added without its default, which would give the rows
// that are there already to whatever tenant the migrating connection happens to have set.
func (p Planner) planColumn(c *collector, t Table) {
	defer p.beforeDistribution(c, t, len(c.changes))
	var (
		live  = catalog.Column{}
		alter = "ALTER TABLE " + t.Quoted()
		name  = sqltext.Ident(p.Column)
	)
	if t.Column != nil {
		live = *t.Column
	} else {
		sql := alter + " ADD COLUMN IF NOT EXISTS " + name + " " + t.columnType
		change := c.add("add column "+p.Column, sql)
		change.early(t, Columns, sql)
		change.Apart = sql + ";\n"
	}
	p.planGiver(c, t)
	switch {
	case p.Rollout != Enforced && live.NotNull:
		p.planNullable(c, t)
	case !live.NotNull:
		from := len(c.changes)
		p.planFill(c, t)
		if p.Rollout == Enforced {
			p.planRequired(c, t)
			break
		}
		for _, change := range c.changes[from:] {
			change.Repeats = true
		}
	}
	if _, exists := t.Required[p.requirement()]; exists {
		c.add("drop what required "+p.Column+" meanwhile", p.dropRequirement(t))
	}
	if live.Default != p.WrittenDefault(t.columnType) {
		c.add("set default of "+p.Column, p.SetDefault(t.Quoted(), t.columnType))
	}
}

// planPolicies ensures that PostgreSQL applies our policies to the table, to its owner too.
func (p Planner) planPolicies(c *collector, t Table) {
	for _, name := range policy.Names {
		live, exists := t.Policies[name]
		config, wanted := p.On(p.columnOf(&t)), p.wants(&t, name)
		if exists && wanted && config.IsMade(name, live, t.columnType) {
			continue
		}
		drop := policy.Drop(name, t.Quoted())
		if exists {
			c.add("drop outdated policy "+name, drop).replaces = true
		}
		if wanted {
			c.add("create policy "+name, config.Create(name, t.Quoted(), t.columnType)).before = drop
		}
	}
	p.planSecurity(c, t)
}

// planGrants lets the role read and write the table's rows, or only read them, and nothing more: TRUNCATE ignores policies,
// REFERENCES and TRIGGER let a role see rows by other ways. What was revoked by hand stays revoked: a role that has some
// privilege is granted no other, unless policies are made now, or the model says that all tenants write.
func (p Planner) planGrants(c *collector, t Table, role string) {
	if role == t.Owner {
		return
	}
	onTables, onSequences := p.Privileges(role, t.sharing)
	looksUp := role == p.LookupRole && len(t.lookups) > 0
	if (len(onTables) > 0 || looksUp) && !slices.Contains(t.Usable, role) {
		c.add("grant USAGE on schema "+t.Schema+" to "+role, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", sqltext.Ident(t.Schema), sqltext.Ident(role)))
	}
	table, has := "TABLE "+t.Quoted(), t.Grants[role]
	granted := len(has) > 0 || role != p.LookupRole && slices.Contains(t.ColumnGrants, role)
	stays := granted && !t.Fresh && !p.isolates(&t) && t.sharing != policy.SharedWrite
	if stays {
		c.revoke("", table, role, has, onTables)
	} else {
		c.grant("", table, role, has, onTables)
	}
	if role == p.LookupRole { // after that, because a REVOKE on the table takes the columns along
		p.planLookups(c, t)
	}
	keeps := stays && !slices.Contains(has, "INSERT") // who does not insert needs no sequence
	for _, s := range t.Sequences {
		object := "SEQUENCE " + catalog.Relation{Schema: s.Schema, Table: s.Name}.Quoted()
		if keeps || !t.Fresh && len(s.Grants[role]) > 0 {
			c.revoke(" on "+s.Name, object, role, s.Grants[role], onSequences)
		} else {
			c.grant(" on "+s.Name, object, role, s.Grants[role], onSequences)
		}
	}
}

// planLookups lets the lookup role read the columns that are named, and no others.
func (p Planner) planLookups(c *collector, t Table) {
	role := sqltext.Ident(p.LookupRole)
	if missing := missing(t.lookups, t.Lookups); len(missing) > 0 {
		c.add("let "+p.LookupRole+" look up "+strings.Join(missing, ", "),
			fmt.Sprintf("GRANT SELECT (%s) ON TABLE %s TO %s", sqltext.Idents(missing), t.Quoted(), role))
	}
	if excess := missing(t.Lookups, t.lookups); len(excess) > 0 {
		c.add("let "+p.LookupRole+" look up "+strings.Join(excess, ", ")+" no longer",
			fmt.Sprintf("REVOKE SELECT (%s) ON TABLE %s FROM %s", sqltext.Idents(excess), t.Quoted(), role))
	}
}

// missing returns those of the wanted that are not there.
func missing(wanted, there []string) []string {
	return slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return slices.Contains(there, w) })
}
