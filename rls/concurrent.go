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
			c.Description += concurrentlyMade
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
	return fmt.Errorf("%s: %s: %w", c.Table, c.Description+concurrentlyMade, i.explainChange(c, err))
}

// concurrentlyMade is what the description of a change ends with that was made early.
const concurrentlyMade = ", concurrently"
