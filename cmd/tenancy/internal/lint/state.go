package lint

import (
	"regexp"
	"slices"
	"strings"
)

var copyFromStdin = regexp.MustCompile(`(?i)^\s*COPY\s.*\sFROM\s+STDIN\b`)

// table is a table as the migrations have made it so far.
type table struct {
	name            string
	columns         []string
	tenant          bool // it has the tenant column
	enabled, forced bool
	policies        map[string]policy
	parents         []string // the tables that its foreign keys refer to
	partition       bool     // of another table, through which it is read
	named           bool     // Options.TenantTables has it
	made            mark     // the statement that made it a tenant table
	disabled        *mark    // row-level security was switched off here, in this file
	triggersOff     *mark
	copied          string // the tenant tables that CREATE TABLE AS has copied here
	reported        bool   // that it was switched off
}

type mark struct {
	script  *script
	section string // the part of its text: how it is done, or undone
	stmt    statement
}

type policy struct {
	command    string // all, select, …
	restricted bool   // AS RESTRICTIVE
	purpose    bool   // for a role with a purpose only, such as the admin role
	at         mark
}

// database is what the migrations have made so far.
type database struct {
	options Options
	tables  map[string]*table
	views   map[string][]string // materialized views, and the tenant tables that they read
}

// newName is the full name of what is made. Without a schema it is in public.
func newName(rangeVar node) string {
	schema := rangeVar.str("schemaname")
	if schema == "" {
		schema = "public"
	}
	return schema + "." + rangeVar.str("relname")
}

// nameOf is the full name of a table that is used. What is named without a schema may be found by search_path: if public has none of the
// name, it is that of another schema.
func (d *database) nameOf(rangeVar node) string {
	return d.resolve(rangeVar.str("schemaname"), newName(rangeVar))
}

func (d *database) resolve(schema, name string) string {
	if schema != "" || d.tables[name] != nil {
		return name
	}
	found := ""
	for other := range d.tables {
		if strings.HasSuffix(other, strings.TrimPrefix(name, "public")) && (found == "" || other < found) {
			found = other
		}
	}
	if found != "" {
		return found
	}
	return name
}

// isTenant reports whether a table's rows belong to tenants: by the column, or by a foreign key to a table of tenants that has policies.
func (d *database) isTenant(name string) bool {
	t := d.tables[name]
	return t != nil && (t.tenant || t.forced || t.enabled)
}

// hidesRows reports whether a statement as the owner sees none of a table's rows.
func (d *database) hidesRows(name string) bool {
	t := d.tables[name]
	if t == nil {
		return false
	}
	return t.forced && t.enabled || d.options.MigrateMakesPolicies && t.tenant
}

