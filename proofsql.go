package tenancy

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// answersSQL answers whether PostgreSQL isolates what a name means at this moment, for the role in use. It reads the catalog
// and nothing else, and each name and operator in it is qualified: SQL of the caller may have changed the search_path.
//
//   - $1 the name, as in SQL
//   - $2 the tenant column
//   - $3 the pattern of package policy
//   - $4 'tenant' if the table must have the column, 'own' if it must and all may read it, 'raw' if raw SQL may be about another table
//   - $5 names of tables whose policies are trusted
//
// It is one row: the verdict, and what is wrong as a JSON document (leak), or NULL.
//
// Policies of the roles whose privileges the role has are those that apply to it; PUBLIC is 0
// (https://www.postgresql.org/docs/current/catalog-pg-policy.html). Permissive ones are joined by OR, so that each must bind,
// and restrictive ones by AND, so that a single good one suffices for a command. An expression that is NULL lets no row
// in; without WITH CHECK, USING is used.
//
// A view that runs with the rights of the role that asks (security_invoker) is as safe as the relations beneath it, which
// are checked instead: one of them must have the column, which a view can make from any other. What inherits from a table is read with
// it, by the table's policies and not by its own. Temporary relations are the caller's own: the guard ensures that no earlier user has left any.
var answersSQL = `(
WITH RECURSIVE named (oid, temporary, columned) AS (
    SELECT c.oid, c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema(), ` + hasColumn + `
    FROM pg_catalog.pg_class c
    WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid
), beneath (oid) AS (
    SELECT oid FROM named
  UNION
    SELECT d.refobjid
    FROM beneath b
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.oid AND ` + isInvoker + `
    JOIN pg_catalog.pg_rewrite w ON w.ev_class OPERATOR(pg_catalog.=) c.oid
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
        AND d.objid OPERATOR(pg_catalog.=) w.oid
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
), heirs (oid) AS (
    SELECT oid FROM named WHERE NOT columned
  UNION
    SELECT i.inhrelid FROM heirs h JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) h.oid
)
SELECT CASE WHEN n.oid IS NULL THEN 'absent' WHEN n.temporary AND n.columned THEN 'temporary'
            WHEN n.temporary THEN 'temporary, columnless' WHEN NOT n.columned THEN 'columnless'
            WHEN ` + holdsTenant("n.oid") + ` THEN 'keyed' ELSE 'isolated' END,
       CASE WHEN n.temporary THEN NULL
            WHEN NOT n.columned AND $4 OPERATOR(pg_catalog.=) ANY (ARRAY['tenant', 'own']) THEN pg_catalog.json_build_object(
                'table', n.oid::pg_catalog.regclass::pg_catalog.text, 'columnless', true)::pg_catalog.text
            WHEN NOT n.columned AND $4 OPERATOR(pg_catalog.=) 'table'
                AND NOT (pg_catalog.row_security_active(n.oid) AND ` + isTrusted("n.oid") + `) THEN (
    SELECT pg_catalog.json_build_object('table', n.oid::pg_catalog.regclass::pg_catalog.text,
               'parent', pg_catalog.min(c.oid::pg_catalog.regclass::pg_catalog.text))::pg_catalog.text
    FROM pg_catalog.pg_constraint con
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) con.confrelid
    WHERE con.conrelid OPERATOR(pg_catalog.=) n.oid AND con.contype OPERATOR(pg_catalog.=) 'f' AND ` + hasColumn + `
    HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0
  UNION ALL
    SELECT pg_catalog.json_build_object('table', n.oid::pg_catalog.regclass::pg_catalog.text,
               'heir', pg_catalog.min(c.oid::pg_catalog.regclass::pg_catalog.text))::pg_catalog.text
    FROM heirs h
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) h.oid
    WHERE ` + hasColumn + `
    HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0
    LIMIT 1)
            WHEN n.columned AND NOT EXISTS (
    SELECT FROM beneath b
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.oid
    WHERE NOT (` + isInvoker + `) AND (` + hasColumn + ` OR pg_catalog.row_security_active(c.oid) AND ` + isTrusted("n.oid") + `)) THEN
    pg_catalog.json_build_object('table', n.oid::pg_catalog.regclass::pg_catalog.text, 'renames', true)::pg_catalog.text
            ELSE (
    SELECT pg_catalog.json_build_object(
               'table', c.oid::pg_catalog.regclass::pg_catalog.text, 'kind', c.relkind, 'role', current_user,
               'exempt', (SELECT me.rolsuper OR me.rolbypassrls FROM pg_catalog.pg_roles me
                          WHERE me.rolname OPERATOR(pg_catalog.=) current_user),
               'secured', c.relrowsecurity, 'loose', ` + isLoose + `,
               'policy', CASE WHEN pg_catalog.row_security_active(c.oid) THEN unbound.policy END,
               'signed', EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid
                   AND p.polname OPERATOR(pg_catalog.=) unbound.policy
                   AND pg_catalog.strpos(pg_catalog.pg_get_expr(p.polqual, c.oid), '` + signing.Schema + `.') OPERATOR(pg_catalog.>) 0))::pg_catalog.text
    FROM beneath b
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.oid
    LEFT JOIN LATERAL (
        SELECT pg_catalog.min(p.polname::pg_catalog.text) FILTER (WHERE p.polpermissive AND NOT expression.binds)
        FROM pg_catalog.pg_policy p
        CROSS JOIN LATERAL (SELECT ` + policy.Binds("p.polqual", "c.oid", "$3") + `, ` + policy.Binds("p.polwithcheck", "c.oid", "$3") + ` OFFSET 0) of_policy (using_binds, check_binds)
        JOIN (VALUES ('r'::pg_catalog."char", false), ('a', true), ('w', false), ('w', true), ('d', false)) k (command, checks)
            ON (p.polcmd OPERATOR(pg_catalog.=) '*' OR p.polcmd OPERATOR(pg_catalog.=) k.command)
            AND NOT (k.command OPERATOR(pg_catalog.=) 'r' AND $4 OPERATOR(pg_catalog.=) 'own')
        CROSS JOIN LATERAL (
            SELECT CASE WHEN k.checks AND p.polwithcheck IS NOT NULL THEN check_binds ELSE using_binds END) expression (binds)
        WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) r (oid)
                      WHERE r.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                         OR pg_catalog.pg_has_role(current_user, r.oid, 'USAGE'))
        GROUP BY k.command, k.checks
        HAVING pg_catalog.bool_or(p.polpermissive AND NOT expression.binds)
           AND NOT coalesce(pg_catalog.bool_or(NOT p.polpermissive AND expression.binds), false)
        LIMIT 1
    ) unbound (policy) ON NOT ` + isTrusted("c.oid") + `
    WHERE ` + hasColumn + ` AND NOT (` + isInvoker + `)
      AND (unbound.policy IS NOT NULL OR NOT pg_catalog.row_security_active(c.oid) OR ` + isLoose + `)
    LIMIT 1) END
FROM (SELECT) one LEFT JOIN named n ON true
) answers (verdict, leak)`

