package rls

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"
)

// survey compares the catalog with what the targets need, and returns what is left to do. Patterns that are not known yet
// it asks of PostgreSQL.
func (i Isolation) survey(ctx context.Context, conn gorm.ConnPool, targets []*target, known patterns) ([]Change, error) {
	names := make([]string, len(targets))
	for n, t := range targets {
		names[n] = t.name
	}
	relations, err := i.inspect(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	tables, err := i.tables(targets, relations, func(columnType string) (*pattern, error) {
		if known[columnType] == nil {
			if known[columnType], err = i.pattern(ctx, conn, columnType); err != nil {
				return nil, err
			}
		}
		return known[columnType], nil
	})
	if err != nil {
		return nil, err
	}
	if tables, err = i.withParts(ctx, conn, tables); err != nil {
		return nil, err
	}
	return i.plan(tables), nil
}

// tables puts together what the targets are and what they should be. The relations are in the order of the targets.
func (i Isolation) tables(targets []*target, relations []relation, pattern func(columnType string) (*pattern, error)) ([]table, error) {
	byName := make(map[string]relation, len(targets))
	for n, t := range targets {
		byName[t.name] = relations[n]
	}
	tables := make([]table, len(targets))
	for n, t := range targets {
		live := relations[n]
		if live.Owner == i.AppRole && i.AppRole != "" {
			return nil, fmt.Errorf("role %q owns table %s, and an owner can switch isolation off: "+
				"let the migrating role own it: ALTER TABLE %s OWNER TO …", i.AppRole, live, live.quoted())
		}
		tables[n] = table{relation: live, name: t.name, index: t.index, uniques: t.uniques, references: t.references}
		if !t.isTenant(live) {
			continue
		}
		columnType, err := i.columnType(t, byName)
		if err != nil {
			return nil, err
		}
		if tables[n].isolated, err = pattern(columnType); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// columnType returns the type of the target's tenant column. A join table that has none yet gets that of the tables it
// joins.
func (i Isolation) columnType(t *target, relations map[string]relation) (string, error) {
	for _, name := range append([]string{t.name}, t.sides...) {
		live := relations[name]
		switch {
		case live.Column == nil:
		case slices.Contains(columnTypes, live.Column.Type):
			return live.Column.Type, nil
		default:
			return "", fmt.Errorf("column %s of table %s has type %s, which can't hold a tenant: use one of %q",
				i.Column, live, live.Column.Type, columnTypes)
		}
	}
	return "", fmt.Errorf("table %s has no column %s, and GORM is told not to make it: add it", relations[t.name], i.Column)
}
