package plan

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/audit"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// Audit says how changes of a table's rows are recorded.
type Audit struct {
	Omit []string // columns that are left out
	Mask []string // columns whose values are
}

// withAudit returns the tables, and after them those of the records, as they are or as they will be.
func (p Planner) withAudit(ctx context.Context, conn gorm.ConnPool, tables []Table) ([]Table, error) {
	if !p.audits() {
		return tables, nil
	}
	store, err := catalog.InspectAudit(ctx, conn, p.Config)
	if err != nil {
		return nil, err
	}
	if !store.Exists {
		return p.auditTables(tables, store)
	}
	live, err := catalog.Inspect(ctx, conn, p.Config, []string{sqltext.Ident(store.Schema, audit.Name)})
	if err != nil {
		return nil, err
	}
	all, err := p.auditTables(tables, store)
	if err != nil {
		return nil, err
	}
	t := &all[len(tables)]
	if !live[0].Partitioned || live[0].Column == nil || live[0].Column.Type != t.columnType {
		return nil, fmt.Errorf("table %s is not the one that records changes, or its column %s is not %s, as in the audited tables: rename it",
			live[0], p.Column, t.columnType)
	}
	t.Relation, t.Fresh = live[0], false
	return all[:len(tables)+1], nil // the parts are found as those of other tables are
}

// audits reports whether changes are recorded. A rollout leaves out what comes in its last stage.
func (p Planner) audits() bool { return len(p.Audits) > 0 && p.Rollout == Enforced }

// auditTables appends the tables of records as they are when they are made.
func (p Planner) auditTables(tables []Table, store catalog.AuditStore) ([]Table, error) {
	columnType, err := p.auditType(tables)
	if err != nil {
		return nil, err
	}
	fresh := Table{
		Relation: catalog.Relation{Schema: store.Schema, Table: audit.Name, Usable: store.Usable, Partitioned: true,
			Sequences: []catalog.Sequence{{Schema: store.Schema, Name: audit.Sequence}}},
		Fresh: true, name: audit.Name, columnType: columnType, sharing: policy.Audit, store: &store,
	}
	part := fresh
	part.Table, part.whole, part.name, part.Sequences, part.Partitioned, part.store = audit.Default, fresh.name, audit.Default, nil, false, nil
	return append(slices.Clip(tables), fresh, part), nil
}

// auditType returns the type of the tenant column of the audited tables, which is that of the records too.
func (p Planner) auditType(tables []Table) (columnType string, err error) {
	for _, t := range tables {
		_, audited := p.Audits[t.name]
		switch {
		case !audited:
		case !t.isolated():
			return "", fmt.Errorf("Audits: the rows of table %s belong to no tenant, who could read the records", t.Relation)
		case columnType != "" && t.columnType != columnType:
			return "", fmt.Errorf("Audits: the tenant columns of the audited tables are of different types, %s and %s", columnType, t.columnType)
		default:
			columnType = t.columnType
		}
	}
	return columnType, nil
}

