package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// facts are what is known of a database. One statement reads them, and sees one state of it.
type facts struct {
	Shared         []string // the objects of Allow(SharedTable, …) that exist
	Role           role
	Reach          []reached
	Settings       []setting
	Children       []child
	SharedParents  []sharedParent
	PrimaryKeys    []primaryKey
	Tables         []*tenantTable
	ForeignTables  []foreignTable
	Policies       []livePolicy
	Uniques        []unique
	ForeignKeys    []foreignKey
	Parents        []parent
	Views          []view
	Readers        []catalog.Relation // all views of tenant tables
	Functions      []function
	Triggers       []trigger
	Routines       []routine
	AuditStores    []*auditStore
	AuditedTables  []*auditedTable
	Specials       []special
	FileFunctions  []fileFunction
	Connectors     []connector
	Rewrites       []rewrite
	Sequences      []sequence
	LargeObjects   largeObjects
	Secrets        []secret
	Parameters     []parameter
	ForeignServers []foreignServer
	Schemas        []space
	Defaults       []defaultGrant
	Publications   []publication
	BoundOwners    []boundOwner
	Backup         backup
	Temporary      []temporary
	Models         []modelFact
	Wall           []breach

	keys    []signingKeys // at most one
	sharded []*sharded    // on Citus, all distributed tables
}

// subjects are the parts of the statement: each a query of one JSON value, by the name of its field in facts. One whose
// sources the role may not read is left out.
var subjects = []struct {
	name, query string
	sources     []string
}{
	{"shared", sharedQuery, nil},
	{"role", roleQuery, nil},
	{"reach", reachQuery, nil},
	{"settings", settingsQuery, []string{"pg_db_role_setting"}},
	{"children", childrenQuery, []string{"pg_constraint"}},
	{"sharedparents", sharedParentsQuery, []string{"pg_constraint", "pg_policy"}},
	{"primarykeys", primaryKeysQuery, []string{"pg_constraint", "pg_attrdef"}},
	{"tables", tablesQuery, nil}, // without them there is nothing to check
	{"foreigntables", foreignTablesQuery, nil},
	{"policies", policiesQuery, []string{"pg_policy", "pg_proc"}},
	{"uniques", uniquesQuery, []string{"pg_index", "pg_am", "pg_constraint"}},
	{"foreignkeys", foreignKeysQuery, []string{"pg_constraint", "pg_index"}},
	{"parents", parentsQuery, []string{"pg_inherits"}},
	{"views", viewsQuery, []string{"pg_rewrite", "pg_depend"}},
	{"readers", readersQuery, []string{"pg_rewrite", "pg_depend"}},
	{"functions", functionsQuery, []string{"pg_proc", "pg_depend", "pg_rewrite", "pg_language"}},
	{"triggers", triggersQuery, []string{"pg_trigger", "pg_proc", "pg_depend", "pg_rewrite"}},
	{"routines", routinesQuery, []string{"pg_proc", "pg_depend", "pg_rewrite", "pg_language"}},
	{"auditstores", auditStoresQuery, []string{"pg_proc"}},
	{"auditedtables", auditedTablesQuery, []string{"pg_trigger", "pg_proc"}},
	{"specials", specialsQuery, []string{"pg_proc"}},
	{"filefunctions", fileFunctionsQuery, []string{"pg_proc"}},
	{"connectors", connectorsQuery, []string{"pg_proc"}},
	{"rewrites", rewritesQuery, []string{"pg_rewrite", "pg_depend"}},
	{"sequences", sequencesQuery, nil},
	{"largeobjects", largeObjectsQuery, []string{"pg_largeobject_metadata"}},
	{"secrets", secretsQuery, nil},
	{"parameters", parametersQuery, nil}, // from PostgreSQL 15 on
	{"foreignservers", foreignServersQuery, []string{"pg_foreign_server"}},
	{"schemas", schemasQuery, nil},
	{"defaults", defaultsQuery, []string{"pg_default_acl"}},
	{"publications", publicationsQuery, []string{"pg_publication", "pg_publication_rel", "pg_publication_tables"}},
	{"boundowners", boundOwnersQuery, nil},
	{"backup", backupQuery, []string{"pg_policy"}},
	{"temporary", temporaryQuery, []string{"pg_database"}},
	{"models", modelsQuery, nil},
	{"wall", wallQuery, []string{"pg_auth_members", "pg_db_role_setting", "pg_largeobject_metadata", "pg_policy", "pg_proc", "pg_shdepend"}},
}

