package lifecycle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// copyMark is the comment on a copy that Isolate has not attached yet. Only its owner can write one. Other runs leave such a table out, but for those
// that erase.
const copyMark = "tenancy: copy of rows that tenancy tenant isolate has not attached"

// partitionedTable is what is to be known of a table that is partitioned by list.
type partitionedTable struct {
	ByList    bool // of the tenant column
	Owned     bool // by the role
	Bounds    []string
	Rest      string     // the DEFAULT partition in SQL, if there is one
	Parts     []restPart // its own partitions, if it has any
	Published bool
	Rules     bool
	Beside    *string // a foreign key to one of its partitions
	Keys      []keyTo
	Parents   []string // in SQL: the tables that it refers to, if the role may lock them
	Copy      *struct {
		Marked, Safe, Same bool
	}
}

// restPart is a partition of the rest.
type restPart struct {
	Name    string // in SQL
	Tenants bool   // the tenant's rows are in it
	Checked *bool  // whether its constraint, if it is there, is valid
}

// keyTo is a foreign key to the table.
type keyTo struct {
	Schema, Table, Name string
	Quoted              string // the table in SQL
	Definition          string
	Owned               bool
}

// lookQuery describes a table, $1. $2 is the tenant column, $3 the copy, $4 the mark, $5 the name of the constraint, $6 the tenant and $7 its type.
const lookQuery = `
SELECT pg_catalog.json_build_object(
	'bylist', EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
		WHERE p.partrelid = c.oid AND p.partstrat = 'l' AND p.partnatts = 1 AND a.attname = $2),
	'owned', pg_catalog.pg_get_userbyid(c.relowner) = current_user,
	'bounds', (SELECT pg_catalog.json_agg(pg_catalog.pg_get_expr(p.relpartbound, p.oid))
		FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid WHERE i.inhparent = c.oid),
	'rest', coalesce((SELECT p.partdefid::pg_catalog.regclass::text FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partdefid <> 0), ''),
	'parts', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', l.oid::pg_catalog.regclass::text,
			'checked', (SELECT k.convalidated FROM pg_catalog.pg_constraint k WHERE k.conrelid = l.oid AND k.conname = $5),
			'tenants', coalesce(pg_catalog.satisfies_hash_partition(p.partdefid, m.b[1]::int, m.b[2]::int, $6::text::@type), true)) ORDER BY l.oid)
		FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.partdefid JOIN pg_catalog.pg_class l ON l.oid = i.inhrelid
		JOIN pg_catalog.pg_partitioned_table h ON h.partrelid = p.partdefid AND h.partstrat = 'h' AND h.partnatts = 1
		JOIN pg_catalog.pg_attribute a ON a.attrelid = h.partrelid AND a.attnum = h.partattrs[0] AND a.attname = $2,
		LATERAL pg_catalog.regexp_match(pg_catalog.pg_get_expr(l.relpartbound, l.oid), 'modulus (\d+), remainder (\d+)') m (b)
		WHERE p.partrelid = c.oid AND l.relkind = 'r'),
	'published', EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE p.puballtables)
		OR EXISTS (SELECT FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_partition_tree(c.oid) t
			ON t.relid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', p.schemaname, p.tablename))),
	'rules', EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_partition_tree(c.oid) t ON t.relid = r.ev_class),
	'beside', (SELECT f.conname FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_partition_tree(c.oid) t ON t.relid = f.confrelid
		WHERE f.contype = 'f' AND f.conparentid = 0 AND f.confrelid <> c.oid LIMIT 1),
	'keys', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('schema', fn.nspname, 'table', fc.relname, 'name', f.conname, 'quoted', fc.oid::pg_catalog.regclass::text,
			'definition', pg_catalog.pg_get_constraintdef(f.oid), 'owned', pg_catalog.pg_get_userbyid(fc.relowner) = current_user) ORDER BY fn.nspname, fc.relname, f.conname)
		FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class fc ON fc.oid = f.conrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
		WHERE f.contype = 'f' AND f.conparentid = 0 AND f.confrelid = c.oid),
	'parents', (SELECT pg_catalog.json_agg(DISTINCT f.confrelid::pg_catalog.regclass::text) FROM pg_catalog.pg_constraint f
		WHERE f.contype = 'f' AND f.conparentid = 0 AND f.conrelid = c.oid AND f.confrelid <> c.oid
			AND pg_catalog.has_table_privilege(f.confrelid, 'UPDATE, DELETE, TRUNCATE')),
	'copy', (SELECT pg_catalog.json_build_object(
			'marked', NOT n.relispartition AND n.relkind = 'r' AND coalesce(pg_catalog.obj_description(n.oid, 'pg_class') = $4, false),
			'safe', n.relrowsecurity AND n.relforcerowsecurity AND n.relowner = c.relowner
				AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(n.relacl) g WHERE g.grantee <> n.relowner),
			'same', @shape(n.oid) IS NOT DISTINCT FROM @shape(c.oid))
		FROM pg_catalog.pg_class n WHERE n.oid = pg_catalog.to_regclass($3))
)::text FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.regclass`

