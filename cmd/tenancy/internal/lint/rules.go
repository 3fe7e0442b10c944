package lint

import (
	"regexp"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/rls/check"
)

// The codes of the findings.
const (
	DataWithoutRole      = "data-without-role"
	TableNotIsolated     = "table-not-isolated"
	ChildNotIsolated     = "child-table-not-isolated"
	PolicySomeCommands   = "policy-some-commands"
	PolicyShowsAll       = "policy-shows-all"
	IsolationSwitchedOff = "isolation-switched-off"
	OwnerChanged         = "owner-changed"
	RoleBypasses         = "role-bypasses"
	GrantTruncate        = "grant-truncate"
	FunctionDefiner      = "function-security-definer"
	ViewOfOwner          = "view-runs-as-owner"
	CopyOfRows           = "copy-of-rows"
	KeyWithoutTenant     = "key-without-tenant"
	CascadeFromShared    = "cascade-from-shared"
	TenantColumnChanged  = "tenant-column-changed"
	TriggersSwitchedOff  = "triggers-switched-off"
	SettingForRole       = "setting-for-role"
	NotRead              = "not-read"
	RuleOnTenantTable    = "rule-on-tenant-table"
)

// Rule is a kind of finding.
type Rule struct {
	Code     string
	Severity check.Severity
	Summary  string
}

// Rules are all kinds of findings, in the order of the documentation.
func Rules() []Rule {
	return []Rule{
		{DataWithoutRole, check.High, "a data migration touches no row, and reports success"},
		{TableNotIsolated, check.Critical, "a tenant table is left without row-level security, FORCE or a policy"},
		{ChildNotIsolated, check.High, "a table that refers to a tenant table has neither the tenant column nor a policy"},
		{PolicySomeCommands, check.Medium, "the policies of a table leave out commands"},
		{PolicyShowsAll, check.Critical, "a policy lets rows through whatever their tenant is"},
		{IsolationSwitchedOff, check.Critical, "row-level security is switched off, and not on again in the same file"},
		{OwnerChanged, check.High, "a tenant table is given to another owner"},
		{RoleBypasses, check.High, "a role is made superuser, or bypasses policies"},
		{GrantTruncate, check.Medium, "TRUNCATE is granted, which no policy binds"},
		{FunctionDefiner, check.Medium, "a SECURITY DEFINER function does not set search_path"},
		{ViewOfOwner, check.High, "a view of a tenant table reads with the rights of its owner"},
		{CopyOfRows, check.High, "rows of tenants are copied to where no policy is"},
		{KeyWithoutTenant, check.Low, "a unique key leaves out the tenant column"},
		{CascadeFromShared, check.Medium, "a shared table's foreign key changes the rows of all tenants"},
		{TenantColumnChanged, check.High, "the tenant column loses what isolation needs"},
		{TriggersSwitchedOff, check.Medium, "triggers are switched off, and not on again in the same file"},
		{RuleOnTenantTable, check.Medium, "a rule rewrites statements on a tenant table"},
		{SettingForRole, check.High, "a setting that decides the tenant, or whether policies hold, is kept for a role or a database"},
		{NotRead, check.Medium, "a statement cannot be read, and is not checked"},
	}
}

// statement reports what a statement does, and follows it.
func (l *linter) statement(s statement) {
	l.session(s)
	l.data(s)
	at, n := l.at(s), s.node
	switch s.kind {
	case "CreateStmt":
		l.create(n, at)
		l.newTable(newName(n.child("relation")), n, at)
	case "AlterTableStmt":
		l.alterTable(n, at)
	case "RenameStmt":
		before := l.tables[l.nameOf(n.child("relation"))]
		was := before != nil && before.tenant
		l.rename(n)
		if was && !before.tenant {
			l.find(at, TenantColumnChanged, before.name, "the column %s is renamed, and the policies and the plugin look for it", l.options.Column)
		}
	case "DropStmt":
		l.drop(n, at)
	case "CreatePolicyStmt", "AlterPolicyStmt":
		l.policy(s.kind == "CreatePolicyStmt", n, at)
	case "IndexStmt":
		l.index(n, at)
	case "ViewStmt", "CreateTableAsStmt", "SelectStmt":
		l.derived(s, at)
	case "CreateFunctionStmt", "AlterFunctionStmt":
		l.function(s.kind, n, at)
	case "CreateRoleStmt", "AlterRoleStmt":
		l.role(n, at)
	case "AlterRoleSetStmt", "AlterDatabaseSetStmt":
		l.lasting(n, at)
	case "DoStmt":
		l.doBlock(s)
	case "GrantStmt":
		l.grant(n, at)
	case "RuleStmt":
		if name := l.nameOf(n.child("relation")); l.isTenant(name) {
			l.find(at, RuleOnTenantTable, name, "a rule runs its actions with the rights of the table's owner: use a trigger")
		}
	case "VariableSetStmt":
		if n.str("name") == "session_replication_role" && n.str("kind") == "VAR_SET_VALUE" && !n.flag("is_local") {
			l.replication = &at
		} else if n.str("name") == "session_replication_role" {
			l.replication = nil
		}
	}
}

