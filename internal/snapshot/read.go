package snapshot

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// common are the roles and the relations that the parts of the statement share. The parameters are: $1 the tenant column, $2 the
// roles with a purpose, $3 the schemas, all if empty, $4 the settings whose values are shown, $5 the
// setting of the tenant.
const common = `WITH RECURSIVE
spaces AS (
	SELECT * FROM pg_namespace
	WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
		AND (cardinality($3::text[]) = 0 OR nspname = ANY ($3::text[]))
),
-- The roles with a purpose, and those that they can become.
reach AS (
	SELECT oid FROM pg_roles WHERE rolname = ANY ($2::text[])
	UNION
	SELECT m.roleid FROM reach JOIN pg_auth_members m ON m.member = reach.oid
),
grantees AS (
	SELECT 0::oid AS oid, 'PUBLIC' AS name
	UNION ALL
	SELECT r.oid, r.rolname FROM pg_roles r JOIN reach USING (oid)
),
extended AS (
	SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
),
relations AS (
	SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
	FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'f')
),
seen AS (
	SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
	FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('v', 'm')
		AND NOT EXISTS (SELECT FROM extended WHERE classid = 'pg_class'::regclass AND objid = c.oid)
),
notable AS (
	SELECT p.* FROM pg_proc p JOIN spaces n ON n.oid = p.pronamespace
	WHERE p.prokind <> 'a' AND (p.prosecdef OR p.proleakproof OR EXISTS (
			SELECT FROM unnest(p.proconfig) entry WHERE lower(split_part(entry, '=', 1)) = ANY ($4::text[] || lower($5))
				AND split_part(entry, '=', 1) <> 'search_path'))
		AND NOT EXISTS (SELECT FROM extended WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
)
`

// grants is the SQL for the privileges in an access list, without those of the owner.
func grants(acl, owner string) string {
	return `(SELECT json_object_agg(name, privileges) FROM (
		SELECT g.name, json_agg(DISTINCT e.privilege_type || CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS privileges
		FROM aclexplode(` + acl + `) e JOIN grantees g ON g.oid = e.grantee
		WHERE e.grantee <> ` + owner + ` GROUP BY g.name) granted)`
}

// relationGrants is grants for a relation and its columns.
func relationGrants(relation string) string {
	return strings.ReplaceAll(`(SELECT json_object_agg(name, privileges) FROM (
		SELECT g.name, json_agg(DISTINCT e.privilege_type || a.suffix || CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS privileges
		FROM (
			SELECT @c.relacl AS acl, '' AS suffix
			UNION ALL
			SELECT attacl, format(' (%I)', attname) FROM pg_attribute WHERE attrelid = @c.oid AND attacl IS NOT NULL AND NOT attisdropped
		) a, aclexplode(a.acl) e JOIN grantees g ON g.oid = e.grantee
		WHERE e.grantee <> @c.relowner GROUP BY g.name) granted)`, "@c", relation)
}

// names is the SQL for the names of columns.
func names(attnums, table string) string {
	return `(SELECT json_agg(attname ORDER BY n) FROM unnest(` + attnums + `) WITH ORDINALITY k (attnum, n)
		JOIN pg_attribute a ON a.attrelid = ` + table + ` AND a.attnum = k.attnum)`
}

const rules = `(SELECT json_agg(pg_get_ruledef(r.oid)) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')`

func action(letter string) string {
	return `CASE ` + letter + ` WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END`
}

