package lifecycle

import (
	"context"
	"encoding/json"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// relation is a table as the catalog shows it. A partition is no relation of its own.
type relation struct {
	Schema, Table string
	Kind          string // 'r' a table, 'p' a partitioned one, 'f' a foreign one
	Comment       string
	Enabled       bool // row-level security
	Bound         bool // policies apply to the role
	Primary       []string
	Policies      []appliedPolicy
	Columns       []column
	ForeignKeys   []foreignKey
	Uniques       []unique

	key *column // the column that tells tenants apart; nil for a shared table
	own bool    // and that is the primary key: a table of tenants
}

type appliedPolicy struct {
	Name    string
	Applies bool // to the role
	policy.Stored
}

type column struct {
	Name       string
	Type, Base string // with length and precision, and without
	NotNull    bool
	Generated  bool
	Collated   bool
	Loose      bool // its collation takes different texts for equal
	Sequences  []string
}

type foreignKey struct {
	Name          string
	Schema, Table string // that it refers to
	Columns, Keys []string
	OnDelete      string // a letter, see pg_constraint.confdeltype
	OnUpdate      string
	Deferrable    bool
}

// unique is a unique index. Columns are empty texts where it has an expression.
type unique struct {
	Name    string
	Columns []string
}

// name is the name of the table for people and for files.
func (r *relation) name() string { return r.Schema + "." + r.Table }

// quoted is the name of the table in SQL.
func (r *relation) quoted() string { return sqltext.Ident(r.Schema, r.Table) }

// from is the table in SQL, without those that inherit from it: they are tables of their own.
func (r *relation) from() string {
	if r.Kind == "p" {
		return r.quoted()
	}
	return "ONLY " + r.quoted()
}

func (r *relation) column(name string) *column {
	for n := range r.Columns {
		if r.Columns[n].Name == name {
			return &r.Columns[n]
		}
	}
	return nil
}

// stored are the columns that are written: PostgreSQL computes the others.
func (r *relation) stored() []column {
	var list []column
	for _, c := range r.Columns {
		if !c.Generated {
			list = append(list, c)
		}
	}
	return list
}

// relationsQuery describes all tables for a role, $1, as one JSON document.
var relationsQuery = `
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
	'schema', n.nspname, 'table', c.relname, 'kind', c.relkind, 'enabled', c.relrowsecurity,
	'comment', coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), ''),
	'bound', c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
		AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')),
	'primary', (
		SELECT pg_catalog.json_agg(a.attname ORDER BY k.n)
		FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey) WITH ORDINALITY k (attnum, n), pg_catalog.pg_attribute a
		WHERE i.indrelid = c.oid AND i.indisprimary AND k.n <= i.indnkeyatts AND a.attrelid = c.oid AND a.attnum = k.attnum),
	'uniques', (
		SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', x.relname, 'columns', (
			SELECT pg_catalog.json_agg(coalesce(a.attname, '') ORDER BY k.n)
			FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k (attnum, n)
			LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts)) ORDER BY x.relname)
		FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisunique),
	'policies', (
		SELECT pg_catalog.json_agg((` + policy.StoredOf("p") + `)::jsonb || pg_catalog.jsonb_build_object('name', p.polname, 'applies',
			EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) m WHERE m = 0 OR pg_catalog.pg_has_role(r.oid, m, 'USAGE'))) ORDER BY p.polname)
		FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid),
	'columns', (
		SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname,
			'type', pg_catalog.format_type(a.atttypid, a.atttypmod), 'base', pg_catalog.format_type(a.atttypid, NULL),
			'notnull', a.attnotnull, 'generated', a.attgenerated <> '', 'collated', a.attcollation <> 0,
			'loose', EXISTS (SELECT FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic),
			'sequences', (
				SELECT pg_catalog.json_agg(DISTINCT pg_catalog.format('%I.%I', sn.nspname, s.relname))
				FROM pg_catalog.pg_class s JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
				WHERE s.relkind = 'S' AND (EXISTS (
					SELECT FROM pg_catalog.pg_depend d
					WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
						AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum)
				OR EXISTS (
					SELECT FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_depend d
						ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
					WHERE f.adrelid = c.oid AND f.adnum = a.attnum
						AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = s.oid)))) ORDER BY a.attnum)
		FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
	'foreignkeys', (
		SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', f.conname, 'schema', pn.nspname, 'table', p.relname,
			'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n)
				FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY k (attnum, n), pg_catalog.pg_attribute a
				WHERE a.attrelid = f.conrelid AND a.attnum = k.attnum),
			'keys', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n)
				FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY k (attnum, n), pg_catalog.pg_attribute a
				WHERE a.attrelid = f.confrelid AND a.attnum = k.attnum),
			'ondelete', f.confdeltype, 'onupdate', f.confupdtype, 'deferrable', f.condeferrable) ORDER BY f.conname)
		FROM pg_catalog.pg_constraint f
		JOIN pg_catalog.pg_class p ON p.oid = coalesce(pg_catalog.pg_partition_root(f.confrelid), f.confrelid)
		JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
		WHERE f.contype = 'f' AND f.conparentid = 0 AND coalesce(pg_catalog.pg_partition_root(f.conrelid), f.conrelid) = c.oid)
) ORDER BY n.nspname, c.relname), '[]')::text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles r ON r.rolname = $1
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
	AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

// copiesQuery lists what may hold copies of rows, or rows that no table holds, and is in no export.
const copiesQuery = `
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('object', object, 'reason', reason) ORDER BY object), '[]')::text FROM (
	SELECT n.nspname || '.' || c.relname AS object, 'a materialized view, which holds copies of rows until REFRESH' AS reason
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm'
	UNION ALL
	SELECT 'large objects', 'they have no policies and no tenant' WHERE EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)
) copies`

// readJSON runs a query that returns one JSON document.
func (s *session) readJSON(ctx context.Context, into any, query string, args ...string) error {
	row, err := s.row(ctx, query, args...)
	if err != nil {
		return err
	}
	return json.Unmarshal(row[0], into)
}
