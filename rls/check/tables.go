package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// tenantTable is a tenant table.
type tenantTable struct {
	catalog.Relation
	OID        int64
	Name       string              // the tenant column, quoted as PostgreSQL quotes it
	Child      bool                // a partition, or inherits from another tenant table
	Accessible bool                // by the application, directly
	Policed    bool                // a permissive policy applies to the application
	Granted    map[string][]string // to the application, by privilege

	wanted string // the type the tenant column should have
}

var tablesQuery = `
SELECT json_agg(json_build_object(
	'oid',        t.oid::bigint,
	'schema',     t.nspname,
	'table',      t.relname,
	'owner',      pg_get_userbyid(t.relowner),
	'enabled',    t.relrowsecurity,
	'forced',     t.relforcerowsecurity,
	'name',       quote_ident(t.attname),
	'child',      EXISTS (
		SELECT FROM pg_inherits i JOIN tenants p ON p.oid = i.inhparent
		WHERE i.inhrelid = t.oid AND p.relkind <> 'f'),
	'accessible', ` + accessible("t") + `,
	'policed',    EXISTS (
		SELECT FROM pg_policy WHERE polrelid = t.oid AND polpermissive AND EXISTS (
			SELECT FROM unnest(polroles) r (oid), app WHERE r.oid = 0 OR pg_has_role(app.oid, r.oid, 'USAGE'))),
	'granted',    ` + grantsOf(aclOf("t"), "t.relowner") + `,
	'column',     ` + catalog.ColumnOf("t.oid", "t") + `
) ORDER BY t.nspname, t.relname)
FROM tenants t WHERE t.relkind <> 'f'`

// regular reports whether the policies of the table itself matter. Those of a partition do not while it is read through its
// parent only ("Row Security Policies").
func (t *tenantTable) regular() bool { return !t.Child || t.Enabled }

// exposed reports whether the table is read around the policies of its parent.
func (t *tenantTable) exposed() bool { return t.Child && t.Accessible && !t.Enabled }