const (
	hasColumn = `EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid
        AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped)`

	// isLoose is whether the collation of the column takes texts of different bytes for equal: 'acme' and 'ACME'.
	isLoose = `EXISTS (SELECT FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_collation l ON l.oid OPERATOR(pg_catalog.=) a.attcollation AND NOT l.collisdeterministic
        WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name)`

	isInvoker = `c.relkind OPERATOR(pg_catalog.=) 'v' AND EXISTS (SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) o
        WHERE o.option_name OPERATOR(pg_catalog.=) 'security_invoker' AND o.option_value::pg_catalog.bool)`
)

// holdsTenant is SQL for whether the primary key of a table has the tenant column.
func holdsTenant(oid string) string {
	return `EXISTS (SELECT FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) x.indrelid
        AND a.attnum OPERATOR(pg_catalog.=) ANY ((x.indkey::pg_catalog.int2[])[0:x.indnkeyatts OPERATOR(pg_catalog.-) 1])
        WHERE x.indrelid OPERATOR(pg_catalog.=) ` + oid + ` AND x.indisprimary AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name)`
}

// isTrusted is SQL for whether the policies of a table are trusted.
func isTrusted(oid string) string {
	return `EXISTS (SELECT FROM pg_catalog.unnest($5::pg_catalog.text[]) trusted (name)
        WHERE ` + oid + ` OPERATOR(pg_catalog.=) pg_catalog.to_regclass(trusted.name)::pg_catalog.oid)`
}

