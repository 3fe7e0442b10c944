package signing

import (
	"fmt"
	"strings"
)

// Right is something that SQL of the login could use against other tenants, whatever the signature. The plugin refuses a login that has
// one of them, and package rls/check finds each: both ask by the same SQL.
type Right struct {
	Code    string // of the finding
	Refused bool   // by the plugin at its start; of others, rls/check warns
	query   string // one row for each object: its name, what is wrong in a clause, and the SQL that ends it, for a superuser
}

// CodeFunctionsDiffer is the one right that is the database's, and not the login's.
const CodeFunctionsDiffer = "signed-functions-differ"

// CodeStatementsVisible is the right that an application may keep, because not every server lets it be taken away.
const CodeStatementsVisible = "signed-statements-visible"

// recorders are the functions and views of extensions that keep the texts of statements, as SQL.
const recorders = `'pg_stat_statements', 'pg_stat_monitor', 'pg_stat_monitor_internal', 'pg_store_plans', 'pg_qualstats'`

// Breach is a right that a login has, as WallSQL returns it.
type Breach struct {
	Code    string
	Refused bool
	Object  string
	Problem string
	Fix     []string
}

// WallSQL returns a query of one JSON value, the rights that a login has, the worst first: an array of what Breach holds. The login is SQL
// for a name. It reads the catalog alone.
func WallSQL(login string) string {
	var parts []string
	for n, r := range Wall {
		parts = append(parts, fmt.Sprintf("SELECT %d, '%s', %t, b.object, b.problem, b.fix FROM (%s) b (object, problem, fix)", n, r.Code, r.Refused, r.query))
	}
	names := strings.NewReplacer("@login", login, "@recorders", recorders, "@schema", Schema, "@functions", fmt.Sprint(len(Functions)), "@ours", IsOurs("p.oid"))
	return names.Replace(strings.ReplaceAll(wallTemplate, "@rights", strings.Join(parts, "\nUNION ALL\n")))
}

// The roles are those that the login can become, however: superusers have each right, and are a breach of their own.
const wallTemplate = `
WITH login AS (
    SELECT r.oid, r.rolname::pg_catalog.text AS name, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = @login
), closure AS (
    SELECT r.oid, r.rolname::pg_catalog.text AS name, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication, r.oid = l.oid AS itself, l.name AS login
    FROM login l, pg_catalog.pg_roles r WHERE r.oid = l.oid OR NOT l.rolsuper AND pg_catalog.pg_has_role(l.oid, r.oid, 'MEMBER')
), bound AS (
    SELECT * FROM closure WHERE NOT rolsuper
), grantees (oid, name) AS (
    SELECT 0::pg_catalog.oid, 'PUBLIC' UNION ALL SELECT oid, pg_catalog.quote_ident(name) FROM bound
), leaving (oid, steps) AS (
    SELECT c.oid, pg_catalog.array_agg(pg_catalog.format('REVOKE %I FROM %I%s', c.name, m.name,
        CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 THEN pg_catalog.format(' GRANTED BY %I', g.rolname) ELSE '' END))
    FROM closure c JOIN pg_catalog.pg_auth_members a ON a.roleid = c.oid JOIN closure m ON m.oid = a.member AND m.name !~ '^pg_'
        LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor
    GROUP BY c.oid
), rights (rank, code, refused, object, problem, fix) AS (
@rights
)
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('code', code, 'refused', refused, 'object', object, 'problem', problem, 'fix', fix)
    ORDER BY rank, object), '[]')::pg_catalog.text FROM rights`

