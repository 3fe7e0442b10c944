package rls

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// largeTable is the size in bytes from which on a table is migrated in steps. What is smaller is read in some milliseconds.
const largeTable = 1 << 20

// inUse reports whether the migration has to do with a large table what would keep others from it for long.
func (m migration) inUse(ctx context.Context, db *gorm.DB) (bool, error) {
	if gormtx.In(db.Statement.ConnPool) {
		if m.concurrent {
			return false, errors.New("no index can be made concurrently within a transaction: " +
				"migrate outside of one, or without ConcurrentIndexes")
		}
		return false, nil
	}
	if m.Distributes {
		if m.concurrent {
			return false, errors.New("Engine Citus and ConcurrentIndexes: set one of them, because tables are distributed in one transaction")
		}
		return false, nil
	}
	if m.concurrent || m.Rollout != plan.Enforced {
		return true, nil
	}
	s := steps{migration: m, db: db, conn: db.Statement.ConnPool}
	changes, tables, err := s.survey(ctx)
	if err != nil {
		return false, nil //nolint:nilerr // the transaction will meet the error, and find the words
	}
	large := map[string]bool{}
	for _, t := range tables {
		large[t.Quoted()] = t.Size.Bytes >= largeTable
	}
	return slices.ContainsFunc(changes, func(c plan.Change) bool { return len(c.Early) > 0 && large[c.Relation] }), nil
}

// steps is a migration of tables that others use meanwhile. All of it happens in one session, which holds the lock of migrations.
type steps struct {
	migration
	db      *gorm.DB // pinned to conn
	conn    gorm.ConnPool
	changes []Change // made
}

// inSteps migrates tables in use: first all that takes long, in steps of which none keeps others from reading and writing, and then the
// rest, which reads no row, in one transaction. What was isolated stays so throughout; what was not is so from that transaction on.
func (m migration) inSteps(ctx context.Context, db *gorm.DB) ([]Change, error) {
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
	s := steps{migration: m, db: pinned, conn: conn}
	if err := s.early(ctx); err != nil {
		return s.changes, err
	}
	rest, err := m.atOnce(ctx, pinned)
	if err != nil {
		s.release(ctx)
		return s.changes, err
	}
	return append(s.changes, rest...), nil
}