// common is what the subjects share. The parameters are: $1 the tenant column, $2 the application's role, $3 the admin
// role, the read-only role and the roles of the admin's login, $4 the schemas to look at, all if empty, $5 tables that are shared, as "schema.table", $6 the same by oid, $7 the
// tables of models by oid, $8 the lookup role, $9 the login, if it is another role than the application's,
// $10 the setting, $11 the backup role, $12 the tables of audited models by oid.
var common = `WITH RECURSIVE
-- The role of the application.
app AS (
	SELECT oid, rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = $2
),
admin AS (
	SELECT oid FROM pg_roles WHERE rolname = ANY ($3::text[])
),
-- The roles that are what the configuration calls them: what they may do is no finding.
trusted AS (
	SELECT oid FROM admin
	UNION
	SELECT oid FROM pg_roles WHERE rolname = $8
),
-- What memberships are good for. Before PostgreSQL 16 each lets its member take the role.
links AS (
	SELECT m.roleid, m.member, m.grantor, m.admin_option AS administers,
		coalesce((to_jsonb(m) ->> 'set_option')::bool, true) AS sets,
		coalesce((to_jsonb(m) ->> 'inherit_option')::bool, r.rolinherit) AS inherits
	FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
),
-- Each way to another role: by SET ROLE, by inheriting its rights, or by ADMIN OPTION, with which a role grants itself the others.
-- SET ROLE asks what the login may take, by however many steps; what is inherited on the way is not taken.
ways AS (
	SELECT r.oid, ARRAY[r.rolname::text] AS path, true AS becomes, false AS beyond
	FROM pg_roles r, app WHERE r.oid = app.oid AND NOT r.rolsuper OR r.rolname = $9
	UNION ALL
	SELECT l.roleid, w.path || r.rolname::text, w.becomes AND l.sets OR l.administers, w.beyond OR w.oid IN (SELECT oid FROM trusted)
	FROM ways w
	JOIN links l ON l.member = w.oid AND (w.becomes AND l.sets OR l.inherits OR l.administers)
	JOIN pg_roles r ON r.oid = l.roleid
),
-- The roles that the application can become or whose rights it has, each by its plainest way.
reach AS MATERIALIZED (
	SELECT DISTINCT ON (oid) * FROM ways ORDER BY oid, beyond, NOT becomes, cardinality(path)
),
-- Whose privileges the application has: those of PUBLIC (0), its own, those it inherits, and those of the roles it can become. That a
-- superuser has them all, what comes with inheriting the admin role, and what owners and roles with BYPASSRLS may do besides,
-- are findings of their own.
self AS MATERIALIZED (
	SELECT 0::oid AS oid, 'PUBLIC' AS name
	UNION ALL
	SELECT r.oid, quote_ident(r.rolname) FROM pg_roles r, app
	WHERE r.oid = app.oid OR NOT app.rolsuper AND r.oid NOT IN (SELECT oid FROM trusted) AND (
		pg_has_role(app.oid, r.oid, 'USAGE')
		OR r.oid IN (SELECT oid FROM reach WHERE NOT beyond) AND NOT r.rolsuper AND NOT r.rolbypassrls
			AND NOT EXISTS (SELECT FROM columned WHERE relowner = r.oid AND NOT shared))
),
-- Roles to which no tenant's policy applies, whatever the table.
above AS (
	SELECT r.oid FROM pg_roles r
	WHERE r.rolsuper OR r.rolbypassrls OR EXISTS (SELECT FROM admin WHERE pg_has_role(r.oid, admin.oid, 'USAGE'))
),
spaces AS (
	SELECT * FROM pg_namespace
	WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
		AND (cardinality($4::text[]) = 0 OR nspname = ANY ($4::text[]))
),
columned AS (
	SELECT c.*, n.nspname, a.attnum, a.attname, a.atttypid, a.attnotnull, a.attcollation,
		c.oid = ANY ($6::oid[]) OR n.nspname || '.' || c.relname = ANY ($5::text[]) AS shared
	FROM pg_class c
	JOIN spaces n ON n.oid = c.relnamespace
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped
	WHERE c.relkind IN ('r', 'p', 'f')
),
tenants AS MATERIALIZED (
	SELECT * FROM columned WHERE NOT shared
),
audited AS (
	SELECT unnest($12::oid[]) AS oid
),
-- What views read, through other views as well, and by whose rights: those of the owner of the view that names the table, or the caller's
-- (NULL) if that one is the invoker's, whatever view is around it. A materialized view on the way holds a copy, which policies do not see.
reads AS (
	SELECT DISTINCT r.ev_class AS reader, d.refobjid AS relation, v.relkind = 'm' AS copied,
		CASE WHEN NOT ` + isInvoker("v") + ` THEN v.relowner END AS owner
	FROM pg_depend d
	JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> d.refobjid
	JOIN pg_class v ON v.oid = r.ev_class
	JOIN tenants t ON t.oid = d.refobjid
	WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
	UNION
	SELECT r.ev_class, reads.relation, reads.copied OR v.relkind = 'm', reads.owner
	FROM reads
	JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = reads.reader
	JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.ev_class <> d.refobjid
	JOIN pg_class v ON v.oid = r.ev_class
)
`