// newTable reports keys and cascades of a new table.
func (l *linter) newTable(name string, n node, at mark) {
	t := l.tables[name]
	for _, e := range n.list("tableElts") {
		column := e.child("ColumnDef")
		for _, c := range append(column.list("constraints"), e) {
			if constraint := c.child("Constraint"); constraint != nil {
				l.constraint(t, constraint, column.str("colname"), at)
			}
		}
	}
}

// constraint reports a key that leaves the tenant out, and a cascade from a table that tenants share.
func (l *linter) constraint(t *table, c node, column string, at mark) {
	if t == nil || !t.tenant {
		return
	}
	switch c.str("contype") {
	case "CONSTR_UNIQUE":
		columns := c.strings("keys")
		if column != "" {
			columns = []string{column}
		}
		if len(columns) > 0 {
			l.key(t, columns, at)
		}
	case "CONSTR_FOREIGN":
		parent := l.nameOf(c.child("pktable"))
		columns := append(c.strings("fk_attrs"), column)
		if strings.ContainsAny(c.str("fk_del_action")+c.str("fk_upd_action"), "cnd") && l.tables[parent] != nil && !l.isTenant(parent) &&
			!slices.Contains(columns, l.options.Column) {
			l.find(at, CascadeFromShared, t.name, "no policy binds the actions of the foreign key to %s, which tenants share: one row there "+
				"changes rows of all tenants here. Use NO ACTION", strings.TrimPrefix(parent, "public."))
		}
	}
}

func (l *linter) key(t *table, columns []string, at mark) {
	if slices.Contains(columns, l.options.Column) || (len(columns) == 1 && (columns[0] == "id" || columns[0] == "uuid")) {
		return
	}
	l.find(at, KeyWithoutTenant, t.name, "the unique key on %s holds across tenants: one learns from an error what another has. Add %s to it",
		strings.Join(columns, ", "), l.options.Column)
}

func (l *linter) index(n node, at mark) {
	t := l.tables[l.nameOf(n.child("relation"))]
	if t == nil || !t.tenant || !n.flag("unique") {
		return
	}
	var columns []string
	for _, e := range n.list("indexParams") {
		if name := e.str("IndexElem", "name"); name != "" {
			columns = append(columns, name)
		} else {
			columns = append(columns, "an expression")
		}
	}
	l.key(t, columns, at)
}

// alterTable reports what ALTER TABLE and ALTER VIEW loosen.
func (l *linter) alterTable(n node, at mark) {
	name := l.nameOf(n.child("relation"))
	t := l.tables[name]
	for _, c := range n.list("cmds") {
		cmd := c.child("AlterTableCmd")
		if t != nil && (t.tenant || t.enabled) {
			l.loosens(t, cmd, at)
		}
		if n.str("objtype") == "OBJECT_VIEW" && strings.Contains(at.stmt.text, "security_invoker") && !invoker(cmd.list("def", "List", "items")) {
			l.find(at, ViewOfOwner, name, "the view reads with the rights of its owner again")
		}
	}
	l.alter(n, at)
	for _, c := range n.list("cmds") {
		cmd := c.child("AlterTableCmd")
		if constraint := cmd.child("def", "Constraint"); constraint != nil {
			l.constraint(t, constraint, "", at)
		}
		for _, inner := range cmd.list("def", "ColumnDef", "constraints") {
			l.constraint(t, inner.child("Constraint"), cmd.str("def", "ColumnDef", "colname"), at)
		}
	}
}

func (l *linter) loosens(t *table, cmd node, at mark) {
	ofTenant := cmd.str("name") == l.options.Column
	switch subtype := cmd.str("subtype"); {
	case subtype == "AT_ChangeOwner":
		owner := cmd.str("newowner", "rolename")
		if l.options.AppRole == "" || owner == l.options.AppRole {
			l.find(at, OwnerChanged, t.name, "the role %s can switch row-level security off as the owner: it must not be the application's", owner)
		}
	case subtype == "AT_DropColumn" && ofTenant:
		l.find(at, TenantColumnChanged, t.name, "the column %s is dropped, and with it the tenant of each row", l.options.Column)
	case subtype == "AT_DropNotNull" && ofTenant:
		l.find(at, TenantColumnChanged, t.name, "the column %s may be NULL again: such rows are no tenant's", l.options.Column)
	case subtype == "AT_ColumnDefault" && ofTenant && cmd["def"] == nil:
		l.find(at, TenantColumnChanged, t.name, "the column %s loses its default, from which rows get their tenant", l.options.Column)
	}
}

