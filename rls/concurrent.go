package rls

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// concurrently migrates with indexes made concurrently. All of it happens in one session, which holds the lock.
func (m migration) concurrently(ctx context.Context, db *gorm.DB) ([]Change, error) {
	if gormtx.In(db.Statement.ConnPool) {
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
	early, err := m.early(ctx, pinned, conn)
	if err != nil {
		return early, err
	}
	rest, err := m.atOnce(ctx, pinned)
	return append(early, rest...), err
}

// early does to tables that are there already what needs no transaction around it all: first their missing columns,
// then the tenants of their rows, as an index is better made of what is there than kept up to date, and then the indexes.
func (m migration) early(ctx context.Context, db *gorm.DB, conn *sql.Conn) ([]Change, error) {
	if err := m.checkRoles(ctx, conn); err != nil {
		return nil, err
	}
	var changes []Change
	err := db.Transaction(func(tx *gorm.DB) (err error) {
		changes, err = m.addColumns(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if m.give != nil {
		err = db.Transaction(func(tx *gorm.DB) error { return m.backfillEarly(ctx, tx) })
		if err != nil {
			return changes, err
		}
	}
	indexed, err := m.indexEarly(ctx, db, conn)
	return append(changes, indexed...), err
}

// addColumns adds the columns that the tables of models lack.
func (m migration) addColumns(ctx context.Context, tx *gorm.DB) ([]Change, error) {
	migrator := m.set.Migrator(tx)
	if err := migrator.AddColumns(); err != nil {
		return nil, err
	}
	tables, err := m.Foresee(ctx, tx.Statement.ConnPool, migrator, m.set)
	if err != nil {
		return nil, err
	}
	return m.makeEarly(ctx, tx.Statement.ConnPool, tables, func(c plan.Change) bool { return c.AddsColumn })
}

// backfillEarly gives rows their tenant. Those of a table whose policies are forced have to wait for the transaction of
// Migrate, which can see them.
func (m migration) backfillEarly(ctx context.Context, tx *gorm.DB) error {
	tables, err := m.Foresee(ctx, tx.Statement.ConnPool, m.set.Migrator(tx), m.set)
	if err != nil {
		return err
	}
	visible := map[string]bool{}
	for _, t := range tables {
		visible[t.Quoted()] = !t.Fresh && !t.Forced
	}
	for _, c := range m.Plan(tables) {
		if visible[c.Fill] {
			if err := m.backfill(ctx, tx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexEarly makes indexes concurrently: those that GORM would make, and then those that the plan still misses.
func (m migration) indexEarly(ctx context.Context, db *gorm.DB, conn *sql.Conn) ([]Change, error) {
	migrator := m.set.Migrator(db)
	tables, err := m.Foresee(ctx, conn, migrator, m.set)
	if err != nil {
		return nil, err
	}
	tagged, err := plan.Tagged(tables, migrator)
	if err != nil {
		return nil, err
	}
	for _, c := range tagged {
		if err := m.runEarly(ctx, conn, c); err != nil {
			return nil, err
		}
	}
	if tables, err = m.Foresee(ctx, conn, migrator, m.set); err != nil {
		return nil, err
	}
	return m.makeEarly(ctx, conn, tables, func(c plan.Change) bool { return !c.AddsColumn })
}

// makeEarly makes those changes that can be made early and are wanted, and returns them.
func (m migration) makeEarly(ctx context.Context, conn gorm.ConnPool, tables []plan.Table, wanted func(plan.Change) bool) ([]Change, error) {
	var changes []Change
	for _, c := range m.Plan(tables) {
		if c.Early == "" || !wanted(c) {
			continue
		}
		if err := m.runEarly(ctx, conn, c); err != nil {
			return changes, err
		}
		if c.Early != c.SQL {
			c.Description += concurrentlyMade
		}
		c.SQL = c.Early
		changes = append(changes, newChange(c))
	}
	return changes, nil
}

// runEarly makes a change early.
func (m migration) runEarly(ctx context.Context, conn gorm.ConnPool, c plan.Change) error {
	const activeTransaction = "25001"
	if c.Early == "" {
		return nil
	}
	_, err := conn.ExecContext(ctx, c.Early)
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == activeTransaction {
		err = catalog.ServerError{Cause: err, Text: "the connection sends nothing without a transaction: " +
			"for ConcurrentIndexes pass a *gorm.DB of the owner's that takes no role"}
	}
	return fmt.Errorf("%s: %s: %w", c.Table, c.Description+concurrentlyMade, m.explain(c, err))
}

// concurrentlyMade is what the description of a change ends with that was made early.
const concurrentlyMade = ", concurrently"
