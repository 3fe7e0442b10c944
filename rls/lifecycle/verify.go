package lifecycle

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// verify reads what was imported, and compares it with the file.
func (i *importing) verify(ctx context.Context) ([]Table, error) {
	as := ""
	if i.tenant != i.archive.Tenant {
		as = i.archive.Tenant
	}
	rows := i.rows
	defer func() { i.rows = rows }()
	var list []Table
	for _, t := range i.tables {
		if err := i.refersWithin(ctx, t); err != nil {
			return nil, err
		}
		want := i.archive.Tables[t.index].Table
		found, err := i.readBack(ctx, t, as)
		if err != nil {
			return nil, err
		}
		if found != want {
			return nil, fmt.Errorf("%w: %s has %d rows that differ or are not all of the %d in the file: a trigger, a rule or another session has changed them",
				ErrChanged, t.name(), found.Rows, want.Rows)
		}
		list = append(list, found)
	}
	return list, nil
}

// readBack reads a table as it is in the file. With new keys rows have another order, so that the sum of their hashes is compared.
func (i *importing) readBack(ctx context.Context, t *target, as string) (Table, error) {
	if i.keys == nil {
		return i.readTable(ctx, t.relation, t.columns, as, io.Discard)
	}
	found, sum, err := i.readCopy(ctx, t.relation, t.columns, as, i.keys)
	if err == nil && sum == t.sum {
		found.SHA256 = i.archive.Tables[t.index].SHA256
	}
	return found, err
}

// refersWithin refuses rows that refer to those of another tenant. PostgreSQL checks foreign keys without policies, so that one without the
// tenant would accept them.
func (i *importing) refersWithin(ctx context.Context, t *target) error {
	for _, f := range t.ForeignKeys {
		to := i.scope.find(f.Schema, f.Table)
		if to == nil || to.key == nil || to.own || i.scope.tellsTenants(t.relation, f) {
			continue
		}
		present, same := f.join("p")
		query := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s c WHERE c.%s AND %s AND NOT EXISTS (SELECT FROM %s p WHERE p.%s AND %s) LIMIT 1) t",
			t.from(), t.condition(), present, to.from(), to.condition(), same)
		n, err := i.number(ctx, query, i.tenant)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name(), explain(err))
		}
		if n > 0 {
			return fmt.Errorf("%w: rows of %s refer by %s to rows of %s that are not the tenant's", ErrBeyond, t.name(), sqltext.Ident(f.Name), to.name())
		}
	}
	return nil
}

// join is SQL for whether a row c has a value in all columns of a foreign key, and whether it refers to the other row.
func (f foreignKey) join(to string) (present, same string) {
	var has, equal []string
	for n, c := range f.Columns {
		column := "c." + sqltext.Ident(c)
		has = append(has, column+" IS NOT NULL")
		equal = append(equal, column+" = "+to+"."+sqltext.Ident(f.Keys[n]))
	}
	return strings.Join(has, " AND "), strings.Join(equal, " AND ")
}

// advanceSequences moves sequences beyond the keys that were imported, and never back. That is the login's right, not the tenant's.
func (i *importing) advanceSequences(ctx context.Context) error {
	type advance struct{ sequence, to string }
	var list []advance
	for _, t := range i.tables {
		for _, c := range t.columns {
			if len(c.Sequences) == 0 || c.Base != "smallint" && c.Base != "integer" && c.Base != "bigint" {
				continue
			}
			row, err := i.row(ctx, fmt.Sprintf("SELECT max(%s)::text FROM %s WHERE %s", sqltext.Ident(c.Name), t.from(), t.condition()), i.tenant)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name(), explain(err))
			}
			for _, sequence := range c.Sequences {
				if row[0] != nil {
					list = append(list, advance{sequence, string(row[0])})
				}
			}
		}
	}
	if _, err := i.row(ctx, "SELECT pg_catalog.set_config('role', $1, true)", i.login); err != nil {
		return err
	}
	for _, a := range list {
		query := fmt.Sprintf("SELECT pg_catalog.setval($1::pg_catalog.regclass, $2::bigint) FROM %s WHERE last_value < $2::bigint OR last_value = $2::bigint AND NOT is_called", a.sequence)
		if err := i.each(ctx, query, func([][]byte) error { return nil }, a.sequence, a.to); err != nil {
			return fmt.Errorf("move the sequence %s, which needs UPDATE on it: %w", a.sequence, explain(err))
		}
	}
	return nil
}
