package check

import (
	"fmt"

	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// function is a SECURITY DEFINER function that the application may call. Those that verify signatures, which qualify each name instead of having a
// search_path, are left out.
type function struct {
	Signature string // with the schema, quoted
	Owner     string
	Callers   []string // by whose rights the application may call it, as in SQL
	Called    bool     // rather than fired: it is no trigger's
	Fixed     bool     // has a search_path of its own
	Path      string   // the search_path to give it
	Compiled  bool
	Source    string   // unless it is parsed already
	Reads     []string // what its parsed body refers to, for people

	Calls []int64 // other functions, by oid, in its parsed body

	deed // what its source does
}

var functionsQuery = `
SELECT json_agg(json_build_object(
	'signature', p.oid::regprocedure::text,
	'owner',     pg_get_userbyid(p.proowner),
	'callers',   ` + callers + `,
	'called',    p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype),
	'fixed',     EXISTS (SELECT FROM unnest(p.proconfig) setting WHERE setting LIKE 'search_path=%'),
	'path',      'pg_catalog, ' || quote_ident(n.nspname) || ', pg_temp',
	'compiled',  l.lanname IN ('c', 'internal'),
	'source',    p.prosrc,
	'calls',     ` + callsOf + `,
	'reads',     ` + readsOf + `) ORDER BY p.oid::regprocedure::text)
FROM app, pg_proc p
JOIN spaces n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
WHERE p.prosecdef AND NOT app.rolsuper AND NOT ` + signing.IsOurs("p.oid") + `
	AND ` + callers + ` IS NOT NULL AND ` + canUse + `
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')`

func (f function) String() string { return "function " + f.Signature }

func (f function) by() []string { return f.Callers }

var functionRules = []rule[function]{
	{
		code: FunctionDefinerReads, severity: High,
		found: func(_ *checker, f function) bool { return f.Called && (len(f.Reads) > 0 || f.reads != "") },
		problem: "It runs with the rights of its owner, by the policies for that role: %s, each tenant gets from it what the owner " +
			"sees, and that can be the rows of all.",
		detail: func(_ *checker, f function) string {
			if len(f.Reads) > 0 {
				return "as it reads " + some(f.Reads)
			}
			return "if it reads " + f.reads + f.through() + ", as its source says it may"
		},
		fix: func(_ *checker, f function) []string {
			return []string{"ALTER ROUTINE " + f.Signature + " SECURITY INVOKER"}
		},
		by: function.by,
	},
	{
		code: FunctionDefinerDynamic, severity: High,
		found: func(_ *checker, f function) bool { return f.Called && f.dynamic && len(f.Reads) == 0 && f.reads == "" },
		problem: "It runs SQL that is put together%s with the rights of %s: what a caller gets into that SQL can read the rows of all, " +
			"or switch isolation off.",
		details: func(_ *checker, f function) []any { return []any{f.through(), f.Owner} },
		fix: func(_ *checker, f function) []string {
			return []string{"ALTER ROUTINE " + f.Signature + " SECURITY INVOKER"}
		},
		by: function.by,
	},
	{
		code: FunctionSearchPath, severity: High,
		found: func(_ *checker, f function) bool { return !f.Fixed },
		problem: "It runs with the rights of %s and the search_path of its caller: a temporary table of a name it uses, which anyone " +
			"can make, takes the place of the one that is meant.",
		detail: func(_ *checker, f function) string { return f.Owner },
		fix: func(_ *checker, f function) []string {
			return []string{"ALTER ROUTINE " + f.Signature + " SET search_path = " + f.Path}
		},
		by: function.by,
	},
}

// readSources finds out which functions name a tenant table, or a view that reads one, in a body that PostgreSQL has not
// parsed, or call a function that does.
func (c *checker) readSources() {
	sources := c.sources()
	for n := range c.facts.Functions {
		f := &c.facts.Functions[n]
		if f.Compiled {
			c.unseen = append(c.unseen, fmt.Sprintf("What function %s reads cannot be seen: it is compiled.", f.Signature))
			continue
		}
		f.deed = sources.deeds(f.Source, f.Calls)
	}
	for n := range c.facts.Triggers {
		t := &c.facts.Triggers[n]
		if t.Exempt {
			t.deed = sources.deeds(t.Source, nil)
		} else { // what it reads from tables is bound by policies
			t.deed = sources.of(t.Views).deeds(t.Source, nil)
		}
	}
}

// trigger is a trigger whose function runs with the rights of a role to which policies of tenant tables do not apply, or that may read views
// to which they do not.
type trigger struct {
	Tenant              bool // it is on a tenant table
	Exempt              bool // policies do not apply to the role
	Views               []catalog.Relation
	Schema, Table, Name string
	Function            string // with the schema, quoted
	Owner               string // of the function
	Source              string

	deed
}

var triggersQuery = `
SELECT json_agg(json_build_object(
	'schema',   t.nspname,
	'table',    t.relname,
	'name',     g.tgname,
	'function', p.oid::regprocedure::text,
	'owner',    pg_get_userbyid(p.proowner),
	'tenant',   t.tenant,
	'exempt',   r.exempt,
	'views',    r.views,
	'source',   p.prosrc) ORDER BY t.nspname, t.relname, g.tgname)
FROM (
	SELECT c.oid, c.relacl, c.relname, n.nspname, EXISTS (SELECT FROM tenants WHERE tenants.oid = c.oid) AS tenant
	FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace WHERE c.relhastriggers
) t
JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgparentid = 0
JOIN pg_proc p ON p.oid = g.tgfoid
CROSS JOIN LATERAL (
	SELECT EXISTS (SELECT FROM tenants b WHERE (b.oid = t.oid OR NOT t.tenant) AND (` + bypassed("p.proowner", "b") + `)) AS exempt, (
		SELECT json_agg(DISTINCT jsonb_build_object('schema', vn.nspname, 'table', v.relname))
		FROM reads
		JOIN tenants b ON b.oid = reads.relation
		JOIN pg_class v ON v.oid = reads.reader
		JOIN pg_namespace vn ON vn.oid = v.relnamespace
		WHERE (reads.copied OR ` + bypassed("reads.owner", "b") + `) AND has_table_privilege(p.proowner, v.oid, 'SELECT')) AS views
) r
WHERE p.prosecdef AND p.proowner NOT IN (SELECT oid FROM self) AND (t.tenant OR ` + accessible("t") + `)
	AND (r.exempt OR r.views IS NOT NULL)`

// readsOf is the SQL for the tenant tables that the parsed body of the function p refers to, and callsOf for the functions.
const (
	readsOf = `(
		SELECT json_agg(DISTINCT t.nspname || '.' || t.relname)
		FROM pg_depend d
		LEFT JOIN reads ON reads.reader = d.refobjid
		JOIN tenants t ON t.oid IN (d.refobjid, reads.relation)
		WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass)`
	callsOf = `(
		SELECT json_agg(d.refobjid::bigint) FROM pg_depend d
		WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass)`
)

func (t trigger) String() string {
	return fmt.Sprintf("trigger %s on %s.%s", t.Name, t.Schema, t.Table)
}

var triggerRules = []rule[trigger]{{
	code: TriggerOwnerBypasses, severity: High,
	found: func(_ *checker, t trigger) bool { return t.reads != "" || t.Exempt && (t.Tenant || t.dynamic) },
	problem: "Its function runs with the rights of %s, to which policies do not apply: what a tenant writes makes it read and " +
		"change the rows of all.",
	detail: func(_ *checker, t trigger) string {
		if !t.Exempt {
			return t.Owner + ", and reads " + t.reads + t.through()
		}
		return t.Owner
	},
	fix: func(_ *checker, t trigger) []string {
		return []string{"ALTER ROUTINE " + t.Function + " SECURITY INVOKER"}
	},
}}
