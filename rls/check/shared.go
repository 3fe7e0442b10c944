package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// child is a table without the tenant column that refers to a tenant table, perhaps through other such tables, and that neither
// a model nor Allow says is shared.
type child struct {
	catalog.Relation
	OID      int64
	Depth    int // how many foreign keys lead to a tenant table
	Grantees []string
	Links    []foreignKey // to tenant tables and other children

	table   *tenantTable // as it should be
	parents []*child     // those that come before it
	modeled bool         // a model says that it is a tenant table, which other rules find
}

const foreignKeyJSON = `json_build_object(
		'child',             con.conrelid::bigint,
		'parent',            con.confrelid::bigint,
		'name',              con.conname,
		'columns',           (
			SELECT json_agg(quote_ident(attname) ORDER BY n)
			FROM unnest(con.conkey) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum),
		'referencedcolumns', (
			SELECT json_agg(quote_ident(attname) ORDER BY n)
			FROM unnest(con.confkey) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.attnum),
		'onupdate',          con.confupdtype,
		'ondelete',          con.confdeltype,
		'deferrable',        concat(CASE WHEN con.condeferrable THEN ' DEFERRABLE' END, CASE WHEN con.condeferred THEN ' INITIALLY DEFERRED' END))`

var childrenQuery = `
WITH RECURSIVE plain AS (
	SELECT c.*, n.nspname FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
		AND NOT (c.oid = ANY ($6::oid[]) OR n.nspname || '.' || c.relname = ANY ($5::text[]))
		AND c.oid NOT IN (SELECT oid FROM columned)
), fks AS (
	SELECT con.* FROM pg_constraint con JOIN plain ON plain.oid = con.conrelid WHERE con.contype = 'f' AND con.conparentid = 0
), found (oid, depth) AS (
	SELECT fks.conrelid, 1 FROM fks JOIN tenants t ON t.oid = fks.confrelid
	UNION
	SELECT fks.conrelid, found.depth + 1 FROM found JOIN fks ON fks.confrelid = found.oid AND fks.conrelid <> found.oid
	WHERE found.depth < 16
), children AS (
	SELECT oid, min(depth) AS depth FROM found GROUP BY oid
)
SELECT json_agg(json_build_object(
	'oid',      p.oid::bigint,
	'schema',   p.nspname,
	'table',    p.relname,
	'depth',    children.depth,
	'grantees', ` + granteesOf("p") + `,
	'links',    (
		SELECT json_agg(` + foreignKeyJSON + ` ORDER BY con.conname) FROM fks con
		WHERE con.conrelid = p.oid AND (con.confrelid IN (SELECT oid FROM children) OR con.confrelid IN (SELECT oid FROM tenants)))
	) ORDER BY children.depth, p.nspname, p.relname)
FROM children JOIN plain p ON p.oid = children.oid
WHERE ` + accessible("p") + ` AND EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = p.nspname AND ` + canUse + `)`

// connectChildren links children to their parents, those before them first, as they are sorted by depth.
func (c *checker) connectChildren(tables map[int64]*tenantTable, models []*modelTable) {
	known := map[int64]*child{}
	for n := range c.facts.Children {
		t := &c.facts.Children[n]
		t.table = &tenantTable{Relation: t.Relation, OID: t.OID, Name: sqltext.Ident(c.Column)}
		t.modeled = slices.ContainsFunc(models, func(m *modelTable) bool { return m.oid == t.OID && m.Asked() })
		known[t.OID] = t
		links := t.Links[:0]
		for _, k := range t.Links {
			k.child, k.parent = t.table, tables[k.Parent]
			if parent := known[k.Parent]; parent != nil {
				k.parent = parent.table
				if parent != t {
					t.parents = append(t.parents, parent)
				}
			}
			if k.parent == nil {
				continue // which comes after it
			}
			if t.table.wanted == "" {
				t.table.wanted = k.parent.wanted
			}
			links = append(links, k)
		}
		t.Links = links
	}
}

// children are the children as rules judge them.
func (c *checker) children() []*child {
	list := make([]*child, len(c.facts.Children))
	for n := range c.facts.Children {
		list[n] = &c.facts.Children[n]
	}
	return list
}

