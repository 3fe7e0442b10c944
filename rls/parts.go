package rls

import (
	"context"

	"gorm.io/gorm"
)

// partsQuery lists the partitions, and the tables that inherit, of the tables named in $1, with all levels below and the
// position of the name. Foreign tables are not among them: they can't have policies.
const partsQuery = `
WITH RECURSIVE family AS (
	SELECT position, to_regclass(name)::oid AS oid FROM unnest($1::text[]) WITH ORDINALITY asked (name, position)
	UNION SELECT position, inhrelid FROM family JOIN pg_inherits ON inhparent = oid
)
SELECT position - 1, format('%I.%I', nspname, relname)
FROM family JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = relnamespace
WHERE relispartition AND relkind IN ('r', 'p') OR relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
ORDER BY position, 2`

// withParts returns the tables with the parts of tenants' tables after them. A query of the whole is subject to its policies
// only, and a query of a part to the part's (PostgreSQL documentation, "Row Security Policies" and CREATE POLICY), so each
// needs its own. Columns, keys and foreign keys they have from the whole.
func (i Isolation) withParts(ctx context.Context, conn gorm.ConnPool, tables []table) ([]table, error) {
	roots, names, err := parts(ctx, conn, tables)
	if err != nil || len(names) == 0 {
		return tables, err
	}
	relations, err := i.inspect(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, t := range tables {
		known[t.quoted()] = true
	}
	all := tables
	for n, live := range relations {
		if root := tables[roots[n]]; root.isolated != nil && !known[live.quoted()] {
			known[live.quoted()] = true
			all = append(all, table{relation: live, name: names[n], whole: root.name, isolated: root.isolated})
		}
	}
	return all, nil
}

// parts returns the names of the parts of tables, and for each the index of its table.
func parts(ctx context.Context, conn gorm.ConnPool, tables []table) (roots []int, parts []string, err error) {
	names := make([]string, len(tables))
	for n, t := range tables {
		names[n] = t.quoted()
	}
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