var rolesQuery = `
SELECT json_agg(json_build_object(
	'name', r.rolname, 'superuser', r.rolsuper, 'bypass_rls', r.rolbypassrls, 'create_role', r.rolcreaterole,
	'replication', r.rolreplication, 'login', r.rolcanlogin,
	'member_of', (
		SELECT json_agg(json_build_object('role', role, 'inherit', inherits, 'set', sets, 'admin', administers))
		FROM (
			SELECT pg_get_userbyid(m.roleid) AS role, bool_or(m.admin_option) AS administers,
				-- The options are from PostgreSQL 16 on; before it, the role decides.
				bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::bool, r.rolinherit)) AS inherits,
				bool_or(coalesce((to_jsonb(m) ->> 'set_option')::bool, true)) AS sets
			FROM pg_auth_members m WHERE m.member = r.oid GROUP BY m.roleid) m)))
FROM pg_roles r
WHERE r.oid IN (
	SELECT oid FROM reach UNION SELECT relowner FROM relations UNION SELECT relowner FROM seen UNION SELECT proowner FROM notable
	UNION SELECT nspowner FROM spaces)`

const settingsQuery = `
SELECT json_agg(json_build_object(
	'role', coalesce(r.rolname, ''), 'database', s.setdatabase <> 0, 'name', split_part(entry, '=', 1),
	'value', CASE WHEN lower(split_part(entry, '=', 1)) = ANY ($4::text[]) THEN substr(entry, strpos(entry, '=') + 1) ELSE '' END))
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) entry
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
	AND (s.setrole = 0 OR s.setrole IN (SELECT oid FROM reach))`

var schemasQuery = `
SELECT json_agg(json_build_object('name', quote_ident(n.nspname), 'owner', pg_get_userbyid(n.nspowner),
	'grants', ` + grants("n.nspacl", "n.nspowner") + `))
FROM spaces n`

var tablesQuery = `
SELECT json_agg(json_build_object(
	'name', c.name, 'owner', pg_get_userbyid(c.relowner), 'row_security', c.relrowsecurity, 'forced', c.relforcerowsecurity,
	'kind', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' ELSE 'foreign table' END,
	'tenant_column', CASE WHEN a.attnum IS NOT NULL THEN json_build_object(
		'type', format_type(a.atttypid, NULL), 'not_null', a.attnotnull,
		'default', (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = c.oid AND adnum = a.attnum),
		'loose_collation', EXISTS (SELECT FROM pg_collation WHERE oid = a.attcollation AND NOT collisdeterministic)) END,
	'policies', (
		SELECT json_agg(json_build_object('name', p.polname, 'permissive', p.polpermissive,
			'command', CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END,
			'roles', (SELECT json_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END) FROM unnest(p.polroles) r),
			'using', pg_get_expr(p.polqual, p.polrelid), 'with_check', pg_get_expr(p.polwithcheck, p.polrelid),
			'uses_others', ` + policy.UsesOthers("p.polqual") + ` OR ` + policy.UsesOthers("p.polwithcheck") + `))
		FROM pg_policy p WHERE p.polrelid = c.oid),
	'grants', ` + relationGrants("c") + `,
	'unique_keys', (
		SELECT json_agg(json_build_object('name', ix.relname,
			'definition', coalesce((SELECT pg_get_constraintdef(con.oid) FROM pg_constraint con
				WHERE con.conindid = ix.oid AND con.conrelid = c.oid AND con.contype IN ('p', 'u', 'x')), pg_get_indexdef(ix.oid)),
			'holds_tenant', coalesce(a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1]), false)))
		FROM pg_index x JOIN pg_class ix ON ix.oid = x.indexrelid
		WHERE x.indrelid = c.oid AND (x.indisunique OR x.indisexclusion)),
	'foreign_keys', (
		SELECT json_agg(json_build_object('name', con.conname, 'valid', con.convalidated,
			'columns', ` + names("con.conkey", "con.conrelid") + `, 'keys', ` + names("con.confkey", "con.confrelid") + `,
			'references', (SELECT format('%I.%I', n.nspname, p.relname) FROM pg_class p JOIN pg_namespace n ON n.oid = p.relnamespace
				WHERE p.oid = con.confrelid),
			'on_delete', ` + action("con.confdeltype") + `, 'on_update', ` + action("con.confupdtype") + `))
		FROM pg_constraint con WHERE con.conrelid = c.oid AND con.contype = 'f' AND con.conparentid = 0),
	'parents', (
		SELECT json_agg(format('%I.%I', n.nspname, p.relname))
		FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace WHERE i.inhrelid = c.oid),
	'triggers', (
		SELECT json_agg(json_build_object('name', g.tgname, 'definition', pg_get_triggerdef(g.oid),
			'security_definer', f.prosecdef, 'enabled', g.tgenabled <> 'D'))
		FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid WHERE g.tgrelid = c.oid AND NOT g.tgisinternal),
	'rules', ` + rules + `))
FROM relations c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped`

