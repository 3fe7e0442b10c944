package catalog

import (
	"context"
	"strings"

	"gorm.io/gorm"
)

// partedByTenant says in SQL how a row of pg_class is partitioned by the tenant column, $2.
func partedByTenant(table string) string {
	return strings.ReplaceAll(`coalesce((
		SELECT partstrat FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = @c.oid AND a.attnum = p.partattrs[0]
		WHERE p.partrelid = @c.oid AND partstrat IN ('`+ByHash+`', '`+ByList+`') AND partnatts = 1 AND attname = $2)::text, '')`, "@c", table)
}

// partsOf lists in SQL the partitions of a row of pg_class, on all levels.
func partsOf(table string) string {
	return strings.ReplaceAll(`(
		SELECT json_agg(json_build_object('oid', part.oid::bigint, 'of', tree.parentrelid::oid::bigint, 'level', tree.level,
			'schema', pn.nspname, 'table', part.relname, 'bound', pg_get_expr(part.relpartbound, part.oid),
			'partedbytenant', `+partedByTenant("part")+`, 'partitioned', part.relkind = 'p', 'bytes', pg_relation_size(part.oid)) ORDER BY part.oid)
		FROM pg_partition_tree(@c.oid) tree JOIN pg_class part ON part.oid = tree.relid JOIN pg_namespace pn ON pn.oid = part.relnamespace
		WHERE tree.level > 0 AND @c.relkind = 'p')`, "@c", table)
}

// partsQuery lists the partitions, and the tables that inherit, of the tables named in $1, with all levels below and the
// position of the name. Foreign tables are not among them: they cannot have policies.
const partsQuery = `
WITH RECURSIVE family AS (
	SELECT position, to_regclass(name)::oid AS oid FROM unnest($1::text[]) WITH ORDINALITY asked (name, position)
	UNION SELECT position, inhrelid FROM family JOIN pg_inherits ON inhparent = oid
)
SELECT position - 1, format('%I.%I', nspname, relname)
FROM family JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = relnamespace
WHERE relispartition AND relkind IN ('r', 'p') OR relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
ORDER BY position, 2`

// Parts returns the names of the parts of the named tables, and for each the index of its table.
func Parts(ctx context.Context, conn gorm.ConnPool, names []string) (roots []int, parts []string, err error) {
	rows, err := conn.QueryContext(ctx, partsQuery, names)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			root int
			part string
		)
		if err := rows.Scan(&root, &part); err != nil {
			return nil, nil, err
		}
		roots, parts = append(roots, root), append(parts, part)
	}
	return roots, parts, rows.Err()
}

// IsTenantBound reports whether a partition by list, with a bound as PostgreSQL writes it, is for this tenant alone. Texts are written as standard SQL
// does, and integers without quotes.
func IsTenantBound(bound, tenant, columnType string) bool {
	value, _ := strings.CutPrefix(bound, "FOR VALUES IN (")
	return value == "'"+strings.ReplaceAll(tenant, "'", "''")+"')" || value == tenant+")" && columnType == "integer"
}