// isInvoker is the SQL for whether a relation is a view that reads by the rights of its caller.
func isInvoker(relation string) string {
	return `EXISTS (SELECT FROM pg_options_to_table(` + relation + `.reloptions) WHERE option_name = 'security_invoker' AND option_value::bool)`
}

const sharedQuery = `
SELECT json_agg(n.nspname || '.' || c.relname) FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname || '.' || c.relname = ANY ($5::text[])`

// aclOf is the SQL for the privileges granted on a relation, as a whole and on its columns.
func aclOf(relation string) string {
	return `(SELECT ` + relation + `.relacl AS acl
		UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = ` + relation + `.oid AND attacl IS NOT NULL
		) acls, aclexplode(acl)`
}

// grantsOf is the SQL for what privileges grant to the application: privilege to grantees, which the owner is not.
func grantsOf(acl, owner string) string {
	return `(SELECT json_object_agg(privilege_type, names) FROM (
		SELECT e.privilege_type, json_agg(DISTINCT self.name) AS names
		FROM ` + acl + ` e JOIN self ON self.oid = e.grantee
		WHERE e.grantee <> ` + owner + ` GROUP BY 1) g)`
}

// granteesOf is the SQL for by whose rights the application has access to the rows of a relation.
func granteesOf(relation string) string {
	return `(SELECT json_agg(DISTINCT self.name) FROM ` + aclOf(relation) + ` e JOIN self ON self.oid = e.grantee)`
}

// accessible is the SQL for whether there are any. Two roles of PostgreSQL's own need no grant ("Predefined Roles").
func accessible(relation string) string {
	return `(EXISTS (SELECT FROM self WHERE name IN ('pg_read_all_data', 'pg_write_all_data')) OR ` +
		granteesOf(relation) + ` IS NOT NULL)`
}

// preludeQuery looks names up as the connection would, before search_path is taken out of its hands, and asks which of the
// sources in $2 cannot be read.
const preludeQuery = `SELECT pg_catalog.json_build_object(
	'role',       current_user,
	'login',      session_user,
	'version',    pg_catalog.current_setting('server_version_num')::int,
	'citus',      EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus'),
	'models',     (SELECT pg_catalog.json_agg(coalesce(pg_catalog.to_regclass(m.name)::oid::bigint, 0) ORDER BY m.n)
		FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY m (name, n)),
	'unreadable', (SELECT pg_catalog.json_agg(s.name) FROM pg_catalog.unnest($2::text[]) s (name)
		WHERE NOT pg_catalog.has_table_privilege('pg_catalog.' || s.name, 'SELECT')))::text`

// plainNames makes PostgreSQL write every name that is not its own with its schema, and protects the check from objects
// that look like PostgreSQL's own. Compiling the statement would take longer than running it.
const plainNames = `SELECT set_config('search_path', 'pg_catalog, pg_temp', true), set_config('quote_all_identifiers', 'off', true),
	set_config('jit', 'off', true)`

// read fills in the facts.
func (c *checker) read(ctx context.Context, db *gorm.DB, models []*modelTable) error {
	conn := db.Statement.ConnPool
	unreadable, err := c.readPrelude(ctx, db, models)
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, plainNames); err != nil {
		return err
	}
	allowed, shared, known := []string{}, []int64{}, []int64{}
	for _, a := range c.allowed {
		if a.code == SharedTable {
			allowed = append(allowed, a.object)
		}
	}
	for _, m := range models {
		if m.Sharing != policy.NotShared && !m.Tenant {
			shared = append(shared, m.oid)
		}
		known = append(known, m.oid)
	}
	err = catalog.ReadJSON(ctx, conn, &c.facts, c.statement(unreadable), c.Column, c.AppRole, append([]string{c.AdminRole, c.ReadOnlyRole}, c.admins...),
		append([]string{}, c.schemas...), allowed, shared, known, c.LookupRole, c.login, c.Setting, c.BackupRole, c.auditedOIDs)
	if err != nil {
		return err
	}
	if err := c.readKeys(ctx, conn); err != nil {
		return err
	}
	if err := c.readShards(ctx, conn); err != nil {
		return err
	}
	return c.connect(models)
}

