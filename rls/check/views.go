package check

import (
	"fmt"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// view is a view that reads tenant tables and is open to the application.
type view struct {
	catalog.Relation
	Materialized bool
	Invoker      bool
	Bypasses     bool     // a policy of a table it reads, by the rights of its owner or in another view
	Within       bool     // in another view
	Heir         string   // the owner of a table it reads, which is neither exempt from policies nor inherits from an exempt role; quoted
	Unforced     []string // the tables it reads whose owners bypass their policies, quoted
	Grantees     []string // by whose rights the application has access, quoted
	Reads        []string // tables, for people
}

var viewsQuery = `
SELECT json_agg(json_build_object(
	'schema',        n.nspname,
	'table',         v.relname,
	'owner',         pg_get_userbyid(v.relowner),
	'materialized',  v.relkind = 'm',
	'invoker',       ` + isInvoker("v") + `,
	'bypasses',      r.bypassed,
	'within',        r.within,
	'heir',          coalesce(quote_ident(r.heir), ''),
	'unforced',      r.unforced,
	'grantees',      ` + granteesOf("v") + `,
	'reads',         r.names) ORDER BY n.nspname, v.relname)
FROM app, (
	SELECT reads.reader, json_agg(DISTINCT t.nspname || '.' || t.relname) AS names,
		min(pg_get_userbyid(t.relowner)) FILTER (WHERE t.relowner NOT IN (SELECT oid FROM above)) AS heir,
		json_agg(DISTINCT format('%I.%I', t.nspname, t.relname)) FILTER (WHERE NOT t.relforcerowsecurity) AS unforced,
		bool_or(` + bypassed("reads.owner", "t") + ` OR reads.copied) AS bypassed,
		bool_or((` + bypassed("reads.owner", "t") + `) AND reads.owner <> v.relowner OR reads.copied) AS within
	FROM reads JOIN tenants t ON t.oid = reads.relation JOIN pg_class v ON v.oid = reads.reader
	GROUP BY reads.reader
) r
JOIN pg_class v ON v.oid = r.reader AND v.relkind IN ('v', 'm')
JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE v.relowner NOT IN (SELECT oid FROM self)
	AND ` + canUse + ` AND ` + accessible("v")

// Functions read views that the application itself may not.
const readersQuery = `
SELECT json_agg(json_build_object('schema', n.nspname, 'table', v.relname) ORDER BY n.nspname, v.relname)
FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE v.oid IN (SELECT reader FROM reads)`

// bypassed is the SQL for whether no policy of a table applies to a role ("Row Security Policies").
func bypassed(role, table string) string {
	return role + ` IN (SELECT oid FROM above)
		OR NOT ` + table + `.relforcerowsecurity AND pg_has_role(` + role + `, ` + table + `.relowner, 'USAGE')`
}

// viewRules are in the order of what matters most. Only the first one that holds is reported.
var viewRules = []rule[view]{
	{
		code: MaterializedViewReadable, severity: Critical,
		found: func(_ *checker, v view) bool { return v.Materialized },
		problem: "It holds a copy of rows of %s to which no policy applies: each tenant reads those of all. Let only the admin role " +
			"read it.",
		detail: func(_ *checker, v view) string { return some(v.Reads) }, by: func(v view) []string { return v.Grantees },
		fix: func(c *checker, v view) []string {
			if len(v.Grantees) == 0 {
				return []string{asSuperuser, fmt.Sprintf("REVOKE pg_read_all_data FROM %s", sqltext.Ident(c.AppRole))}
			}
			return []string{fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s", v.Quoted(), join(v.Grantees))}
		},
	},
	{
		code: ViewOwnerBypasses, severity: Critical,
		found: func(_ *checker, v view) bool { return !v.Invoker && v.Bypasses },
		problem: "It reads %s with the rights of its owner, or by another view, to which policies do not apply: each tenant reads, and " +
			"through a simple view changes, the rows of all.",
		detail: func(_ *checker, v view) string { return some(v.Reads) }, by: func(v view) []string { return v.Grantees },
		fix: (*checker).fixView,
	},
	{
		code: ViewNotInvoker, severity: Medium,
		found: func(c *checker, v view) bool { return !v.Invoker && c.version >= sqltext.PostgreSQL15 },
		problem: "It reads %s with the rights of its owner, and by the policies for that role: each tenant sees the rows of all as " +
			"soon as the owner may, or another becomes the owner.",
		detail: func(_ *checker, v view) string { return some(v.Reads) }, by: func(v view) []string { return v.Grantees },
		fix: (*checker).fixView,
	},
}

// fixView makes a view use the rights of its caller. Before PostgreSQL 15 there are only other owners.
func (c *checker) fixView(v view) []string {
	if c.version >= sqltext.PostgreSQL15 {
		return []string{fmt.Sprintf("ALTER VIEW %s SET (security_invoker = true)", v.Quoted())}
	}
	if v.Heir == "" || v.Within {
		return []string{fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s", v.Quoted(), join(v.Grantees))}
	}
	steps := []string{asSuperuser, fmt.Sprintf("ALTER VIEW %s OWNER TO %s", v.Quoted(), v.Heir)}
	for _, table := range v.Unforced {
		steps = append(steps, "ALTER TABLE "+table+" FORCE ROW LEVEL SECURITY")
	}
	return steps
}