// early does to tables that are there already what needs no transaction around it all: first their missing columns,
// then the tenants of their rows, as an index is better made of what is there than kept up to date, and then the indexes and keys.
func (s *steps) early(ctx context.Context) error {
	if err := s.checkRoles(ctx, s.conn); err != nil {
		return err
	}
	if err := s.addColumns(ctx); err != nil {
		return err
	}
	for _, do := range []func(context.Context) error{
		func(ctx context.Context) error { return s.stage(ctx, plan.Columns) },
		s.fill,
		s.tagged,
		func(ctx context.Context) error { return s.stage(ctx, plan.Indexes) },
		func(ctx context.Context) error { return s.stage(ctx, plan.References) },
		s.require,
	} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// survey returns what is left to do, and the tables as they are.
func (s *steps) survey(ctx context.Context) ([]plan.Change, []plan.Table, error) {
	migrator := s.set.Migrator(s.db)
	tables, err := s.Foresee(ctx, s.conn, migrator, s.set)
	if err != nil {
		return nil, nil, err
	}
	if s.KeepSchema {
		return s.Plan(tables), tables, nil
	}
	tagged, err := plan.Tagged(tables, migrator)
	if err != nil {
		return nil, nil, err
	}
	return append(tagged, s.Plan(tables)...), tables, nil
}

// addColumns adds the columns of models that their tables lack, and that have no constraints.
func (s *steps) addColumns(ctx context.Context) error {
	if s.KeepSchema {
		return nil
	}
	return s.short(ctx, func(tx *gorm.DB) error {
		tables, err := s.Foresee(ctx, tx.Statement.ConnPool, s.set.Migrator(tx), s.set)
		if err != nil {
			tables = nil // Survey says so, where it still is one afterwards
		}
		return s.readable(ctx, tx.Statement.ConnPool, tables, func() error { return s.set.Migrator(tx).AddColumns() })
	})
}

// tagged makes the indexes that GORM would make. They are AutoMigrate's, and so not among the changes.
func (s *steps) tagged(ctx context.Context) error {
	if s.KeepSchema {
		return nil
	}
	migrator := s.set.Migrator(s.db)
	tables, err := s.Foresee(ctx, s.conn, migrator, s.set)
	if err != nil {
		return err
	}
	tagged, err := plan.Tagged(tables, migrator)
	if err != nil {
		return err
	}
	for _, step := range plan.Early(tagged, plan.Indexes) {
		if err := s.run(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// stage makes the steps of a stage that are left to do.
func (s *steps) stage(ctx context.Context, stage plan.Stage) error {
	tables, err := s.Foresee(ctx, s.conn, s.set.Migrator(s.db), s.set)
	if err != nil {
		return err
	}
	for _, step := range plan.Early(s.Plan(tables), stage) {
		if err := s.run(ctx, step); err != nil {
			return err
		}
		description := step.Description
		if stage == plan.Indexes {
			description += concurrentlyMade
		}
		if stage != plan.Require && stage != plan.Validate { // whose constraints the last transaction drops
			s.changes = append(s.changes, Change{Table: step.Table, Description: description, SQL: step.SQL})
		}
	}
	return nil
}

// run runs a step.
func (s *steps) run(ctx context.Context, step plan.Step) (err error) {
	s.report(step, 0, 0)
	if step.Stage == plan.Indexes {
		return s.runOutside(ctx, step)
	}
	err = s.short(ctx, func(tx *gorm.DB) error {
		if step.Parent != "" {
			if err := s.lock(ctx, tx.Statement.ConnPool, plan.ShareRowExclusive, []string{step.Relation, step.Parent}); err != nil {
				return err
			}
		}
		_, err := tx.Statement.ConnPool.ExecContext(ctx, step.SQL)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %s: %w", step.Table, step.Description, s.explain(step.Misfits, err))
	}
	return nil
}

// runOutside runs a statement outside of a transaction. It waits as long as it takes, because nothing waits for it.
func (s *steps) runOutside(ctx context.Context, step plan.Step) error {
	const activeTransaction = "25001"
	_, err := s.conn.ExecContext(ctx, step.SQL)
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == activeTransaction {
		err = catalog.ServerError{Cause: err, Text: "the connection sends nothing without a transaction: " +
			"for ConcurrentIndexes pass a *gorm.DB of the owner's that takes no role"}
	}
	return fmt.Errorf("%s: %s: %w", step.Table, step.Description+concurrentlyMade, s.explain(step.Misfits, err))
}

// require requires the tenant column of new rows, gives those that have come meanwhile their tenants, and then has PostgreSQL look at
// all. When that fails, the application can write rows without a tenant again.
func (s *steps) require(ctx context.Context) (err error) {
	for _, do := range []func(context.Context) error{
		func(ctx context.Context) error { return s.stage(ctx, plan.Require) },
		s.fill,
		func(ctx context.Context) error { return s.stage(ctx, plan.Validate) },
	} {
		if err := do(ctx); err != nil {
			s.release(ctx)
			return err
		}
	}
	return nil
}

// release drops the constraints of Require. What cannot be dropped is so by the next migration.
func (s *steps) release(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	tables, err := s.Foresee(ctx, s.conn, s.set.Migrator(s.db.WithContext(ctx)), s.set)
	if err != nil {
		return
	}
	for _, t := range tables {
		if sql := s.Release(t); sql != "" {
			_ = s.short(ctx, func(tx *gorm.DB) error {
				_, err := tx.Statement.ConnPool.ExecContext(ctx, sql)
				return err
			})
		}
	}
}

// concurrentlyMade is what the description of a change ends with that was made early.
const concurrentlyMade = ", concurrently"
