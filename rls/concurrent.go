package rls

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// migrateConcurrently migrates with indexes made concurrently. All of it happens in one session, which holds the lock.
func (i Isolation) migrateConcurrently(ctx context.Context, db *gorm.DB, models []any) ([]Change, error) {
	if inTransaction(db) {
		return nil, errors.New("no index can be made concurrently within a transaction: " +
			"migrate outside of one, or without ConcurrentIndexes")
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := await(ctx, func() (bool, error) { return tryLock(ctx, conn, lockSession) }); err != nil {
		return nil, err
	}
	defer unlock(ctx, conn)

	pinned := db.WithContext(ctx)
	pinned.Statement.ConnPool = conn
	early, err := i.migrateEarly(ctx, pinned, conn, models)
	if err != nil {
		return early, err
	}
	rest, err := i.migrateAtOnce(ctx, pinned, models)
	return append(early, rest...), err
}

// migrateEarly does to tables that are there already what needs no transaction around it all: first their missing columns,
// then the tenants of their rows, as an index is better made of what is there than kept up to date, and then the indexes.
func (i Isolation) migrateEarly(ctx context.Context, db *gorm.DB, conn *sql.Conn, models []any) ([]Change, error) {
	if err := i.checkRoles(ctx, conn); err != nil {
		return nil, err
	}
	var changes []Change
	err := db.Transaction(func(tx *gorm.DB) (err error) {
		changes, err = i.addColumns(ctx, tx, models)
		return err
	})
	if err != nil {
		return nil, err
	}
	if i.Backfill != nil {
		err = db.Transaction(func(tx *gorm.DB) error { return i.backfillEarly(ctx, tx, models) })
		if err != nil {
			return changes, err
		}
	}
	indexed, err := i.indexEarly(ctx, db, conn, models)
	return append(changes, indexed...), err
}

// addColumns adds the columns that the tables of models lack.
func (i Isolation) addColumns(ctx context.Context, tx *gorm.DB, models []any) ([]Change, error) {
	m, targets, err := i.prepare(tx, models)
	if err != nil {
		return nil, err
	}
	for _, model := range m.all(models) {
		if m.HasTable(model) {
			if err := m.addColumns(model); err != nil {
				return nil, err
			}
		}
	}
	tables, err := i.foresee(ctx, tx.Statement.ConnPool, m, targets, models)
	if err != nil {
		return nil, err
	}
	return i.run(ctx, tx.Statement.ConnPool, tables, func(c Change) bool { return c.column })
}

// addColumns adds the columns of a model that its table lacks.
func (m migrator) addColumns(model any) error {
	types, err := m.ColumnTypes(model)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, live := range types {
		there[live.Name()] = true
	}
	_, s, err := m.parse(model)
	if err != nil {
		return err
	}
	for _, name := range s.DBNames {
		if !there[name] {
			if err := m.AddColumn(model, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// backfillEarly gives rows their tenant. Those of a table whose policies are forced have to wait for the transaction of
// Migrate, which can see them.
func (i Isolation) backfillEarly(ctx context.Context, tx *gorm.DB, models []any) error {
	m, targets, err := i.prepare(tx, models)
	if err != nil {
		return err
	}
	tables, err := i.foresee(ctx, tx.Statement.ConnPool, m, targets, models)
	if err != nil {
		return err
	}
	visible := map[string]bool{}
	for _, t := range tables {
		visible[t.quoted()] = !t.fresh && !t.Forced
	}
	for _, c := range i.plan(tables) {
		if visible[c.fill] {
			if err := i.backfill(ctx, tx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexEarly makes indexes concurrently: those that GORM would make, and then those that the plan still misses.
func (i Isolation) indexEarly(ctx context.Context, db *gorm.DB, conn *sql.Conn, models []any) ([]Change, error) {
	m, targets, err := i.prepare(db, models)
	if err != nil {
		return nil, err
	}
	tables, err := i.foresee(ctx, conn, m, targets, models)
	if err != nil {
		return nil, err
	}
	tagged, err := m.tagged(tables, models)
	if err != nil {
		return nil, err
	}
	for _, c := range tagged {
		if err := i.runEarly(ctx, conn, c); err != nil {
			return nil, err
		}
	}
	if tables, err = i.foresee(ctx, conn, m, targets, models); err != nil {
		return nil, err
	}
	return i.run(ctx, conn, tables, func(c Change) bool { return !c.column })
}

// tagged returns the indexes that AutoMigrate would make of the tables. Those of a tenant's table that are unique are the
// plan's.
func (m migrator) tagged(tables []table, models []any) ([]Change, error) {
	byName := map[string]table{}
	for _, t := range tables {
		byName[t.name] = t
	}
	p := script{planned: map[string]*Change{}}
	for _, model := range m.all(models) {
		err := m.RunWithValue(model, func(stmt *gorm.Statement) error {
			name, s, err := m.parse(model)
			if err != nil {
				return err
			}
			t := byName[name]
			p.table = t.String()
			for _, index := range s.ParseIndexes() {
				name := identifier(stmt, index.Name)
				unfinished, exists := t.Indexes[name]
				if exists && !unfinished {
					continue
				}
				planUnfinished(&p, t, name)
				var statements []string
				m.recorded, m.concurrent = &statements, true
				err := m.CreateIndex(model, index.Name)
				m.recorded, m.concurrent = nil, false
				if err != nil {
					return err
				}
				for _, statement := range statements {
					p.add("make index "+index.Name, statement).early = t.early(statement)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return p.list(), nil
}

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
		if exist[n] = is.Column == nil || wanted.Column == nil || is.Column.Type == wanted.Column.Type; exist[n] {
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

// run makes those changes that can be made early and are wanted, and returns them.
func (i Isolation) run(ctx context.Context, conn gorm.ConnPool, tables []table, wanted func(Change) bool) ([]Change, error) {
	var changes []Change
	for _, c := range i.plan(tables) {
		if c.early == "" || !wanted(c) {
			continue
		}
		if err := i.runEarly(ctx, conn, c); err != nil {
			return changes, err
		}
		if c.early != c.SQL {
			c.What += concurrentlyMade
		}
		c.SQL = c.early
		changes = append(changes, c)
	}
	return changes, nil
}

// runEarly makes a change early.
func (i Isolation) runEarly(ctx context.Context, conn gorm.ConnPool, c Change) error {
	if c.early == "" {
		return nil
	}
	_, err := conn.ExecContext(ctx, c.early)
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeInTransaction {
		err = serverError{cause: err, text: "the connection sends nothing without a transaction: " +
			"for ConcurrentIndexes pass a *gorm.DB of the owner's that takes no role"}
	}
	return fmt.Errorf("%s: %s: %w", c.Table, c.What+concurrentlyMade, i.explainChange(c, err))
}

// concurrentlyMade is what the description of a change ends with that was made early.
const concurrentlyMade = ", concurrently"