// tablesIn returns the tables that a tree names, without those that WITH defines.
func (d *database) tablesIn(tree any) []string {
	with := map[string]bool{}
	walk(tree, "CommonTableExpr", func(n node) { with[n.str("ctename")] = true })
	var names []string
	add := func(n node) {
		if n.str("schemaname") == "" && with[n.str("relname")] {
			return
		}
		if name := d.nameOf(n); n.str("relname") != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	walk(tree, "RangeVar", add)
	walk(tree, "relation", add) // of UPDATE, DELETE, INSERT and MERGE, which have no type there
	slices.Sort(names)
	return names
}

// name adds tables that are tenant tables although no migration gives them the tenant column.
func (d *database) name(tables []string) {
	for _, name := range tables {
		name = qualified(strings.Split(name, "."))
		d.tables[name] = &table{name: name, policies: map[string]policy{}, tenant: true, named: true}
	}
}

// create follows a CREATE TABLE.
func (d *database) create(n node, at mark) {
	name := newName(n.child("relation"))
	t := d.tables[name]
	switch {
	case t == nil:
		t = &table{name: name, policies: map[string]policy{}, made: at}
		d.tables[name] = t
	case t.named && t.made.script == nil:
		t.made = at // here are its columns
	default:
		return // IF NOT EXISTS
	}
	for _, e := range n.list("tableElts") {
		switch {
		case e["ColumnDef"] != nil:
			d.addColumn(t, e.child("ColumnDef"))
		case e["Constraint"] != nil:
			d.addParent(t, e.child("Constraint"))
		case e["TableLikeClause"] != nil:
			d.inherit(t, d.nameOf(e.child("TableLikeClause", "relation")))
		}
	}
	for _, e := range n.list("inhRelations") {
		d.inherit(t, d.nameOf(e.child("RangeVar")))
		t.partition = n["partbound"] != nil
	}
}

func (d *database) inherit(t *table, parent string) {
	if p := d.tables[parent]; p != nil {
		t.columns = append(t.columns, p.columns...)
		t.tenant = t.tenant || p.tenant
	}
}

func (d *database) addColumn(t *table, column node) {
	t.columns = append(t.columns, column.str("colname"))
	t.tenant = t.tenant || column.str("colname") == d.options.Column
	for _, c := range column.list("constraints") {
		d.addParent(t, c.child("Constraint"))
	}
}

func (d *database) addParent(t *table, constraint node) {
	if constraint.str("contype") == "CONSTR_FOREIGN" {
		parent := d.nameOf(constraint.child("pktable"))
		t.parents = append(t.parents, parent)
		if p := d.tables[parent]; p != nil && p.named {
			t.tenant, t.named = true, true // Migrate gives it the column
		}
	}
}

// alter follows an ALTER TABLE.
func (d *database) alter(n node, at mark) {
	t := d.tables[d.nameOf(n.child("relation"))]
	if t == nil {
		return
	}
	for _, c := range n.list("cmds") {
		cmd := c.child("AlterTableCmd")
		switch cmd.str("subtype") {
		case "AT_AddColumn":
			was := t.tenant
			d.addColumn(t, cmd.child("def", "ColumnDef"))
			if t.tenant && !was {
				t.made = at
			}
		case "AT_DropColumn":
			t.columns = slices.DeleteFunc(t.columns, func(c string) bool { return c == cmd.str("name") })
			t.tenant = t.named || slices.Contains(t.columns, d.options.Column)
		case "AT_AddConstraint":
			d.addParent(t, cmd.child("def", "Constraint"))
		case "AT_EnableRowSecurity":
			t.enabled, t.disabled = true, nil
		case "AT_ForceRowSecurity":
			t.forced, t.disabled = true, nil
		case "AT_DisableRowSecurity":
			t.enabled, t.disabled = false, &at
		case "AT_NoForceRowSecurity":
			t.forced, t.disabled = false, &at
		case "AT_DisableTrig", "AT_DisableTrigAll", "AT_DisableTrigUser":
			t.triggersOff = &at
		case "AT_EnableTrig", "AT_EnableTrigAll", "AT_EnableTrigUser", "AT_EnableAlwaysTrig":
			t.triggersOff = nil
		}
	}
}

// rename follows ALTER TABLE … RENAME.
func (d *database) rename(n node) {
	name := d.nameOf(n.child("relation"))
	t := d.tables[name]
	if t == nil {
		return
	}
	switch n.str("renameType") {
	case "OBJECT_TABLE":
		delete(d.tables, name)
		t.name = name[:strings.LastIndex(name, ".")+1] + n.str("newname")
		d.tables[t.name] = t
	case "OBJECT_COLUMN":
		for i, c := range t.columns {
			if c == n.str("subname") {
				t.columns[i] = n.str("newname")
			}
		}
		t.tenant = t.named || slices.Contains(t.columns, d.options.Column)
	}
}

// drop follows DROP TABLE and DROP POLICY.
func (d *database) drop(n node, at mark) {
	for _, o := range n.list("objects") {
		names := o.strings("List", "items")
		switch n.str("removeType") {
		case "OBJECT_TABLE":
			delete(d.tables, d.resolveParts(names))
		case "OBJECT_POLICY":
			if len(names) < 2 {
				continue
			}
			if t := d.tables[d.resolveParts(names[:len(names)-1])]; t != nil {
				delete(t.policies, names[len(names)-1])
				if len(t.policies) == 0 {
					t.disabled = &at
				}
			}
		}
	}
}

func (d *database) resolveParts(names []string) string {
	if len(names) == 1 {
		return d.resolve("", qualified(names))
	}
	return qualified(names)
}

func qualified(names []string) string {
	if len(names) == 1 {
		return "public." + names[0]
	}
	return strings.Join(names, ".")
}
