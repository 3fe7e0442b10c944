// Package catalog reads tables from the catalog of PostgreSQL.
package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// tablesQuery describes the tables named in $1 as JSON documents, NULL for a table that does not exist; $2 is the tenant
// column, $3 the roles that matter, $4 the lookup role. A name in $1 is resolved like one in a statement: quotes and search_path count.
var tablesQuery = `
SELECT CASE WHEN c.oid IS NOT NULL THEN json_build_object(
	'schema',   n.nspname,
	'table',    c.relname,
	'owner',    pg_get_userbyid(c.relowner),
	'enabled',  c.relrowsecurity,
	'forced',   c.relforcerowsecurity,
	'column',   (
		SELECT ` + ColumnOf("c.oid", "a") + `
		FROM pg_attribute a
		WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped),
	'policies', (
		SELECT json_object_agg(p.polname, ` + policy.StoredOf("p") + `)
		FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname IN ('` + strings.Join(policy.Names, "', '") + `')),
	'grants',   (
		SELECT json_object_agg(role, privileges)
		FROM (SELECT pg_get_userbyid(grantee) AS role, json_agg(DISTINCT privilege_type) AS privileges
			FROM aclexplode(c.relacl) WHERE grantee <> 0 GROUP BY grantee) g),
	'columngrants', (
		SELECT json_agg(DISTINCT pg_get_userbyid(e.grantee))
		FROM pg_attribute a, aclexplode(a.attacl) e
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND e.grantee <> 0),
	'lookups',  (
		SELECT json_agg(DISTINCT a.attname)
		FROM pg_attribute a, aclexplode(a.attacl) e
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND e.privilege_type = 'SELECT'
			AND pg_get_userbyid(e.grantee) = $4),
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
			AND d.refobjid = c.oid AND d.deptype IN ('a', 'i')),
	'partitioned', c.relkind = 'p',
	'partition', c.relispartition,
	'partedbytenant', ` + partedByTenant("c") + `,
	'parts', ` + partsOf("c") + `,
	'size', (
		WITH RECURSIVE part AS (SELECT c.oid UNION SELECT inhrelid FROM part JOIN pg_inherits ON inhparent = part.oid),
			sized AS (SELECT reltuples, relpages, pg_relation_size(oid) AS bytes FROM part JOIN pg_class USING (oid))
		SELECT json_build_object('bytes', sum(bytes), 'blocks', max(bytes) / current_setting('block_size')::int,
			'rows', CASE WHEN bool_and(bytes = 0 OR reltuples >= 0 AND relpages > 0) THEN coalesce(sum(
				reltuples / nullif(relpages, 0) * (bytes / current_setting('block_size')::int)), 0)::bigint ELSE -1 END)
		FROM sized),
	'required', (
		SELECT json_object_agg(conname, convalidated) FROM pg_constraint
		WHERE conrelid = c.oid AND contype = 'c' AND starts_with(conname, '` + RequiredPrefix + `')),
	'giver', (
		SELECT prosrc FROM pg_trigger JOIN pg_proc f ON f.oid = tgfoid
		WHERE tgrelid = c.oid AND tgname = '` + RolloutTrigger + `' AND tgenabled = 'O'),
	'audits', ` + AuditsOf("c") + `,
	'version', current_setting('server_version_num')::int,
	'primary', (
		SELECT json_agg(attname ORDER BY position)
		FROM pg_index, unnest(indkey) WITH ORDINALITY k (attnum, position)
		JOIN pg_attribute a USING (attnum)
		WHERE indrelid = c.oid AND indisprimary AND attrelid = c.oid AND position <= indnkeyatts),
	'primarytype', (
		SELECT format_type(atttypid, NULL)
		FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
		WHERE indrelid = c.oid AND indisprimary AND indnkeyatts = 1),
	'primaryname', (SELECT conname FROM pg_constraint WHERE conrelid = c.oid AND contype = 'p'),
	'uniques', (
		SELECT json_agg(json_build_object('name', ix.relname,
			'columns',    (
				SELECT json_agg(coalesce(attname, '') ORDER BY position)
				FROM unnest(indkey) WITH ORDINALITY k (attnum, position)
				LEFT JOIN pg_attribute a ON attrelid = c.oid AND a.attnum = k.attnum
				WHERE position <= indnkeyatts),
			'constraint', EXISTS (SELECT FROM pg_constraint WHERE conindid = ix.oid AND contype IN ('p', 'u', 'x')),
			'primary',    indisprimary,
			'method',     am.amname,
			'definition', coalesce(
				(SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conindid = ix.oid AND conrelid = c.oid AND contype = 'u'),
				substr(pg_get_indexdef(ix.oid), 1 + length(format('CREATE UNIQUE INDEX %I ON %s%I.%I USING %I (',
					ix.relname, CASE ix.relkind WHEN 'I' THEN 'ONLY ' END, n.nspname, c.relname, am.amname)))),
			'whole',      indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS NULL) ORDER BY ix.relname)
		FROM pg_index JOIN pg_class ix ON ix.oid = indexrelid JOIN pg_am am ON am.oid = ix.relam
		WHERE indrelid = c.oid AND indisunique),
	-- An index that is being made is not valid either.
	'indexes', (
		SELECT json_object_agg(ix.relname, NOT indisvalid AND ix.relkind = 'i'
			AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = ix.oid))
		FROM pg_index JOIN pg_class ix ON ix.oid = indexrelid
		WHERE indrelid = c.oid),
	'foreignkeys', (
		SELECT json_object_agg(conname, json_build_object('schema', pn.nspname, 'table', p.relname,
			'columns',  (SELECT json_agg(attname ORDER BY position)
				FROM unnest(conkey) WITH ORDINALITY k (attnum, position)
				JOIN pg_attribute a USING (attnum) WHERE attrelid = conrelid),
			'keys',     (SELECT json_agg(attname ORDER BY position)
				FROM unnest(confkey) WITH ORDINALITY k (attnum, position)
				JOIN pg_attribute a USING (attnum) WHERE attrelid = confrelid),
			'ondelete', confdeltype, 'onupdate', confupdtype, 'valid', convalidated,
			'tenant',   EXISTS (
				SELECT FROM pg_attribute WHERE attrelid = confrelid AND attname = $2 AND attnum > 0 AND NOT attisdropped),
			'nulled',   (SELECT json_agg(attname)
				FROM jsonb_path_query(to_jsonb(con), '$.confdelsetcols[*]') k (attnum) -- from PostgreSQL 15 on
				JOIN pg_attribute a ON a.attnum::text = k.attnum::text WHERE attrelid = conrelid)))
		FROM pg_constraint con
		JOIN pg_class p ON p.oid = confrelid
		JOIN pg_namespace pn ON pn.oid = p.relnamespace
		WHERE conrelid = c.oid AND contype = 'f')
) END::text
FROM unnest($1::text[]) WITH ORDINALITY AS asked (name, position)
LEFT JOIN pg_class c ON c.oid = to_regclass(asked.name)
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY asked.position`