// Wall are all rights, the worst first.
var Wall = []Right{
	{CodeFunctionsDiffer, true, `
    SELECT 'schema @schema', 'the functions that verify in @schema are missing, differ from what this version makes, or belong to a role that can log in', NULL::pg_catalog.text[]
    FROM login WHERE (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc p WHERE @ours) <> @functions`},
	{"signed-keys-reachable", true, `
    SELECT pg_catalog.format('table @schema.%I', k.relname), pg_catalog.format('%s can read or change the signing keys', l.name),
        coalesce((SELECT pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE ALL ON TABLE @schema.%I FROM %s', k.relname, g.name))
            FROM (SELECT k.relacl UNION ALL SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.oid) acls (acl),
                pg_catalog.aclexplode(acls.acl) e JOIN grantees g ON g.oid = e.grantee WHERE e.grantee <> k.relowner), '{}')
        || coalesce((SELECT pg_catalog.array_agg(s.step) FROM bound c JOIN leaving ON leaving.oid = c.oid, pg_catalog.unnest(leaving.steps) s (step)
            WHERE c.oid = k.relowner OR c.name IN ('pg_read_all_data', 'pg_write_all_data')), '{}')
    FROM login l, pg_catalog.pg_class k WHERE k.relnamespace = pg_catalog.to_regnamespace('@schema') AND k.relkind IN ('r', 'p', 'v', 'm')
        AND EXISTS (SELECT FROM bound c WHERE pg_catalog.has_any_column_privilege(c.oid, k.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
            OR pg_catalog.has_table_privilege(c.oid, k.oid, 'DELETE, TRUNCATE, TRIGGER'))`},
	{"signed-role-unbound", true, `
    SELECT pg_catalog.format('role %s', c.name), CASE WHEN c.itself THEN c.name ELSE pg_catalog.format('%s can become the role %s, and that', c.login, c.name) END
            || CASE WHEN c.rolsuper THEN ' is a superuser' WHEN c.rolbypassrls THEN ' has BYPASSRLS' WHEN c.rolcreaterole THEN ' has CREATEROLE' ELSE ' has REPLICATION' END || ', so that policies do not bind it',
        CASE WHEN c.itself THEN ARRAY[pg_catalog.format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION', c.name)] ELSE leaving.steps END
    FROM closure c LEFT JOIN leaving ON leaving.oid = c.oid WHERE c.rolsuper OR c.rolbypassrls OR c.rolcreaterole OR c.rolreplication`},
	{"signed-role-predefined", true, `
    SELECT pg_catalog.format('role %s', c.name), pg_catalog.format('%s is a member of %s, one of the roles of PostgreSQL itself', c.login, c.name), leaving.steps
    FROM bound c JOIN leaving ON leaving.oid = c.oid WHERE c.name ~ '^pg_' AND c.name <> 'pg_database_owner'`},
	{"signed-role-exempt", true, `
    SELECT pg_catalog.format('role %s', c.name), pg_catalog.format('%s can become %s, for which a policy on %s lets every row through: work across tenants needs a login of its own (Config.AdminDB)',
            c.login, c.name, pg_catalog.min(p.polrelid::pg_catalog.regclass::pg_catalog.text)),
        CASE WHEN c.itself THEN NULL ELSE leaving.steps END
    FROM bound c JOIN pg_catalog.pg_policy p ON c.oid = ANY (p.polroles) AND p.polpermissive LEFT JOIN leaving ON leaving.oid = c.oid
    WHERE pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true' OR pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) = 'true'
    GROUP BY c.login, c.name, c.itself, leaving.steps`},
	{"signed-owns", true, `
    SELECT pg_catalog.format('role %s', c.name),
        pg_catalog.format('%s owns %s%s', c.name, (pg_catalog.array_agg(o.name ORDER BY o.name))[1],
            CASE WHEN pg_catalog.count(*) > 1 THEN ' and ' || pg_catalog.count(*) - 1 || ' more' ELSE '' END),
        CASE WHEN c.itself THEN ARRAY[pg_catalog.format('REASSIGN OWNED BY %I TO %s', c.name, (
            SELECT CASE WHEN pg_catalog.pg_has_role(c.login::pg_catalog.name, d.datdba, 'MEMBER') THEN 'CURRENT_USER' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(d.datdba)) END
            FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))] ELSE leaving.steps END
    FROM closure c JOIN pg_catalog.pg_shdepend d ON d.refobjid = c.oid AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
        AND d.deptype = 'o' AND d.classid <> 'pg_catalog.pg_default_acl'::pg_catalog.regclass AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
        CROSS JOIN LATERAL (SELECT CASE WHEN d.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass THEN 'large objects'
            ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END) o (name)
        LEFT JOIN leaving ON leaving.oid = c.oid
    GROUP BY c.name, c.login, c.itself, leaving.steps`},
	{"signed-create", true, `
    SELECT n.object, pg_catalog.format('%s may create %s in the %s', l.name, n.creates, n.object),
        (SELECT pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE CREATE ON %s FROM %s', n.named, g.name))
            FROM pg_catalog.aclexplode(n.acl) e JOIN grantees g ON g.oid = e.grantee WHERE e.privilege_type = 'CREATE')
    FROM login l, (
        SELECT 'database ' || d.datname, pg_catalog.format('DATABASE %I', d.datname), 'schemas', d.datacl,
            (SELECT pg_catalog.bool_or(pg_catalog.has_database_privilege(c.oid, d.oid, 'CREATE')) FROM bound c)
        FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
      UNION ALL
        SELECT 'schema ' || s.nspname, pg_catalog.format('SCHEMA %I', s.nspname), 'objects', s.nspacl,
            (SELECT pg_catalog.bool_or(pg_catalog.has_schema_privilege(c.oid, s.oid, 'CREATE')) FROM bound c)
        FROM pg_catalog.pg_namespace s WHERE s.nspname !~ '^pg_(temp|toast_temp)_'
    ) n (object, named, creates, acl, may) WHERE n.may`},
	{"signed-rights-without-policy", true, `
    SELECT pg_catalog.format('%s %s', r.kind, r.named), pg_catalog.format('%s has %s on the %s %s, for which no policy is asked', l.name, r.privileges, r.kind, r.named), r.fix
    FROM login l, (
        SELECT 'table', k.oid::pg_catalog.regclass::pg_catalog.text, pg_catalog.string_agg(DISTINCT e.privilege_type, ', '),
            pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE TRUNCATE, TRIGGER, REFERENCES%s ON TABLE %s FROM %s',
                CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 170000 THEN ', MAINTAIN' ELSE '' END, k.oid::pg_catalog.regclass, g.name))
        FROM pg_catalog.pg_class k, (SELECT c.oid, c.relacl FROM pg_catalog.pg_class c WHERE c.relrowsecurity
                UNION ALL SELECT a.attrelid, a.attacl FROM pg_catalog.pg_attribute a) acls (oid, acl),
            pg_catalog.aclexplode(acls.acl) e JOIN grantees g ON g.oid = e.grantee
        WHERE k.relrowsecurity AND acls.oid = k.oid AND e.grantee <> k.relowner AND e.privilege_type IN ('TRUNCATE', 'TRIGGER', 'REFERENCES', 'MAINTAIN')
        GROUP BY k.oid
      UNION ALL
        SELECT 'sequence', k.oid::pg_catalog.regclass::pg_catalog.text, e.privilege_type,
            pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE UPDATE ON SEQUENCE %s FROM %s', k.oid::pg_catalog.regclass, g.name))
        FROM pg_catalog.pg_class k, pg_catalog.aclexplode(k.relacl) e JOIN grantees g ON g.oid = e.grantee
        WHERE k.relkind = 'S' AND e.grantee <> k.relowner AND e.privilege_type = 'UPDATE' GROUP BY k.oid, e.privilege_type
      UNION ALL
        SELECT 'server''s', d.named, 'a right', pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE ALL ON %s FROM %s', pg_catalog.upper(d.named), g.name))
        FROM (SELECT s.refobjid, pg_catalog.pg_describe_object(s.classid, s.objid, 0) FROM pg_catalog.pg_shdepend s
            WHERE s.classid = pg_catalog.to_regclass('pg_catalog.pg_parameter_acl') AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass) d (oid, named)
            JOIN grantees g ON g.oid = d.oid GROUP BY d.named
    ) r (kind, named, privileges, fix)`},
	{"signed-temporary", true, `
    SELECT 'database ' || d.datname, pg_catalog.format('%s may make temporary objects', l.name),
        (SELECT pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE TEMPORARY ON DATABASE %I FROM %s', d.datname, g.name))
            FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) e JOIN grantees g ON g.oid = e.grantee WHERE e.privilege_type = 'TEMPORARY')
    FROM login l, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
        AND EXISTS (SELECT FROM bound c WHERE pg_catalog.has_database_privilege(c.oid, d.oid, 'TEMPORARY'))`},
	{"signed-statements-recorded", true, `
    SELECT s.object, pg_catalog.format('%s can read %s, with the statements of all its sessions', l.name, s.name),
        (SELECT pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE ALL ON %s FROM %s', s.object, g.name))
            FROM pg_catalog.aclexplode(s.acl) e JOIN grantees g ON g.oid = e.grantee)
    FROM login l, (
        SELECT p.proname, 'FUNCTION ' || p.oid::pg_catalog.regprocedure, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)),
            (SELECT pg_catalog.bool_or(pg_catalog.has_function_privilege(c.oid, p.oid, 'EXECUTE')) FROM bound c)
        FROM pg_catalog.pg_proc p WHERE p.proname IN (@recorders)
      UNION ALL
        SELECT k.relname, 'TABLE ' || k.oid::pg_catalog.regclass, k.relacl, (SELECT pg_catalog.bool_or(pg_catalog.has_table_privilege(c.oid, k.oid, 'SELECT')) FROM bound c)
        FROM pg_catalog.pg_class k WHERE k.relname IN (@recorders)
    ) s (name, object, acl, may) WHERE s.may`},
	{"signed-large-objects", true, `
    SELECT 'large objects', pg_catalog.format('%s has rights on large objects, which have no policies', l.name),
        pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE ALL ON LARGE OBJECT %s FROM %s', m.oid, g.name))
    FROM login l, pg_catalog.pg_largeobject_metadata m, pg_catalog.aclexplode(m.lomacl) e JOIN grantees g ON g.oid = e.grantee
    WHERE e.grantee <> m.lomowner GROUP BY l.name`},
	{CodeStatementsVisible, true, `
    SELECT 'role ' || l.name, pg_catalog.format('SQL of %s can read the texts of the statements of all its sessions, in pg_stat_activity', l.name),
        ARRAY[pg_catalog.format('ALTER ROLE %I SET track_activities = off', l.name)]
    FROM login l WHERE EXISTS (SELECT FROM bound c, (VALUES ('pg_catalog.pg_stat_get_activity(pg_catalog.int4)'::pg_catalog.regprocedure),
            ('pg_catalog.pg_stat_get_backend_activity(pg_catalog.int4)'::pg_catalog.regprocedure)) f (oid) WHERE pg_catalog.has_function_privilege(c.oid, f.oid, 'EXECUTE'))
        AND CASE WHEN session_user = l.name THEN pg_catalog.current_setting('track_activities')::pg_catalog.bool
            ELSE coalesce((
                SELECT pg_catalog.split_part(given.text, '=', 2)::pg_catalog.bool FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) given (text)
                WHERE s.setrole IN (0, l.oid) AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
                    AND given.text LIKE 'track\_activities=%'
                ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1),
                (SELECT v.setting::pg_catalog.bool FROM pg_catalog.pg_settings v WHERE v.name = 'track_activities'
                    AND v.source IN ('default', 'environment variable', 'configuration file', 'command line', 'global')), true) END`},
	{"signed-large-objects-created", false, `
    SELECT 'role ' || l.name, pg_catalog.format('SQL of %s can make large objects: other tenants read them, and the plugin does not start while there are any', l.name),
        pg_catalog.array_agg(DISTINCT pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM %s', f.oid::pg_catalog.regprocedure, g.name))
    FROM login l, pg_catalog.pg_proc f, pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) e JOIN grantees g ON g.oid = e.grantee
    WHERE f.oid IN ('pg_catalog.lo_creat(pg_catalog.int4)'::pg_catalog.regprocedure, 'pg_catalog.lo_create(pg_catalog.oid)'::pg_catalog.regprocedure,
        'pg_catalog.lo_from_bytea(pg_catalog.oid, pg_catalog.bytea)'::pg_catalog.regprocedure) GROUP BY l.name`},
}
