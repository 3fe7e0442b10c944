package rls

import (
	"context"
	"encoding/json"
	"fmt"

	"gorm.io/gorm"
)

// relation is a table as the catalog of PostgreSQL shows it.
type relation struct {
	Schema, Table, Owner string
	Enabled, Forced      bool                // ROW LEVEL SECURITY
	Column               *column             // the tenant column, nil if there is none
	Policies             map[string]policy   // those of our names
	Grants               map[string][]string // role to the privileges granted to it directly
	Usable               []string            // those of the roles asked about that may use the schema
	Sequences            []sequence          // those the table's columns own
}

// column is the tenant column of a table.
type column struct {
	Type    string // without length: a cast to varchar(n) would cut a tenant's id off, and make it another tenant's
	NotNull bool
	Default string // as PostgreSQL writes it, empty if there is none
	Indexed bool   // a valid, complete B-tree leads with it
}

// policy is a row security policy. The expressions are as PostgreSQL writes them.
type policy struct {
	Command     string // '*' is FOR ALL
	Permissive  bool
	Roles       string
	Using       string
	CheckOption string
}

// sequence feeds a column of its table.
type sequence struct {
	Schema, Name string
	Grants       map[string][]string
}

// quoted returns the qualified name of the table for use in SQL.
func (r relation) quoted() string { return ident(r.Schema, r.Table) }

// String returns the qualified name of the table for people.
func (r relation) String() string { return r.Schema + "." + r.Table }

// catalogQuery describes the tables named in $1 as JSON documents, NULL for a table that does not exist; $2 is the tenant
// column, $3 the roles that matter. A name in $1 is resolved like one in a statement: quotes and search_path count.
const catalogQuery = `
SELECT CASE WHEN c.oid IS NOT NULL THEN json_build_object(
	'schema',   n.nspname,
	'table',    c.relname,
	'owner',    pg_get_userbyid(c.relowner),
	'enabled',  c.relrowsecurity,
	'forced',   c.relforcerowsecurity,
	'column',   (
		SELECT json_build_object(
			'type',    format_type(a.atttypid, NULL),
			'notnull', a.attnotnull,
			'default', (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = c.oid AND adnum = a.attnum),
			'indexed', EXISTS (
				SELECT FROM pg_index x
				JOIN pg_class ix ON ix.oid = x.indexrelid
				JOIN pg_am am ON am.oid = ix.relam
				WHERE x.indrelid = c.oid AND x.indkey[0] = a.attnum
					AND x.indisvalid AND x.indpred IS NULL AND am.amname = 'btree'))
		FROM pg_attribute a
		WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped),
	'policies', (
		SELECT json_object_agg(polname, json_build_object(
			'command',     polcmd,
			'permissive',  polpermissive,
			'roles',       (
				SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
				FROM unnest(polroles) r),
			'using',       pg_get_expr(polqual, polrelid),
			'checkoption', pg_get_expr(polwithcheck, polrelid)))
		FROM pg_policy WHERE polrelid = c.oid AND polname IN ('` + tenantPolicy + `', '` + adminPolicy + `')),
	'grants',   (
		SELECT json_object_agg(role, privileges)
		FROM (SELECT pg_get_userbyid(grantee) AS role, json_agg(DISTINCT privilege_type) AS privileges
			FROM aclexplode(c.relacl) WHERE grantee <> 0 GROUP BY grantee) g),
	'usable',   (
		SELECT json_agg(rolname) FROM pg_roles
		WHERE rolname = ANY ($3::text[]) AND has_schema_privilege(oid, n.oid, 'USAGE')),
	'sequences', (
		SELECT json_agg(json_build_object('schema', sn.nspname, 'name', s.relname, 'grants', (
			SELECT json_object_agg(role, privileges)
			FROM (SELECT pg_get_userbyid(grantee) AS role, json_agg(DISTINCT privilege_type) AS privileges
				FROM aclexplode(s.relacl) WHERE grantee <> 0 GROUP BY grantee) g)) ORDER BY s.relname)
		FROM pg_depend d
		JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
		JOIN pg_namespace sn ON sn.oid = s.relnamespace
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
			AND d.refobjid = c.oid AND d.deptype IN ('a', 'i'))
) END::text
FROM unnest($1::text[]) WITH ORDINALITY AS asked (name, position)
LEFT JOIN pg_class c ON c.oid = to_regclass(asked.name)
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY asked.position`

// inspect reads the named tables from the catalog, in their order.
func (i Isolation) inspect(ctx context.Context, conn gorm.ConnPool, names []string) ([]relation, error) {
	relations := make([]relation, 0, len(names))
	rows, err := conn.QueryContext(ctx, catalogQuery, names, i.Column, i.roles())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var document []byte
		if err := rows.Scan(&document); err != nil {
			return nil, err
		}
		if document == nil {
			return nil, fmt.Errorf("table %s does not exist: "+
				"let AutoMigrate create it, or check the search_path of the connection", names[len(relations)])
		}
		var r relation
		if err := json.Unmarshal(document, &r); err != nil {
			return nil, err
		}
		relations = append(relations, r)
	}
	return relations, rows.Err()
}