// planAuditStore makes the table of records, and the function that writes them.
func (p Planner) planAuditStore(c *collector, t Table) {
	if t.store == nil {
		return
	}
	if t.Fresh {
		c.add("make the table of records", "CREATE TABLE IF NOT EXISTS "+t.Quoted()+" "+audit.Columns(p.Config, t.columnType))
		c.add("make its default partition", fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s DEFAULT", t.Sibling(audit.Default), t.Quoted()))
		if roles := p.Roles(); len(roles) > 0 { // to which privileges may have been granted by default
			from := " FROM " + sqltext.Idents(roles)
			c.add("revoke what is granted by default", "REVOKE ALL ON TABLE "+t.Quoted()+", "+t.Sibling(audit.Default)+from)
			c.add("revoke what is granted by default on "+audit.Sequence, "REVOKE ALL ON SEQUENCE "+t.Sibling(audit.Sequence)+from)
		}
	}
	function, body := t.Sibling(audit.Name), audit.Body(p.Config, t.Quoted(), t.columnType)
	live := t.store.Function
	switch {
	case t.Schema == "":
		c.add("make the function that writes records", audit.CreateAnywhere(p.Config, t.columnType)).block = true
	case live == nil || live.Body != body || !live.Definer || !sameSettings(live.Config):
		c.add("make the function that writes records", audit.Create(function, body))
	}
	if live != nil && live.Owner != t.Owner && t.Owner != "" {
		c.add("give the function the owner of its table", fmt.Sprintf("ALTER FUNCTION %s() OWNER TO %s", function, sqltext.Ident(t.Owner)))
	}
	if executors := p.auditExecutors(live); len(executors) > 0 {
		c.add("let no other role write records by the function", fmt.Sprintf("REVOKE ALL ON FUNCTION %s() FROM %s", function, strings.Join(executors, ", ")))
	}
}

// auditExecutors returns the roles that should not have the function, which could write records of any tenant by a trigger on a
// temporary table of theirs.
func (p Planner) auditExecutors(live *catalog.AuditFunction) []string {
	var executors []string
	for _, role := range append([]string{""}, p.Roles()...) {
		switch {
		case live != nil && (role == live.Owner || !slices.Contains(live.Executors, role)):
		case role == "":
			executors = append(executors, "PUBLIC")
		default:
			executors = append(executors, sqltext.Ident(role))
		}
	}
	return executors
}

// planAuditPolicy lets the function write the records of every tenant: row level security is forced on its owner as well.
func (p Planner) planAuditPolicy(c *collector, t Table) {
	if t.store == nil || t.store.Writes {
		return
	}
	drop := policy.Drop(audit.Write, t.Quoted())
	if t.store.Policed {
		c.add("drop outdated policy "+audit.Write, drop)
	}
	owner := "CURRENT_USER"
	if t.Owner != "" {
		owner = sqltext.Ident(t.Owner)
	}
	c.add("create policy "+audit.Write, fmt.Sprintf("CREATE POLICY %s ON %s FOR INSERT TO %s WITH CHECK (true)",
		sqltext.Ident(audit.Write), t.Quoted(), owner)).before = drop
}

// planAuditTriggers records the changes of a table's rows. Partitions have the trigger of rows from the whole.
func (p Planner) planAuditTriggers(c *collector, tables []*Table, t Table) {
	whole := t
	n := slices.IndexFunc(tables, func(other *Table) bool { return t.whole != "" && other.whole == "" && other.name == t.whole })
	if n >= 0 {
		whole = *tables[n]
	}
	a, audited := p.Audits[whole.name]
	store := slices.IndexFunc(tables, func(other *Table) bool { return other.store != nil })
	if !audited || store < 0 {
		return
	}
	keys := whole.Primary
	if len(keys) == 0 {
		keys = whole.primary
	}
	arguments := audit.Arguments(whole.Table, p.columnOf(&whole), keys, a.Omit, a.Mask)
	function, shown := tables[store].Sibling(audit.Name), tables[store].String()
	if live, exists := t.Audits[audit.Name]; exists && t.Partition && !live.Always {
		planAlways(c, t, audit.Name)
	}
	if !t.Partition {
		planTrigger(c, t, audit.Name, function, catalog.AuditTrigger{Type: audit.RowType, Function: shown, Arguments: hexed(arguments)}, arguments)
	}
	planTrigger(c, t, audit.Truncate, function, catalog.AuditTrigger{Type: audit.TruncateType, Function: shown}, nil)
}

// planTrigger makes a trigger that is not as it should be.
func planTrigger(c *collector, t Table, name, function string, want catalog.AuditTrigger, arguments []string) {
	live, exists := t.Audits[name]
	want.Always = live.Always
	if live != want {
		drop := fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", name, t.Quoted())
		if exists {
			c.add("drop outdated trigger "+name, drop)
		}
		c.add("create trigger "+name, audit.Trigger(name, t.Quoted(), function, arguments)).before = drop
		live.Always = false
	}
	if !live.Always {
		planAlways(c, t, name)
	}
}

// planAlways has a trigger fire also where session_replication_role says that changes were made elsewhere.
func planAlways(c *collector, t Table, name string) {
	c.add("fire trigger "+name+" always", fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", t.Quoted(), name))
}

// hexed writes the arguments of a trigger as the catalog has them.
func hexed(arguments []string) string {
	return hex.EncodeToString([]byte(strings.Join(arguments, "\x00") + "\x00"))
}

// sameSettings reports whether the settings of the function are those that it should have.
func sameSettings(live []string) bool {
	live, want := slices.Sorted(slices.Values(live)), slices.Sorted(slices.Values(audit.Settings))
	return slices.Equal(live, want)
}