// grantees returns the roles of the application that have any privilege on the table.
func (t *tenantTable) grantees() []string {
	var roles []string
	for _, granted := range t.Granted {
		roles = append(roles, granted...)
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

func (t *tenantTable) alter(action string) string { return "ALTER TABLE " + t.Quoted() + " " + action }

var tableRules = []rule[*tenantTable]{
	{
		code: TableNotEnabled, severity: Critical,
		found:   func(_ *checker, t *tenantTable) bool { return !t.Child && !t.Enabled },
		problem: "Row level security is off, and with it every policy: each tenant reads and changes the rows of all.",
		fix:     func(_ *checker, t *tenantTable) []string { return []string{t.alter("ENABLE ROW LEVEL SECURITY")} },
	},
	{
		code: TableNotForced, severity: High,
		found: func(_ *checker, t *tenantTable) bool { return t.regular() && !t.Forced },
		problem: "Policies do not apply to the owner (%s): what a tenant reaches with the owner's rights, as through its views, " +
			"functions and logins, shows the rows of all.",
		detail: func(_ *checker, t *tenantTable) string { return t.Owner },
		fix:    func(_ *checker, t *tenantTable) []string { return []string{t.alter("FORCE ROW LEVEL SECURITY")} },
	},
	{
		code: TableWithoutPolicy, severity: Medium,
		found: func(_ *checker, t *tenantTable) bool { return t.regular() && !t.Policed },
		problem: "No policy lets the application in: it sees no row at all, and the obvious repair, row level security off, " +
			"shows every tenant the rows of all.",
		fix: func(c *checker, t *tenantTable) []string { return c.policies(t) },
	},
	{
		code: PartitionExposed, severity: Critical,
		found: func(_ *checker, t *tenantTable) bool { return t.exposed() },
		problem: "The policies of the parent do not apply to a partition or child that is named directly, and the application " +
			"may do that: each tenant reads and changes the rows of all in it.",
		by:  (*tenantTable).grantees,
		fix: func(c *checker, t *tenantTable) []string { return c.isolate(t) },
	},
}

var columnRules = []rule[*tenantTable]{
	{
		code: TenantColumnType, severity: Medium,
		found: func(_ *checker, t *tenantTable) bool { return t.Column.Type != t.wanted },
		problem: "The tenant column is %s: ids that differ in one type can be equal in another, as 7 and 07 are, and give one " +
			"tenant the rows of another.",
		detail: func(_ *checker, t *tenantTable) string { return t.Column.Type + " and not " + t.wanted },
		fix:    (*checker).retype,
	},
	{
		code: TenantColumnCollation, severity: Critical,
		found: func(_ *checker, t *tenantTable) bool { return t.Column.Loose && (t.regular() || t.Accessible) },
		problem: "The collation of the tenant column takes different texts for equal, as acme and ACME: tenants whose ids differ in that read " +
			"and change each other's rows.",
		fix: func(c *checker, t *tenantTable) []string { return c.retypeTo(t, t.wanted+` COLLATE "C"`) },
	},
	{
		code: TenantColumnNullable, severity: Medium,
		found: func(_ *checker, t *tenantTable) bool { return !t.Column.NotNull },
		problem: "A row without a tenant is seen by none and escapes composite foreign keys: give every row its tenant, and then " +
			"demand it.",
		fix: func(_ *checker, t *tenantTable) []string {
			return []string{t.alter("ALTER COLUMN " + t.Name + " SET NOT NULL")}
		},
	},
	{
		code: TenantColumnDefault, severity: Low,
		found: func(c *checker, t *tenantTable) bool {
			return (t.regular() || t.Accessible) && t.Column.Default != c.WrittenDefault(t.Column.Type)
		},
		problem: "The default is not the current tenant: rows inserted without naming a tenant are refused, or are another's.",
		fix:     func(c *checker, t *tenantTable) []string { return []string{c.SetDefault(t.Quoted(), t.wanted)} },
	},
	{
		code: TenantColumnNotIndexed, severity: Medium,
		found: func(_ *checker, t *tenantTable) bool { return len(t.Column.Indexes) == 0 },
		problem: "No index leads with the tenant column: each statement of the smallest tenant reads the rows of all, and a " +
			"tenant with many rows slows everyone down.",
		fix: func(c *checker, t *tenantTable) []string { return []string{c.index(t)} },
	},
}

// index makes an index of the tenant column.
func (c *checker) index(t *tenantTable) string {
	return fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s (%s)", sqltext.Ident(sqltext.IndexName(t.Table, c.Column)), t.Quoted(), t.Name)
}

// policies makes the policies again, whatever policies of their names there are.
func (c *checker) policies(t *tenantTable) []string {
	var steps []string
	for _, name := range c.Names() {
		steps = append(steps,
			policy.Drop(name, t.Quoted()),
			c.Create(name, t.Quoted(), t.wanted))
	}
	return steps
}

// isolate makes the policies and switches them on.
func (c *checker) isolate(t *tenantTable) []string {
	return append(c.policies(t), t.alter("ENABLE ROW LEVEL SECURITY"), t.alter("FORCE ROW LEVEL SECURITY"))
}

// retype changes the type of the tenant column. Default and policies hold the old one and must go first.
func (c *checker) retype(t *tenantTable) []string { return c.retypeTo(t, t.wanted) }

// retypeTo does so with a type that may have a collation.
func (c *checker) retypeTo(t *tenantTable, columnType string) []string {
	var steps []string
	policed := false
	for _, p := range c.facts.Policies {
		if p.OID == t.OID {
			policed = true
			steps = append(steps, p.drop())
		}
	}
	steps = append(steps,
		t.alter("ALTER COLUMN "+t.Name+" DROP DEFAULT"),
		t.alter(fmt.Sprintf("ALTER COLUMN %s TYPE %s USING %[1]s::%[3]s", t.Name, columnType, t.wanted)),
		c.SetDefault(t.Quoted(), t.wanted))
	if policed {
		steps = append(steps, c.policies(t)...)
	}
	return steps
}

// expectTypes decides which type the tenant column of each table should have: the one that most tables of its schema have.
func expectTypes(tables []*tenantTable) {
	counts := map[string]map[string]int{}
	for _, t := range tables {
		if counts[t.Schema] == nil {
			counts[t.Schema] = map[string]int{}
		}
		if policy.IsColumnType(t.Column.Type) {
			counts[t.Schema][t.Column.Type]++
		}
	}
	for _, t := range tables {
		t.wanted = policy.ColumnTypes[0]
		for _, columnType := range policy.ColumnTypes {
			if counts[t.Schema][columnType] > counts[t.Schema][t.wanted] {
				t.wanted = columnType
			}
		}
	}
}

// parent is a table that is no tenant's and has a tenant table for a child.
type parent struct {
	catalog.Relation
	Child string // quoted
}

var parentsQuery = `
SELECT json_agg(json_build_object(
	'schema', n.nspname,
	'table',  p.relname,
	'child',  quote_ident(t.nspname) || '.' || quote_ident(t.relname)))
FROM pg_inherits i
JOIN tenants t ON t.oid = i.inhrelid
JOIN pg_class p ON p.oid = i.inhparent AND p.oid NOT IN (SELECT oid FROM tenants)
JOIN pg_namespace n ON n.oid = p.relnamespace
WHERE NOT t.relispartition AND ` + accessible("p")

var parentRules = []rule[parent]{{
	code: ParentExposes, severity: Critical,
	found: func(*checker, parent) bool { return true },
	problem: "It is no tenant table, but a tenant table (%s) inherits from it: a query of the parent returns the rows of all " +
		"tenants from the child, whose policies do not apply then.",
	detail: func(_ *checker, p parent) string { return p.Child },
	fix: func(_ *checker, p parent) []string {
		return []string{fmt.Sprintf("ALTER TABLE %s NO INHERIT %s", p.Child, p.Quoted())}
	},
}}

// foreignTable is a tenant table on another server.
type foreignTable struct {
	catalog.Relation
	Columned bool     // it has the tenant column
	Grantees []string // by whose rights the application has access, quoted
}

// columnedForeignTables counts the foreign tables that have the tenant column.
func (c *checker) columnedForeignTables() (count int) {
	for _, t := range c.facts.ForeignTables {
		if t.Columned {
			count++
		}
	}
	return count
}

var foreignTablesQuery = `
SELECT json_agg(json_build_object(
	'schema',   t.nspname,
	'table',    t.relname,
	'columned', t.columned,
	'grantees', ` + granteesOf("t") + `))
FROM (
	SELECT c.*, n.nspname, EXISTS (SELECT FROM tenants WHERE tenants.oid = c.oid) AS columned
	FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
	WHERE c.relkind = 'f' AND NOT (c.oid = ANY ($6::oid[]) OR n.nspname || '.' || c.relname = ANY ($5::text[]))
) t`

var foreignTableRules = []rule[foreignTable]{{
	code: ForeignTableAccessible, severity: Critical,
	found: func(_ *checker, t foreignTable) bool { return len(t.Grantees) > 0 },
	by:    func(t foreignTable) []string { return t.Grantees },
	problem: "A foreign table cannot have policies, and its server is asked with one login for all: each tenant reads the rows " +
		"of all.",
	fix: func(_ *checker, t foreignTable) []string {
		return []string{fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s", t.Quoted(), join(t.Grantees))}
	},
}}

func join(names []string) string { return strings.Join(names, ", ") }