// readPrelude finds out what the statement for the facts needs: the role and the version, where they are not given, and the
// tables of the models. It returns the sources that the role may not read.
func (c *checker) readPrelude(ctx context.Context, db *gorm.DB, models []*modelTable) (unreadable []string, err error) {
	var (
		names, sources = []string{}, []string{}
		prelude        struct {
			Role       string
			Login      string
			Version    int
			Citus      bool
			Models     []int64
			Unreadable []string
		}
	)
	for _, m := range models {
		names = append(names, m.Name)
	}
	audited, err := c.auditedNames(db)
	if err != nil {
		return nil, err
	}
	names = append(names, audited...)
	for _, s := range subjects {
		sources = append(sources, s.sources...)
	}
	if err := catalog.ReadJSON(ctx, db.Statement.ConnPool, &prelude, preludeQuery, names, sources); err != nil {
		return nil, err
	}
	c.version, c.server = cmp.Or(c.version, prelude.Version), prelude.Version
	c.Inline = prelude.Citus
	c.AppRole = cmp.Or(c.AppRole, prelude.Role)
	if c.logsIn {
		c.login = cmp.Or(c.login, prelude.Login)
	}
	c.admins = slices.DeleteFunc(slices.Clone(c.admins), func(role string) bool { return role == c.AppRole || role == c.login })
	for n, m := range models {
		m.oid = prelude.Models[n]
	}
	c.auditedOIDs = append([]int64{}, prelude.Models[len(models):]...)
	return prelude.Unreadable, nil
}

// statement puts the query together, and notes what is left out of it.
func (c *checker) statement(unreadable []string) string {
	var parts []string
	for _, s := range subjects {
		query := s.query
		for _, source := range s.sources {
			if slices.Contains(unreadable, source) {
				query = "NULL"
			}
		}
		if s.name == "parameters" && c.server < sqltext.PostgreSQL15 {
			query = "SELECT NULL::json"
		}
		if s.name == "wall" && c.Form == policy.Unsigned {
			query = "SELECT NULL::json"
		} else if s.name == "wall" && query != "NULL" {
			query = "SELECT (" + query + ")::json"
		}
		if query == "NULL" {
			c.unseen = append(c.unseen, fmt.Sprintf("The connection's role may not read what tells about %s (%s).",
				s.name, strings.Join(s.sources, ", ")))
		}
		parts = append(parts, fmt.Sprintf("'%s', (%s)", s.name, query))
	}
	return common + "SELECT json_build_object(" + strings.Join(parts, ",\n") + ")::text"
}

// connect links the facts to each other, and decides what cannot be decided in the catalog.
func (c *checker) connect(models []*modelTable) error {
	if c.facts.Role.Name == "" {
		return fmt.Errorf("role %q does not exist: AppRole is the role that the application logs in as", c.AppRole)
	}
	if c.login != "" && !slices.ContainsFunc(c.facts.Reach, func(r reached) bool { return r.Name == c.login }) {
		return fmt.Errorf("role %q does not exist: Login is the role that the application logs in as", c.login)
	}
	for _, name := range c.schemas {
		if !slices.ContainsFunc(c.facts.Schemas, func(s space) bool { return s.Name == name }) {
			return fmt.Errorf("schema %q does not exist", name)
		}
	}
	for _, a := range c.allowed {
		a.used = a.code == SharedTable && slices.Contains(c.facts.Shared, a.object)
	}
	c.nameWays()
	expectTypes(c.facts.Tables)
	tables := map[int64]*tenantTable{}
	for _, t := range c.facts.Tables {
		tables[t.OID] = t
	}
	for n, p := range c.facts.Policies {
		c.facts.Policies[n].table = tables[p.OID]
	}
	for n, u := range c.facts.Uniques {
		c.facts.Uniques[n].table = tables[u.OID]
	}
	for n, k := range c.facts.ForeignKeys {
		c.facts.ForeignKeys[n].child, c.facts.ForeignKeys[n].parent = tables[k.Child], tables[k.Parent]
	}
	for n, p := range c.facts.SharedParents {
		c.facts.SharedParents[n].child = tables[p.Child]
	}
	for n, k := range c.facts.PrimaryKeys {
		c.facts.PrimaryKeys[n].table = tables[k.OID]
	}
	c.connectChildren(tables, models)
	for _, m := range models {
		for n, live := range c.facts.Models {
			if live.OID == m.oid {
				m.live = &c.facts.Models[n]
			}
		}
	}
	c.readSources()
	c.connectAudits()
	return nil
}