var childRules = []rule[*child]{{
	code: ChildWithoutTenant, severity: Critical,
	found: func(_ *checker, t *child) bool { return !t.modeled && len(t.Links) > 0 },
	problem: "It refers to %s, and has no tenant column: each tenant reads and changes in it what belongs to the rows of others. Where " +
		"all may share it all the same, say so by a model or by Allow.",
	detail: func(_ *checker, t *child) string { return "the tenant table " + t.chain() },
	by:     func(t *child) []string { return t.Grantees },
	fix:    func(c *checker, t *child) []string { return t.isolate(c) },
}}

// chain says by which tables it refers to a tenant table.
func (t *child) chain() string {
	var others []string
	for _, k := range t.Links {
		if k.parent != t.table {
			others = append(others, k.parent.String())
		}
	}
	for _, parent := range t.parents {
		if len(others) > 0 && others[0] == parent.String() {
			return parent.chain() + " through " + others[0]
		}
	}
	return others[0]
}

// isolate makes the child a tenant table, like its parents. Those that are children come before it; all steps can be repeated.
func (t *child) isolate(c *checker) []string {
	var steps []string
	for _, parent := range t.parents {
		steps = append(steps, parent.isolate(c)...)
	}
	steps = append(steps, t.table.alter(fmt.Sprintf("ADD COLUMN IF NOT EXISTS %s %s", t.table.Name, t.table.wanted)))
	for _, k := range t.Links {
		if k.parent == t.table {
			continue
		}
		var matches []string
		for n, column := range k.Columns {
			matches = append(matches, fmt.Sprintf("child.%s = parent.%s", column, k.ReferencedColumns[n]))
		}
		steps = append(steps,
			k.parent.alter("NO FORCE ROW LEVEL SECURITY"),
			fmt.Sprintf("UPDATE %s AS child SET %[2]s = parent.%[3]s FROM %[4]s AS parent WHERE child.%[2]s IS NULL AND %[5]s",
				t.Quoted(), t.table.Name, k.parent.Name, k.parent.Quoted(), strings.Join(matches, " AND ")),
			k.parent.alter("FORCE ROW LEVEL SECURITY"))
	}
	steps = append(steps,
		t.table.alter(fmt.Sprintf("ALTER COLUMN %s SET NOT NULL", t.table.Name)), c.SetDefault(t.Quoted(), t.table.wanted), c.index(t.table))
	for _, k := range t.Links {
		steps = append(steps, k.composite(c)...)
	}
	return append(steps, c.isolate(t.table)...)
}

// sharedParent is a table without a tenant's policy whose changes a foreign key passes on to a tenant table.
type sharedParent struct {
	foreignKey    `json:"foreignkey"`
	Of            catalog.Relation    // the parent
	Granted       map[string][]string // on it, to the application
	Secured       bool                // row-level security is on for it
	Paired        string              // its column that the key pairs with the tenant column
	PairedType    string
	WritePolicies []policy.Stored // by which the application may change it
}

var sharedParentsQuery = `
SELECT json_agg(json_build_object(
	'foreignkey',    ` + foreignKeyJSON + `,
	'of',            json_build_object('schema', pn.nspname, 'table', p.relname),
	'granted',       ` + grantsOf(aclOf("p"), "p.relowner") + `,
	'secured',       p.relrowsecurity AND p.relforcerowsecurity,
	'paired',        coalesce(pair.attname, ''),
	'pairedtype',    coalesce(format_type(pair.atttypid, NULL), ''),
	'writepolicies', (
		SELECT json_agg(` + policy.StoredOf("w") + `) FROM pg_policy w
		WHERE w.polrelid = p.oid AND w.polcmd IN ('*', 'w', 'd') AND w.polroles && ARRAY(SELECT oid FROM self)))
	ORDER BY t.nspname, t.relname, con.conname)
FROM pg_constraint con
JOIN tenants t ON t.oid = con.conrelid
JOIN pg_class p ON p.oid = con.confrelid AND p.oid NOT IN (SELECT oid FROM tenants)
JOIN pg_namespace pn ON pn.oid = p.relnamespace
LEFT JOIN pg_attribute pair ON pair.attrelid = p.oid AND pair.attnum = con.confkey[array_position(con.conkey, t.attnum)]
WHERE con.contype = 'f' AND con.conparentid = 0 AND (con.confdeltype IN ('c', 'n', 'd') OR con.confupdtype IN ('c', 'n', 'd'))`

