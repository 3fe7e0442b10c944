package rls

import (
	"context"

	"gorm.io/gorm"
)

// prepare returns what migrate starts with.
func (i Isolation) prepare(db *gorm.DB, models []any) (migrator, []*target, error) {
	m := i.session(db).Migrator().(migrator)
	targets, err := m.targets(models)
	if err == nil {
		err = m.constraints(models, targets)
	}
	return m, targets, err
}

// foresee returns the tables of the targets as they are, and those that are missing as they will be. A table whose tenant
// column is to get another type counts as missing: its indexes would be made once more.
func (i Isolation) foresee(ctx context.Context, conn gorm.ConnPool, m migrator, targets []*target, models []any) ([]table, error) {
	relations, err := m.relations(targets, models)
	if err != nil {
		return nil, err
	}
	exist, err := existing(ctx, conn, targets)
	if err != nil {
		return nil, err
	}
	var names []string
	for n, t := range targets {
		if exist[n] {
			names = append(names, t.name)
		}
	}
	live, err := i.inspect(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	for n := range targets {
		if !exist[n] {
			continue
		}
		is, wanted := live[0], relations[n]
		live = live[1:]
		if exist[n] = is.Column == nil || wanted.Column == nil || wanted.Column.kept || is.Column.Type == wanted.Column.Type; exist[n] {
			relations[n] = is
		}
	}
	tables, err := i.tables(targets, relations, func(columnType string) (*pattern, error) {
		return &pattern{columnType: columnType}, nil
	})
	for n := range tables {
		tables[n].fresh = !exist[n]
	}
	return tables, err
}

// existing tells which of the targets' tables there are.
func existing(ctx context.Context, conn gorm.ConnPool, targets []*target) ([]bool, error) {
	exist := make([]bool, len(targets))
	for n, t := range targets {
		if err := conn.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", t.name).Scan(&exist[n]); err != nil {
			return nil, err
		}
	}
	return exist, nil
}
