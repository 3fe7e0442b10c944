package check

import (
	"fmt"
	"regexp"
	"strings"
)

// function is a SECURITY DEFINER function that the application may call.
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

	may string // a tenant table or view that its source names
}

var functionsQuery = `
SELECT json_agg(json_build_object(
	'signature', p.oid::regprocedure::text,
	'owner',     pg_get_userbyid(p.proowner),
	'callers',   ` + callersOf("p.oid") + `,
	'called',    p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype),
	'fixed',     EXISTS (SELECT FROM unnest(p.proconfig) setting WHERE setting LIKE 'search_path=%'),
	'path',      'pg_catalog, ' || quote_ident(n.nspname) || ', pg_temp',
	'compiled',  l.lanname IN ('c', 'internal'),
	'source',    p.prosrc,
	'reads',     (
		SELECT json_agg(DISTINCT t.nspname || '.' || t.relname)
		FROM pg_depend d
		LEFT JOIN reads ON reads.reader = d.refobjid
		JOIN tenants t ON t.oid IN (d.refobjid, reads.relation)
		WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass)
	) ORDER BY p.oid::regprocedure::text)
FROM app, pg_proc p
JOIN spaces n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
WHERE p.prosecdef AND NOT app.rolsuper
	AND ` + callersOf("p.oid") + ` IS NOT NULL AND ` + canUse("n.oid") + `
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')`

func (f function) String() string { return "function " + f.Signature }

func (f function) by() []string { return f.Callers }

var functionRules = []rule[function]{
	{
		code: FunctionDefinerReads, severity: High,
		found: func(_ *checker, f function) bool { return f.Called && (len(f.Reads) > 0 || f.may != "") },
		problem: "It runs with the rights of its owner, by the policies for that role: %s, each tenant gets from it what the owner " +
			"sees, and that can be the rows of all.",
		detail: func(_ *checker, f function) string {
			if len(f.Reads) > 0 {
				return "as it reads " + some(f.Reads)
			}
			return "if it reads " + f.may + ", as its source says it may"
		},
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

// word is a name in the source of a function, quoted or not.
var word = regexp.MustCompile(`"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*`)

// readSources finds out which functions name a tenant table, or a view that reads one, in a body that PostgreSQL has not
// parsed. It errs on the side of suspicion: a name in a comment counts.
func (c *checker) readSources() {
	names := map[string]string{}
	for _, v := range c.facts.Views {
		names[v.Table] = v.String()
	}
	for _, t := range c.facts.Tables {
		names[t.Table] = t.String()
	}
	for _, t := range c.facts.ForeignTables {
		names[t.Table] = t.String()
	}
	for n := range c.facts.Functions {
		f := &c.facts.Functions[n]
		if f.Compiled {
			c.unseen = append(c.unseen, fmt.Sprintf("What function %s reads cannot be seen: it is compiled.", f.Signature))
			continue
		}
		for _, name := range word.FindAllString(f.Source, -1) {
			if name[0] == '"' {
				name = unquoted(name)
			} else if _, exact := names[name]; !exact {
				name = strings.ToLower(name)
			}
			if names[name] != "" {
				f.may = names[name]
				break
			}
		}
	}
}

// trigger is a trigger on a tenant table whose function runs with the rights of a role to which its policies do not apply.
type trigger struct {
	Schema, Table, Name string
	Function            string // with the schema, quoted
	Owner               string // of the function
}

var triggersQuery = `
SELECT json_agg(json_build_object(
	'schema',   t.nspname,
	'table',    t.relname,
	'name',     g.tgname,
	'function', p.oid::regprocedure::text,
	'owner',    pg_get_userbyid(p.proowner)) ORDER BY t.nspname, t.relname, g.tgname)
FROM tenants t
JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgparentid = 0
JOIN pg_proc p ON p.oid = g.tgfoid
WHERE p.prosecdef AND (` + bypassed("p.proowner", "t") + `)`

func (t trigger) String() string {
	return fmt.Sprintf("trigger %s on %s.%s", t.Name, t.Schema, t.Table)
}

var triggerRules = []rule[trigger]{{
	code: TriggerOwnerBypasses, severity: High,
	found: func(*checker, trigger) bool { return true },
	problem: "Its function runs with the rights of %s, to which policies do not apply: what a tenant writes makes it read and " +
		"change the rows of all.",
	detail: func(_ *checker, t trigger) string { return t.Owner },
	fix: func(_ *checker, t trigger) []string {
		return []string{"ALTER ROUTINE " + t.Function + " SECURITY INVOKER"}
	},
}}