var viewsQuery = `
SELECT json_agg(json_build_object(
	'name', c.name, 'owner', pg_get_userbyid(c.relowner), 'materialized', c.relkind = 'm',
	'security_invoker', EXISTS (
		SELECT FROM pg_options_to_table(c.reloptions) WHERE option_name = 'security_invoker' AND option_value::bool),
	'reads', (
		SELECT json_agg(DISTINCT format('%I.%I', n.nspname, t.relname))
		FROM pg_rewrite r
		JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
		JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace n ON n.oid = t.relnamespace
		WHERE r.ev_class = c.oid AND r.rulename = '_RETURN'),
	'definition', pg_get_viewdef(c.oid), 'grants', ` + relationGrants("c") + `, 'rules', ` + rules + `))
FROM seen c`

var functionsQuery = `
SELECT json_agg(json_build_object(
	'name', p.oid::regprocedure::text, 'owner', pg_get_userbyid(p.proowner),
	'security_definer', p.prosecdef, 'leakproof', p.proleakproof, 'verifies', ` + signing.IsOurs("p.oid") + `,
	'search_path', (SELECT substr(entry, 13) FROM unnest(p.proconfig) entry WHERE entry LIKE 'search\_path=%'),
	'settings', (SELECT json_agg(split_part(entry, '=', 1)) FROM unnest(p.proconfig) entry WHERE entry NOT LIKE 'search\_path=%'),
	'source', md5(concat(p.prosrc, p.probin, pg_get_function_sqlbody(p.oid))),
	'grants', ` + grants("coalesce(p.proacl, acldefault('f', p.proowner))", "p.proowner") + `))
FROM notable p`

var sequencesQuery = `
SELECT json_agg(json_build_object('name', name, 'grants', granted))
FROM (
	SELECT format('%I.%I', n.nspname, c.relname) AS name, ` + grants("c.relacl", "c.relowner") + ` AS granted
	FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace WHERE c.relkind = 'S') s
WHERE granted IS NOT NULL`

var defaultsQuery = `
SELECT json_agg(json_build_object('role', role, 'schema', schema, 'objects', objects, 'grants', granted))
FROM (
	SELECT pg_get_userbyid(d.defaclrole) AS role, coalesce(quote_ident(n.nspname), '') AS schema,
		CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
			WHEN 'n' THEN 'schemas' ELSE 'large objects' END AS objects,
		` + grants("d.defaclacl", "d.defaclrole") + ` AS granted
	FROM pg_default_acl d LEFT JOIN spaces n ON n.oid = d.defaclnamespace
	WHERE d.defaclnamespace = 0 OR n.oid IS NOT NULL) x
WHERE granted IS NOT NULL`

var databaseQuery = `
SELECT ` + grants("coalesce(d.datacl, acldefault('d', d.datdba))", "d.datdba") + ` FROM pg_database d WHERE d.datname = current_database()`

// parametersQuery is for PostgreSQL 15 and later.
var parametersQuery = `
SELECT json_agg(json_build_object('name', name, 'grants', granted))
FROM (SELECT p.parname AS name, ` + grants("p.paracl", "10") + ` AS granted FROM pg_parameter_acl p) x
WHERE granted IS NOT NULL`

