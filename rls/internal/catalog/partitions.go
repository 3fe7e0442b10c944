package catalog

import (
	"context"

	"gorm.io/gorm"
)

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