// derived reports views and copies of tenant tables.
func (l *linter) derived(s statement, at mark) {
	rows := l.tablesIn(s.node["query"])
	target := newName(s.node.child("view"))
	if s.kind == "CreateTableAsStmt" {
		target = newName(s.node.child("into", "rel"))
	}
	if s.kind == "SelectStmt" {
		if s.node["intoClause"] == nil {
			return
		}
		rows, target = l.tablesIn(s.node["fromClause"]), newName(s.node.child("intoClause", "rel"))
	}
	var tenants []string
	for _, name := range rows {
		if l.isTenant(name) {
			tenants = append(tenants, name)
		}
	}
	if len(tenants) == 0 {
		return
	}
	of := strings.ReplaceAll(strings.Join(tenants, ", "), "public.", "")
	switch {
	case s.kind == "ViewStmt" && !invoker(s.node.list("options")):
		l.find(at, ViewOfOwner, target, "the view reads %s with the rights of its owner. Add WITH (security_invoker = true), from PostgreSQL 15 on", of)
	case s.node.str("objtype") == "OBJECT_MATVIEW":
		l.views[target] = tenants
		l.find(at, CopyOfRows, target, "no policy can be put on a materialized view, and it holds rows of %s", of)
	case s.kind != "ViewStmt":
		l.tables[target] = &table{name: target, policies: map[string]policy{}, made: at, copied: of}
	}
}

// invoker reports whether options of a view say security_invoker.
func invoker(options []node) bool {
	on := false
	for _, o := range options {
		if o.str("DefElem", "defname") == "security_invoker" {
			value := strings.ToLower(o.str("DefElem", "arg", "String", "sval"))
			on = o.get("DefElem", "arg") == nil || value == "true" || value == "on" || value == "1" || value == "yes"
			on = on || o.str("DefElem", "arg", "TypeName") != "" || o.get("DefElem", "arg", "Integer", "ival") != nil
		}
	}
	return on
}

func (l *linter) function(kind string, n node, at mark) {
	options, name := n.list("options"), strings.Join(n.strings("funcname"), ".")
	if kind == "AlterFunctionStmt" {
		options, name = n.list("actions"), strings.Join(n.strings("func", "objname"), ".")
	}
	definer, path := false, false
	for _, o := range options {
		switch o.str("DefElem", "defname") {
		case "security":
			definer = o.flag("DefElem", "arg", "Boolean", "boolval")
		case "set":
			path = path || o.str("DefElem", "arg", "VariableSetStmt", "name") == "search_path"
		}
	}
	if definer && !path {
		l.find(at, FunctionDefiner, name, "the function runs as its owner, and its caller decides by search_path which tables it uses. Add "+
			"SET search_path = pg_catalog, pg_temp, and the schemas of its tables before pg_temp")
	}
}

func (l *linter) role(n node, at mark) {
	name := n.str("role")
	if name == "" {
		name = n.str("role", "rolename")
	}
	if name != "" && name == l.options.AdminRole {
		return
	}
	for _, o := range n.list("options") {
		option := o.str("DefElem", "defname")
		if (option == "bypassrls" || option == "superuser") && o.flag("DefElem", "arg", "Boolean", "boolval") {
			l.find(at, RoleBypasses, name, "no policy binds a role with %s. If it is the admin role, name it with --admin-role", strings.ToUpper(option))
		}
	}
}

func (l *linter) grant(n node, at mark) {
	if !n.flag("is_grant") || n.str("objtype") != "OBJECT_TABLE" {
		return
	}
	truncates := n["privileges"] == nil
	for _, p := range n.list("privileges") {
		truncates = truncates || p.str("AccessPriv", "priv_name") == "truncate"
	}
	var to []string
	for _, g := range n.list("grantees") {
		if name := g.str("RoleSpec", "rolename"); name == "" || name != l.options.AdminRole {
			to = append(to, name)
		}
	}
	if !truncates || len(to) == 0 {
		return
	}
	for _, name := range l.tablesIn(n["objects"]) {
		if l.isTenant(name) {
			l.find(at, GrantTruncate, name, "the grant includes TRUNCATE, which removes the rows of all tenants. Grant SELECT, INSERT, UPDATE, DELETE")
		}
	}
	if n.str("targtype") == "ACL_TARGET_ALL_IN_SCHEMA" {
		l.find(at, GrantTruncate, strings.Join(n.strings("objects"), ", "), "the grant includes TRUNCATE, which removes the rows of all tenants. "+
			"Grant SELECT, INSERT, UPDATE, DELETE")
	}
}

// lasting reports settings that hold for each new connection of a role or a database.
func (l *linter) lasting(n node, at mark) {
	setting := n.str("setstmt", "name")
	if n.str("setstmt", "kind") != "VAR_SET_VALUE" {
		return
	}
	switch setting {
	case l.options.Setting, "role", "session_replication_role", "row_security":
		object := n.str("role", "rolename") + n.str("dbname")
		l.find(at, SettingForRole, object, "each connection begins with %s set: what names no tenant must see no row", setting)
	}
}

var unseen = regexp.MustCompile(`(?i)\b(execute|create\s+policy|row\s+level\s+security|alter\s+table|create\s+(table|view)|grant|security\s+definer)\b`)

// doBlock notes a DO block that may do more than is read of it: the tables that it updates.
func (l *linter) doBlock(s statement) {
	if body := bodyOf(s.node); unseen.MatchString(body) && !strings.HasPrefix(s.text, "DO $tenancy$") {
		at := Position{l.script.file, lineAt(l.script.text, s.at)}
		l.report.NotChecked = append(l.report.NotChecked, NotChecked{at, "of a DO block only UPDATE, DELETE and MERGE are read"})
	}
}