var serversQuery = `
SELECT json_agg(json_build_object('name', quote_ident(s.srvname),
	'user_mappings', (
		SELECT json_agg(g.name) FROM pg_user_mappings u JOIN grantees g ON g.oid = u.umuser WHERE u.srvid = s.oid),
	'grants', ` + grants("s.srvacl", "s.srvowner") + `))
FROM pg_foreign_server s`

const publicationsQuery = `
SELECT json_agg(json_build_object('name', p.pubname, 'all_tables', p.puballtables, 'tables', (
	SELECT json_agg(format('%I.%I', t.schemaname, t.tablename)) FROM pg_publication_tables t
	WHERE t.pubname = p.pubname AND t.schemaname IN (SELECT nspname FROM spaces))))
FROM pg_publication p`

// statement reads all of it at once, in one state of the database.
func statement(version int) string {
	parameters := "NULL"
	if version >= sqltext.PostgreSQL15 {
		parameters = parametersQuery
	}
	return common + `SELECT json_build_object(
	'database', (` + databaseQuery + `), 'parameters', (` + parameters + `), 'foreign_servers', (` + serversQuery + `),
	'postgresql', current_setting('server_version_num')::int / 10000,
	'roles', (` + rolesQuery + `), 'settings', (` + settingsQuery + `), 'schemas', (` + schemasQuery + `),
	'tables', (` + tablesQuery + `), 'views', (` + viewsQuery + `), 'functions', (` + functionsQuery + `),
	'sequences', (` + sequencesQuery + `), 'default_privileges', (` + defaultsQuery + `),
	'publications', (` + publicationsQuery + `))::text`
}

// deciding are the settings that decide which policies apply, and whose values are shown.
var deciding = []string{"role", "row_security", "search_path", "session_replication_role", "client_encoding", "session_authorization"}

// plainNames makes PostgreSQL write every name that is not its own with its schema.
const plainNames = "SELECT set_config('search_path', 'pg_catalog, pg_temp', true), set_config('jit', 'off', true)"

// Read takes a snapshot. Without AppRole, it is the role of the connection. Nothing is written.
func Read(ctx context.Context, db *sql.DB, config policy.Config, schemas []string) (Snapshot, error) {
	config = config.WithDefaults()
	if err := config.Validate(); err != nil {
		return Snapshot{}, err
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return Snapshot{}, err
	}
	defer func() { _ = tx.Rollback() }()
	var login string
	var version int
	if err := tx.QueryRowContext(ctx, "SELECT current_user, current_setting('server_version_num')::int").Scan(&login, &version); err != nil {
		return Snapshot{}, err
	}
	config.AppRole = cmp.Or(config.AppRole, login)
	if _, err := tx.ExecContext(ctx, plainNames); err != nil {
		return Snapshot{}, err
	}
	var document []byte
	err = tx.QueryRowContext(ctx, statement(version), config.Column, config.Roles(), append([]string{}, schemas...), deciding,
		config.Setting).Scan(&document)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{
		Version: Version, Setting: config.Setting, Column: config.Column, Signed: config.Form == policy.Signed,
		Purposes: Purposes{App: config.AppRole, Admin: config.AdminRole, ReadOnly: config.ReadOnlyRole, Lookup: config.LookupRole},
	}
	if err := json.Unmarshal(document, &s); err != nil {
		return Snapshot{}, err
	}
	s.sort()
	return s, s.complete(schemas)
}

// complete refuses a snapshot in which a schema is missing, or of nothing.
func (s Snapshot) complete(schemas []string) error {
	there := map[string]bool{}
	for _, x := range s.Schemas {
		there[x.Name] = true
	}
	for _, name := range schemas {
		if !there[sqltext.Ident(name)] && !there[name] {
			return fmt.Errorf("schema %q does not exist", name)
		}
	}
	for _, t := range s.Tables {
		if t.Column != nil {
			return nil
		}
	}
	return fmt.Errorf("no table has the column %q, so there is no isolation to record: is this the database, "+
		"have its tables been migrated, and are --column and --schema right?", s.Column)
}