// askSQL asks before the first statement on a table.
var askSQL = `SELECT verdict, coalesce(leak, '') FROM ` + answersSQL

// raiseSQL asks together with a statement, which PostgreSQL must not run if something is wrong. So it raises an error then, by
// asking for a setting that does not exist, and the setting's name says what is wrong. Its second column says whether the yes
// lasts for some time; NULL is a yes for this statement alone.
var raiseSQL = `SELECT verdict, CASE WHEN leak IS NOT NULL` +
	` THEN pg_catalog.current_setting(pg_catalog.concat('` + leakMark + `', leak))` +
	` WHEN verdict OPERATOR(pg_catalog.=) ANY (ARRAY['isolated', 'keyed', 'columnless'])` +
	` OR verdict OPERATOR(pg_catalog.=) 'absent' AND $4 OPERATOR(pg_catalog.=) 'raw' THEN 'lasts' END FROM ` + answersSQL

// onShards returns the question for a cluster of Citus, which makes policies on shards without AS RESTRICTIVE: there, all are permissive.
func onShards(sql string) string { return strings.ReplaceAll(sql, "p.polpermissive", "true") }

var askShardsSQL, raiseShardsSQL = onShards(askSQL), onShards(raiseSQL)

const leakMark = "tenancy.not_isolated "

// leak is why a table is not isolated.
type leak struct {
	Table      string // as in SQL
	Columnless bool   // it has no tenant column, and should
	Parent     string // it has none either, and refers to this tenant table
	Heir       string // it has none either, and this tenant table inherits from it
	Renames    bool   // it is a view that has the column, and no relation beneath it has
	Kind       string // pg_class.relkind
	Role       string // in use
	Exempt     bool   // the role is, from all policies
	Secured    bool   // row-level security is on for some
	Loose      bool   // the collation of the tenant column takes different ids for equal
	Policy     string // that lets in more than a tenant's rows, or may do so; empty if none applies
	Signed     bool   // and that policy calls a function that verifies signatures
}

// leakIn returns what raiseSQL has raised, and nil if it failed for another reason. It gets errors of that statement only, so that an
// error of the application cannot be mistaken for one.
func leakIn(err error) *leak {
	const undefinedObject = "42704"
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != undefinedObject {
		return nil
	}
	_, raised, found := strings.Cut(pgErr.Message, leakMark) // the quotes around it depend on lc_messages
	end := strings.LastIndexByte(raised, '}')
	if !found || end < 0 {
		return nil
	}
	return readLeak(raised[:end+1])
}

func readLeak(document string) *leak {
	var l leak
	if err := json.Unmarshal([]byte(document), &l); err != nil {
		return &leak{Table: "the table"} // refused nevertheless
	}
	return &l
}

// err is ErrNotIsolated with what is wrong, and what fixes it.
func (l *leak) err(c Config) error {
	return wrapf(ErrNotIsolated, "%s", l.remedy(c))
}