// own reports whether the parent is a table in which each tenant changes rows of its own only, and to which the key binds rows of
// the same tenant.
func (p sharedParent) own(c *checker) bool {
	return p.Secured && p.Paired != "" && !slices.ContainsFunc(p.WritePolicies, func(written policy.Stored) bool {
		return written.Judge(c.On(p.Paired), p.PairedType) == policy.Unproved
	})
}

// passesOn reports whether an action changes the rows that refer to the one that is changed.
func passesOn(action string) bool { return action == "c" || action == "n" || action == "d" }

// by returns the roles that may change the parent in a way that the key passes on.
func (p sharedParent) by() []string {
	var roles []string
	if passesOn(p.OnDelete) {
		roles = append(roles, p.Granted["DELETE"]...)
	}
	if passesOn(p.OnUpdate) {
		roles = append(roles, p.Granted["UPDATE"]...)
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

var sharedParentRules = []rule[sharedParent]{{
	code: SharedParentCascades, severity: Critical,
	found: func(c *checker, p sharedParent) bool { return len(p.by()) > 0 && !p.own(c) },
	problem: "It passes changes of %s on, and referential actions ask no policy: by changing a row there, each tenant changes or deletes " +
		"the rows of all that refer to it.",
	detail: func(_ *checker, p sharedParent) string { return p.Of.String() },
	by:     sharedParent.by,
	fix: func(_ *checker, p sharedParent) []string {
		name := sqltext.Ident(p.Name)
		return []string{
			p.child.alter("NO FORCE ROW LEVEL SECURITY"),
			p.child.alter(fmt.Sprintf("DROP CONSTRAINT %s, ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)%s",
				name, name, join(p.Columns), p.Of.Quoted(), join(p.ReferencedColumns), p.Deferrable)),
			p.child.alter("FORCE ROW LEVEL SECURITY"),
		}
	},
}}

// ownPolicy is a policy on the table of a model that says TenantOwnRows.
type ownPolicy struct {
	policy.Stored `json:"stored"`
	Name          string
}

// column is a column of a model's table.
type column struct{ Name, Type string }

// ownColumn returns the column that says whose a row of the table is.
func (m *modelTable) ownColumn() column {
	n := slices.IndexFunc(m.live.Columns, func(col column) bool { return col.Name == m.OwnColumn })
	if n < 0 {
		return column{Name: m.OwnColumn, Type: policy.ColumnTypes[0]}
	}
	return m.live.Columns[n]
}

// strangers returns the policies by which tenants write other rows than their own.
func (m *modelTable) strangers(c *checker) []ownPolicy {
	own := m.ownColumn()
	return slices.DeleteFunc(slices.Clone(m.live.OwnPolicies), func(p ownPolicy) bool {
		return p.Command == "r" || p.Judge(c.On(own.Name), own.Type) > policy.Unproved
	})
}

// isolateOwn makes the policies by which tenants write their own rows only.
func (m *modelTable) isolateOwn(c *checker) []string {
	var steps []string
	own := m.ownColumn()
	for _, p := range m.strangers(c) {
		steps = append(steps, policy.Drop(p.Name, m.live.Quoted()))
	}
	names := c.Names()
	if c.LookupRole == "" {
		names = append(names, policy.Lookup)
	}
	for _, name := range names {
		steps = append(steps, policy.Drop(name, m.live.Quoted()), c.On(own.Name).Create(name, m.live.Quoted(), own.Type))
	}
	alter := "ALTER TABLE " + m.live.Quoted()
	return append(steps, alter+" ENABLE ROW LEVEL SECURITY", alter+" FORCE ROW LEVEL SECURITY")
}

// writers returns by whose rights the application writes the table.
func (m *modelTable) writers() []string {
	var roles []string
	for _, privilege := range []string{"INSERT", "UPDATE", "DELETE"} {
		roles = append(roles, m.live.Granted[privilege]...)
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}