// RolloutTrigger is the name of the trigger that gives rows their tenant during a rollout.
const RolloutTrigger = "tenancy_rollout"

// RequiredPrefix begins the names of the check constraints that require the tenant column while a table is migrated in steps.
const RequiredPrefix = "tenancy_require_"

// ColumnOf returns a JSON document in SQL that describes a column; attribute is its row of pg_attribute, or one with its columns.
func ColumnOf(table, attribute string) string {
	return strings.NewReplacer("@table", table, "@a", attribute).Replace(`json_build_object(
	'type',    format_type(@a.atttypid, NULL),
	'notnull', @a.attnotnull,
	'loose',   EXISTS (SELECT FROM pg_collation WHERE oid = @a.attcollation AND NOT collisdeterministic),
	'default', (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = @table AND adnum = @a.attnum),
	'indexes', (
		SELECT json_agg((
			SELECT json_agg(coalesce(part.attname, '') ORDER BY position)
			FROM unnest(x.indkey) WITH ORDINALITY k (attnum, position)
			LEFT JOIN pg_attribute part ON part.attrelid = @table AND part.attnum = k.attnum
			WHERE position <= x.indnkeyatts) ORDER BY ix.relname)
		FROM pg_index x
		JOIN pg_class ix ON ix.oid = x.indexrelid
		JOIN pg_am am ON am.oid = ix.relam
		WHERE x.indrelid = @table AND x.indkey[0] = @a.attnum
			AND x.indisvalid AND x.indpred IS NULL AND am.amname = 'btree'))`)
}

// Inspect reads the named tables from the catalog, in their order.
func Inspect(ctx context.Context, conn gorm.ConnPool, c policy.Config, names []string) ([]Relation, error) {
	relations := make([]Relation, 0, len(names))
	rows, err := conn.QueryContext(ctx, tablesQuery, names, c.Column, c.Roles(), c.LookupRole)
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
		var r Relation
		if err := json.Unmarshal(document, &r); err != nil {
			return nil, err
		}
		relations = append(relations, r)
	}
	return relations, rows.Err()
}

// Exist reports which of the named tables exist, in their order.
func Exist(ctx context.Context, conn gorm.ConnPool, names []string) ([]bool, error) {
	exist := make([]bool, len(names))
	for n, name := range names {
		if err := conn.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&exist[n]); err != nil {
			return nil, err
		}
	}
	return exist, nil
}

// Distributed returns, of the named tables that Citus distributes, the column by which it does: empty for a table that is whole on each node.
func Distributed(ctx context.Context, conn gorm.ConnPool, names []string) (map[string]*string, error) {
	by := map[string]*string{}
	const query = `SELECT coalesce(json_object_agg(name, coalesce(column_to_column_name(logicalrelid, partkey), '')), '{}')::text
		FROM unnest($1::text[]) asked (name) JOIN pg_catalog.pg_dist_partition ON logicalrelid = to_regclass(name)`
	err := ReadJSON(ctx, conn, &by, query, names)
	return by, err
}

// ReadJSON runs a query that returns one JSON document.
func ReadJSON(ctx context.Context, conn gorm.ConnPool, into any, query string, args ...any) error {
	var document []byte
	if err := conn.QueryRowContext(ctx, query, args...).Scan(&document); err != nil {
		return err
	}
	return json.Unmarshal(document, into)
}

// Own returns those of the named tables that the current role has the rights of the owner on. On others ALTER TABLE says so.
func Own(ctx context.Context, conn gorm.ConnPool, names []string) ([]string, error) {
	var own []string
	const query = `SELECT coalesce(json_agg(name ORDER BY position), '[]')::text FROM unnest($1::text[]) WITH ORDINALITY asked (name, position)
		JOIN pg_class c ON c.oid = to_regclass(name) WHERE pg_has_role(relowner, 'USAGE')`
	err := ReadJSON(ctx, conn, &own, query, names)
	return own, err
}