func (l *leak) remedy(c Config) string {
	column := c.Column
	const ordinary, partitioned, view = "r", "p", "v"
	switch {
	case l.Columnless:
		return l.Table + " has no column " + quote(column) + ", which its model has: add it and isolate the table with " +
			"rls.Isolation{}.Migrate, or let the model implement SharedModel if the table belongs to all tenants"
	case l.Parent != "":
		return l.Table + " refers to the tenant table " + l.Parent + " and has no column " + quote(column) + ", so that every tenant " +
			"would see the rows of all: isolate it with rls.Isolation{}.Migrate, or let the model implement SharedModel if all may read it"
	case l.Heir != "":
		return "the tenant table " + l.Heir + " inherits from " + l.Table + ", so that every tenant would see the rows of all: take it out of there by " +
			"ALTER TABLE " + l.Heir + " NO INHERIT"
	case l.Renames:
		return "the view " + l.Table + " has a column " + quote(column) + ", and no table beneath it has: let it show the column of its table, or, if you " +
			"are sure of that table's policies, name the view in Config.DangerouslyTrustPolicies"
	case l.Exempt:
		return "no policy applies to the role " + quote(l.Role) + ", a superuser or one with BYPASSRLS: use another role"
	case l.Kind == view:
		return "the view " + l.Table + " shows what its owner sees: create it WITH (security_invoker = true), of " +
			"PostgreSQL 15 and later"
	case l.Kind != ordinary && l.Kind != partitioned:
		return l.Table + " is not a table and cannot have a policy: read tenants' rows from the table itself"
	case l.Policy != "" && l.Signed && c.SigningKeys == nil:
		return "the policy " + quote(l.Policy) + " on " + l.Table + " demands a signature: set Config.SigningKeys, or migrate with " +
			"rls.Isolation{Signed: true, DangerouslyAcceptUnsigned: true} until all instances of the application sign"
	case l.Policy != "" && c.SigningKeys != nil && !c.DangerouslyAcceptUnsigned:
		return "the policy " + quote(l.Policy) + " on " + l.Table + " is not known to demand a signature: migrate with rls.Isolation{Signed: true}, " +
			"or, while the application changes over to SigningKeys, set Config.DangerouslyAcceptUnsigned as well"
	case l.Policy != "":
		return "the policy " + quote(l.Policy) + " on " + l.Table + " is not known to let in one tenant's rows only: replace it " +
			"by one that compares " + quote(column) + " with the setting, as rls.Isolation{}.Migrate makes it, or, if you are " +
			"sure of it, name the table in Config.DangerouslyTrustPolicies"
	case l.Secured && l.Loose:
		return "the collation of " + quote(column) + " in " + l.Table + " takes different ids for equal, such as acme and ACME: run ALTER TABLE " +
			l.Table + " ALTER COLUMN " + quote(column) + " TYPE text COLLATE \"C\""
	case l.Secured:
		return "the role " + quote(l.Role) + " owns " + l.Table + ", and owners are exempt: run ALTER TABLE " + l.Table +
			" FORCE ROW LEVEL SECURITY, or use a role that does not own it"
	default:
		return "row-level security is off on " + l.Table + ": run rls.Isolation{}.Migrate with its model, or ALTER TABLE " +
			l.Table + " ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY and create a policy"
	}
}

// identifier is the table name at the beginning of what was given to db.Table, such as "s"."t" AS x, or ONLY t.
var identifier = regexp.MustCompile(`^\s*(?:(?i:ONLY)(?:\s*\(|\s)\s*)?(` + qualifiedName + `)(\s*\()?`)

// further finds the other tables in it, such as those of "notes, tasks", "notes JOIN tasks ON …" and "(SELECT … FROM tasks) AS t". What it finds
// need not be a table: PostgreSQL is asked, and knows.
var further = regexp.MustCompile(`(?:[,(]|\*/|--[^\n]*\n|\b(?i:JOIN|FROM)\s)\s*(?:(?i:LATERAL|ONLY)(?:\s*\(|\s)\s*)?(` + name + `(?:\.` + name + `)?)(\s*\(|\s*\.)?`)

// furtherTables returns what may be the tables that the caller has named in db.Table after the first one, each once.
func furtherTables(e *clause.Expr) (tables []string) {
	if e == nil || !strings.ContainsAny(e.SQL, ", (\n") {
		return nil
	}
	for _, m := range further.FindAllStringSubmatch(e.SQL, -1) {
		if m[2] == "" && !strings.EqualFold(m[1], "SELECT") && !slices.Contains(tables, m[1]) { // neither a function nor a column
			tables = append(tables, m[1])
		}
	}
	return tables
}

// onlyIdentifier is a table name alone.
var onlyIdentifier = regexp.MustCompile(`^` + qualifiedName + `$`)

const (
	name          = `(?:"(?:[^"\x00]|"")+"|[\pL_][\pL\pN_$]*)`
	qualifiedName = name + `(?:\.` + name + `){0,2}`
)

// textArray writes names as a constant of the type text[].
func textArray(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}