// shape is what a table and its copy have in common, in SQL.
const shape = `pg_catalog.json_build_array(
	(SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated) ORDER BY a.attnum)
		FROM pg_catalog.pg_attribute a WHERE a.attrelid = @oid AND a.attnum > 0 AND NOT a.attisdropped),
	(SELECT count(*) FROM pg_catalog.pg_index x WHERE x.indrelid = @oid),
	(SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.polname, p.polpermissive, p.polcmd, p.polroles, pg_catalog.pg_get_expr(p.polqual, p.polrelid),
		pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname) FROM pg_catalog.pg_policy p WHERE p.polrelid = @oid))::text`

var shapeOf = regexp.MustCompile(`@shape\((\w+\.oid)\)`)

// look asks the catalog about the table.
func (i *isolating) look(ctx context.Context) error {
	query := shapeOf.ReplaceAllStringFunc(lookQuery, func(call string) string {
		return strings.ReplaceAll(shape, "@oid", shapeOf.FindStringSubmatch(call)[1])
	})
	i.live = partitionedTable{}
	s := i.source
	read := func() error {
		return s.readJSON(ctx, &i.live, strings.ReplaceAll(query, "@type", i.key.Base),
			i.quoted(), i.key.Name, i.copy.quoted(), copyMark, i.checkName(), s.tenant)
	}
	if s.conn.TxStatus() == 'T' {
		return read()
	}
	return s.inTransaction(ctx, beginReading, read)
}

// checkName is the name of the constraints of this tenant's move.
func (i *isolating) checkName() string {
	sum := sha256.Sum256([]byte(i.source.tenant))
	return fmt.Sprintf("tenancy_isolate_%x", sum[:8])
}

// own reports whether the tenant has a partition of its own.
func (l *partitionedTable) own(tenant, columnType string) bool {
	return slices.ContainsFunc(l.Bounds, func(bound string) bool { return catalog.IsTenantBound(bound, tenant, columnType) })
}

// check refuses what would fail later or, worse, not.
func (i *isolating) check() error {
	l := &i.live
	not := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s", i.name(), fmt.Sprintf(format, args...))
	}
	switch {
	case !l.Owned:
		return not("log in as its owner")
	case !i.Bound || i.source.role != i.source.login:
		return not("log in as its owner, and force the policies on it: let Migrate do that")
	case l.own(i.source.tenant, i.key.Base):
		return nil
	case l.Rest == "":
		return not("it has no DEFAULT partition, in which the rows of the tenant could be: let Migrate make it")
	case len(i.Primary) == 0:
		return not("it has no primary key")
	case l.Published:
		return not("it is published for logical replication, where rows that are moved would be lost: drop it from the publication")
	case l.Rules:
		return not("it has rules")
	case l.Beside != nil:
		return not("the foreign key %s refers to one of its partitions: let it refer to the table", sqltext.Ident(*l.Beside))
	case l.Copy != nil && !l.Copy.Marked:
		return not("%s is there, and is not the copy of an earlier run: rename it", i.copy.name())
	}
	for _, k := range l.Keys {
		to := i.source.scope.find(k.Schema, k.Table)
		if !k.Owned || to == nil || !to.Bound || to.key == nil {
			return not("the foreign key %s of %s.%s refers to it: that table must have the same owner, and policies which are forced on it", sqltext.Ident(k.Name), k.Schema, k.Table)
		}
	}
	return nil
}

// errCopy is the error of a copy that somebody has changed.
var errCopy = errors.New("the copy is not as it was made: end the run with --back-out (BackOutIsolate), and begin again")
