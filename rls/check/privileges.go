package check

import (
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// rewrite is a RULE by which a relation's owner, to which policies do not apply, reads or writes tenant tables.
type rewrite struct {
	Name, Schema, Table, Quoted string
	Owner                       string // of the relation
	Reads                       []string
}

var rewritesQuery = `
SELECT json_agg(json_build_object('name', w.rulename, 'schema', n.nspname, 'table', c.relname, 'quoted', format('%I.%I', n.nspname, c.relname),
	'owner', pg_get_userbyid(c.relowner), 'reads', reached.names) ORDER BY n.nspname, c.relname, w.rulename)
FROM pg_rewrite w
JOIN pg_class c ON c.oid = w.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
CROSS JOIN LATERAL (
	SELECT json_agg(DISTINCT t.nspname || '.' || t.relname) AS names
	FROM pg_depend d
	LEFT JOIN reads ON reads.reader = d.refobjid
	JOIN tenants t ON t.oid IN (d.refobjid, reads.relation) AND t.oid <> c.oid
	WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
		AND (reads.copied OR ` + bypassed("CASE WHEN reads.reader IS NULL THEN c.relowner ELSE reads.owner END", "t") + `)
) reached
WHERE w.ev_type <> '1' AND reached.names IS NOT NULL AND c.relowner NOT IN (SELECT oid FROM self) AND ` + accessible("c")

func (w rewrite) String() string { return fmt.Sprintf("rule %s on %s.%s", w.Name, w.Schema, w.Table) }

var rewriteRules = []rule[rewrite]{{
	code: RuleOwnerBypasses, severity: Critical,
	found: func(*checker, rewrite) bool { return true },
	problem: "It runs with the rights of the relation's owner, to which policies do not apply, also where the view is the invoker's: what a " +
		"tenant writes there reads or changes the rows of all in %s.",
	detail: func(_ *checker, w rewrite) string { return some(w.Reads) },
	fix: func(_ *checker, w rewrite) []string {
		return []string{fmt.Sprintf("DROP RULE %s ON %s", sqltext.Ident(w.Name), w.Quoted)}
	},
}}

// grant is an object other than a table on which the application has a privilege that it should not have.
type grant struct {
	Kind     string // of the object, as in SQL
	Name     string // as in SQL
	Grantees []string
}

// revoke takes the privilege away.
func (g grant) revoke(privilege string) []string {
	return []string{fmt.Sprintf("REVOKE %s ON %s %s FROM %s", privilege, g.Kind, g.Name, join(g.Grantees))}
}

type (
	sequence      struct{ grant }
	parameter     struct{ grant }
	foreignServer struct{ grant }
	fileFunction  struct{ grant }
	secret        struct{ grant } // a table of PostgreSQL's own
)

func (s sequence) String() string      { return "sequence " + s.Name }
func (p parameter) String() string     { return "parameter " + p.Name }
func (s foreignServer) String() string { return "server " + s.Name }
func (f fileFunction) String() string  { return "function " + f.Name }
func (s secret) String() string        { return "table " + s.Name }

// granted is the SQL for by whose rights the application has one privilege.
func granted(acl, owner, privilege string) string {
	return `(SELECT json_agg(DISTINCT self.name) FROM aclexplode(` + acl + `) e JOIN self ON self.oid = e.grantee
		WHERE e.privilege_type = '` + privilege + `' AND e.grantee <> ` + owner + `)`
}

var sequencesQuery = `
SELECT json_agg(json_build_object('kind', 'SEQUENCE', 'name', format('%I.%I', n.nspname, c.relname), 'grantees', g.names) ORDER BY n.nspname, c.relname)
FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT ` + granted("c.relacl", "c.relowner", "UPDATE") + ` AS names) g
WHERE c.relkind = 'S' AND g.names IS NOT NULL`

var sequenceRules = []rule[sequence]{{
	code: SequenceUpdatable, severity: Medium,
	found: func(*checker, sequence) bool { return true },
	problem: "UPDATE lets each tenant set it back, by setval, and with that keeps all others from inserting rows: USAGE is enough for " +
		"inserts.",
	by:  func(s sequence) []string { return s.Grantees },
	fix: func(_ *checker, s sequence) []string { return s.revoke("UPDATE") },
}}

// Parameters have privileges from PostgreSQL 15 on.
var parametersQuery = `
SELECT json_agg(json_build_object('kind', 'PARAMETER', 'name', p.parname, 'grantees', g.names) ORDER BY p.parname)
FROM pg_parameter_acl p
CROSS JOIN LATERAL (SELECT ` + granted("p.paracl", "10", "SET") + ` AS names) g
WHERE p.parname IN ('session_replication_role', 'lo_compat_privileges') AND g.names IS NOT NULL`

var parameterRules = []rule[parameter]{{
	code: ParameterSettable, severity: High,
	found:   func(*checker, parameter) bool { return true },
	problem: "With it each tenant switches off checks that hold for all: foreign keys and triggers, or whose a large object is.",
	by:      func(p parameter) []string { return p.Grantees },
	fix:     func(_ *checker, p parameter) []string { return append([]string{asSuperuser}, p.revoke("SET")...) },
}}

var foreignServersQuery = `
SELECT json_agg(json_build_object('kind', 'FOREIGN SERVER', 'name', quote_ident(s.srvname), 'grantees', g.names) ORDER BY s.srvname)
FROM pg_foreign_server s
CROSS JOIN LATERAL (SELECT ` + granted("s.srvacl", "s.srvowner", "USAGE") + ` AS names) g
WHERE g.names IS NOT NULL AND EXISTS (
	SELECT FROM pg_user_mappings m WHERE m.srvid = s.oid AND m.umuser IN (SELECT oid FROM self))`

var foreignServerRules = []rule[foreignServer]{{
	code: ForeignServerUsable, severity: High,
	found: func(*checker, foreignServer) bool { return true },
	problem: "There is a login for the application on it, and USAGE lets it make foreign tables of anything there, wherever it may create: " +
		"no policy applies to what they show.",
	by:  func(s foreignServer) []string { return s.Grantees },
	fix: func(_ *checker, s foreignServer) []string { return append([]string{asSuperuser}, s.revoke("USAGE")...) },
}}

// These are for superusers alone, unless someone grants them (https://www.postgresql.org/docs/current/functions-admin.html).
var fileFunctionsQuery = `
SELECT json_agg(json_build_object('kind', 'FUNCTION', 'name', p.oid::regprocedure::text, 'grantees', g.names) ORDER BY p.oid::regprocedure::text)
FROM pg_proc p
CROSS JOIN LATERAL (SELECT ` + granted("p.proacl", "p.proowner", "EXECUTE") + ` AS names) g
WHERE p.proname = ANY ('{pg_read_file,pg_read_binary_file,pg_stat_file,pg_ls_dir,lo_import,lo_export,pg_file_write,dblink_connect_u}'::name[])
	AND g.names IS NOT NULL`

var fileFunctionRules = []rule[fileFunction]{{
	code: FunctionReadsFiles, severity: High,
	found: func(*checker, fileFunction) bool { return true },
	problem: "It reads or writes with the rights of the server's own user, as the files of the database, or logs in as that user: no policy " +
		"applies there.",
	by: func(f fileFunction) []string { return f.Grantees },
	fix: func(_ *checker, f fileFunction) []string {
		return append([]string{asSuperuser}, f.revoke("EXECUTE")...)
	},
}}

// PostgreSQL keeps what these hold from all but superusers (https://www.postgresql.org/docs/current/catalog-pg-statistic.html).
var secretsQuery = `
SELECT json_agg(json_build_object('kind', 'TABLE', 'name', 'pg_catalog.' || c.relname, 'grantees', g.names) ORDER BY c.relname)
FROM pg_class c
CROSS JOIN LATERAL (
	SELECT json_agg(DISTINCT self.name) AS names FROM ` + aclOf("c") + ` e JOIN self ON self.oid = e.grantee
	WHERE e.privilege_type = 'SELECT' AND e.grantee <> c.relowner) g
WHERE c.relnamespace = 'pg_catalog'::regnamespace AND g.names IS NOT NULL
	AND c.relname IN ('pg_authid', 'pg_largeobject', 'pg_statistic', 'pg_statistic_ext_data', 'pg_user_mapping')`

var secretRules = []rule[secret]{{
	code: CatalogReadable, severity: High,
	found:   func(*checker, secret) bool { return true },
	problem: "No policy applies to it, and PostgreSQL lets only superusers read it, because it holds %s.",
	detail: func(_ *checker, s secret) string {
		switch s.Name {
		case "pg_catalog.pg_authid":
			return "the hashes of all passwords"
		case "pg_catalog.pg_user_mapping":
			return "passwords for other servers"
		case "pg_catalog.pg_largeobject":
			return "all large objects"
		default: // of statistics
			return "values from the rows of all tenants"
		}
	},
	by:  func(s secret) []string { return s.Grantees },
	fix: func(_ *checker, s secret) []string { return append([]string{asSuperuser}, s.revoke("SELECT")...) },
}}

// largeObjects are those that the application may read or write.
type largeObjects struct {
	OIDs     []int64
	Grantees []string // other than the owner
}

var largeObjectsQuery = `
SELECT json_build_object(
	'oids',     json_agg(m.oid::bigint ORDER BY m.oid),
	'grantees', (
		SELECT json_agg(DISTINCT self.name) FROM pg_largeobject_metadata o, aclexplode(o.lomacl) e
		JOIN self ON self.oid = e.grantee WHERE e.grantee <> o.lomowner))
FROM pg_largeobject_metadata m
WHERE m.lomowner IN (SELECT oid FROM self) OR EXISTS (SELECT FROM aclexplode(m.lomacl) e WHERE e.grantee IN (SELECT oid FROM self))
HAVING count(*) > 0`

func (largeObjects) String() string { return "large objects" }

var largeObjectRules = []rule[largeObjects]{{
	code: LargeObjectsShared, severity: High,
	found:   func(_ *checker, l largeObjects) bool { return len(l.OIDs) > 0 },
	problem: "They have no policies, and all tenants are one login (%s): each reads and changes those of others by their numbers.",
	detail:  func(_ *checker, l largeObjects) string { return fmt.Sprintf("%d objects", len(l.OIDs)) },
	by:      func(l largeObjects) []string { return l.Grantees },
	fix: func(c *checker, l largeObjects) []string {
		if c.facts.Role.Heir == "" {
			return nil
		}
		steps := []string{asSuperuser}
		for _, oid := range l.OIDs {
			for _, grantee := range l.Grantees {
				steps = append(steps, fmt.Sprintf("REVOKE ALL ON LARGE OBJECT %d FROM %s", oid, grantee))
			}
			steps = append(steps, fmt.Sprintf("ALTER LARGE OBJECT %d OWNER TO %s", oid, c.facts.Role.Heir))
		}
		return steps
	},
}}

// special is a function that the application may call, and that is LEAKPROOF or starts with settings of its own.
type special struct {
	Signature string
	Leakproof bool
	Sets      []string // settings on which isolation depends
	Callers   []string
}

var specialsQuery = `
SELECT json_agg(json_build_object('signature', p.oid::regprocedure::text, 'leakproof', p.proleakproof, 'sets', sets.names,
	'callers', ` + callers + `) ORDER BY p.oid::regprocedure::text)
FROM pg_proc p
JOIN spaces n ON n.oid = p.pronamespace
CROSS JOIN LATERAL (
	SELECT json_agg(split_part(given, '=', 1)) AS names FROM unnest(p.proconfig) given
	WHERE lower(split_part(given, '=', 1)) IN (lower($10), 'role', 'session_authorization', 'session_replication_role')) sets
WHERE (p.proleakproof OR sets.names IS NOT NULL) AND p.oid >= 16384
	AND ` + callers + ` IS NOT NULL AND ` + canUse

func (s special) String() string { return "function " + s.Signature }

var specialRules = []rule[special]{
	{
		code: FunctionLeakproof, severity: High,
		found: func(_ *checker, s special) bool { return s.Leakproof },
		problem: "PostgreSQL runs a LEAKPROOF function before policies have taken away the rows of others: what it does with them, an error or " +
			"a notice, each tenant sees.",
		by: func(s special) []string { return s.Callers },
		fix: func(_ *checker, s special) []string {
			return []string{"ALTER FUNCTION " + s.Signature + " NOT LEAKPROOF"}
		},
	},
	{
		code: FunctionSetsTenant, severity: High,
		found:   func(_ *checker, s special) bool { return len(s.Sets) > 0 },
		problem: "It runs with %s of its own, whichever tenant calls it: what it reads and changes is not the caller's.",
		detail:  func(_ *checker, s special) string { return join(s.Sets) },
		by:      func(s special) []string { return s.Callers },
		fix: func(_ *checker, s special) []string {
			var steps []string
			for _, name := range slices.Sorted(slices.Values(s.Sets)) {
				steps = append(steps, fmt.Sprintf("ALTER ROUTINE %s RESET %s", s.Signature, settingName(name)))
			}
			return steps
		},
	},
}
