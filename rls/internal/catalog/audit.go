package catalog

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls/internal/audit"
)

// AuditTrigger is a trigger that records changes.
type AuditTrigger struct {
	Type      int
	Function  string // with its schema, without quotes
	Arguments string // each with a NUL after it, in hexadecimal
	Always    bool   // it fires whatever session_replication_role says
}

// AuditsOf returns SQL for the triggers of a relation that record changes, as JSON by name; the relation is an alias of pg_class.
func AuditsOf(relation string) string {
	return `(
		SELECT json_object_agg(g.tgname, json_build_object('type', g.tgtype, 'function', fn.nspname || '.' || f.proname,
			'arguments', encode(g.tgargs, 'hex'), 'always', g.tgenabled = 'A'))
		FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_namespace fn ON fn.oid = f.pronamespace
		WHERE g.tgrelid = ` + relation + `.oid AND g.tgname IN ('` + audit.Name + `', '` + audit.Truncate + `'))`
}

// AuditStore is where records of changes are kept, and what writes them.
type AuditStore struct {
	Schema   string // the first of the search_path
	Exists   bool   // the table
	Usable   []string
	Function *AuditFunction // nil if there is none
	Writes   bool           // the policy audit.Write is as it should be
	Policed  bool           // there is one of this name
}

// AuditFunction is the function that writes records.
type AuditFunction struct {
	Owner, Body string
	Definer     bool
	Config      []string
	Executors   []string // the roles that may use it in triggers of their own, but for the owner; PUBLIC is empty
}

// AuditFunctionOf returns SQL for an AuditFunction as JSON; the alias is that of a row of pg_proc.
func AuditFunctionOf(f string) string {
	return `json_build_object('owner', pg_get_userbyid(` + f + `.proowner), 'body', ` + f + `.prosrc, 'definer', ` + f + `.prosecdef,
		'config', to_json(` + f + `.proconfig), 'executors', (
			SELECT json_agg(CASE WHEN grantee = 0 THEN '' ELSE pg_get_userbyid(grantee) END)
			FROM aclexplode(coalesce(` + f + `.proacl, acldefault('f', ` + f + `.proowner))) WHERE grantee <> ` + f + `.proowner))`
}

// auditStoreQuery looks at the schema in which tables are made; $1 are the roles that matter.
var auditStoreQuery = `SELECT json_build_object('schema', n.nspname, 'exists', c.oid IS NOT NULL,
	'usable', (SELECT json_agg(rolname) FROM pg_roles WHERE rolname = ANY ($1::text[]) AND has_schema_privilege(oid, n.oid, 'USAGE')),
	'function', (SELECT ` + AuditFunctionOf("f") + ` FROM pg_proc f
		WHERE pronamespace = n.oid AND proname = '` + audit.Name + `' AND prorettype = 'trigger'::regtype),
	'policed', p.oid IS NOT NULL,
	'writes', p.polcmd = 'a' AND p.polpermissive AND p.polroles = ARRAY[c.relowner] AND pg_get_expr(p.polwithcheck, c.oid) = 'true')::text
FROM (SELECT current_schema()) asked (name)
LEFT JOIN pg_namespace n ON n.nspname = asked.name
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = '` + audit.Name + `'
LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = '` + audit.Write + `'`

// InspectAudit reads where records of changes are kept.
func InspectAudit(ctx context.Context, conn gorm.ConnPool, c policy.Config) (AuditStore, error) {
	var store AuditStore
	err := ReadJSON(ctx, conn, &store, auditStoreQuery, append([]string{}, c.Roles()...))
	if err == nil && store.Schema == "" {
		err = fmt.Errorf("no schema to make table %s in: the search_path of the connection names none that exists", audit.Name)
	}
	return store, err
}
