package faults

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tests/wire"
)

// stages are where a deadline can strike.
var stages = []struct {
	name string
	run  func(ctx context.Context, t *testing.T, f *fixture, mark string) error
	late bool // the commit may have arrived
}{
	{name: "before", run: func(ctx context.Context, _ *testing.T, f *fixture, mark string) error {
		<-ctx.Done()
		return f.db.WithContext(ctx).Create(&Note{Body: mark}).Error
	}},
	{name: "waiting for the pool", run: func(ctx context.Context, t *testing.T, f *fixture, mark string) error {
		holder, err := f.inner.Conn(as(globex))
		require.NoError(t, err)
		defer holder.Close()
		return f.db.WithContext(ctx).Create(&Note{Body: mark}).Error
	}},
	{name: "while the statement is sent", run: func(ctx context.Context, _ *testing.T, f *fixture, mark string) error {
		f.injector.arm(at(wire.Client, 0, inside, wire.FallSilent))
		return f.db.WithContext(ctx).Create(&Note{Body: mark}).Error
	}},
	{name: "while the statement runs", run: func(ctx context.Context, _ *testing.T, f *fixture, mark string) error {
		return f.db.WithContext(ctx).Exec(`INSERT INTO notes (body) SELECT ? FROM pg_sleep(60)`, mark).Error
	}},
	{name: "while rows are streamed", run: func(ctx context.Context, t *testing.T, f *fixture, _ string) error {
		rows, err := f.db.WithContext(ctx).Raw(`SELECT tenant_id FROM notes, generate_series(1, 1000000)`).Rows()
		if err != nil {
			return err // a machine that is very busy
		}
		defer rows.Close()
		if !rows.Next() {
			return rows.Err() // likewise
		}
		<-ctx.Done()
		for rows.Next() {
			var tenant string
			if rows.Scan(&tenant) == nil {
				require.Equal(t, acme, tenant)
			}
		}
		return rows.Err()
	}},
	{name: "in a transaction, between two statements", run: func(ctx context.Context, _ *testing.T, f *fixture, mark string) error {
		return f.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Note{Body: mark}).Error; err != nil {
				return err
			}
			<-ctx.Done()
			return tx.Create(&Note{Body: mark}).Error
		})
	}},
	{name: "before the commit", run: func(ctx context.Context, _ *testing.T, f *fixture, mark string) error {
		return f.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Note{Body: mark}).Error; err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
	}},
	{name: "while the commit is sent", run: func(ctx context.Context, _ *testing.T, f *fixture, mark string) error {
		return f.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			err := tx.Create(&Note{Body: mark}).Error
			f.injector.arm(at(wire.Client, 0, inside, wire.FallSilent))
			return err
		})
	}},
	{name: "while the commit is answered", late: true, run: func(ctx context.Context, _ *testing.T, f *fixture, mark string) error {
		return f.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			err := tx.Create(&Note{Body: mark}).Error
			f.injector.arm(at(wire.Server, 0, inside, wire.FallSilent))
			return err
		})
	}},
}

// TestDeadlineAtEachStage lets a deadline strike at every stage of a statement and of a transaction.
func TestDeadlineAtEachStage(t *testing.T) {
	t.Parallel()
	create := find(t, "Create")
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			for _, stage := range stages {
				f.check(t, create, globex)
				mark := f.mark()
				pid := f.injector.arm(nil)
				ctx, cancel := context.WithTimeout(as(acme), deadline)
				err := stage.run(ctx, t, f, mark)
				<-ctx.Done()
				cancel()
				if !errors.Is(err, sql.ErrTxDone) { // database/sql may have rolled back before the operation asked
					require.ErrorIs(t, err, context.DeadlineExceeded, stage.name)
				}
				if _, fired := f.injector.disarm(); fired {
					f.proxy.CutAll()
					f.gone(t, pid)
				} else {
					f.quiet(t)
				}
				op := create
				if stage.name == "while rows are streamed" {
					op = find(t, "Rows")
				}
				f.settle(t, "deadline "+stage.name, op, mark, stage.late, err)
				f.recovered(t, true)
			}
		})
	}
}

// quiet waits until no backend of the application does anything more.
func (f *fixture) quiet(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var busy int
		err := f.super.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND datname = $2 AND state <> 'idle'`,
			f.App.Role, f.Name).Scan(&busy)
		return err == nil && busy == 0
	}, patience, time.Millisecond)
}

// TestPoolExhaustedGivesUpAtDeadline: with one connection, taken, an operation that waits gives up at the deadline, and is served when it is free.
func TestPoolExhaustedGivesUpAtDeadline(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			tx := f.db.WithContext(as(globex)).Begin()
			var notes []Note
			require.NoError(t, tx.Where(seedsLike, "seed%").Find(&notes).Error)
			checkNotes(t, globex, notes, nil)
			for _, op := range operations {
				mark := f.mark()
				ctx, cancel := context.WithTimeout(as(acme), deadline/10)
				_, err := op.run(ctx, f, mark)
				cancel()
				if !errors.Is(err, sql.ErrTxDone) { // GORM adds what came of the rollback, and keeps that one's chain
					require.ErrorIs(t, err, context.DeadlineExceeded, op.name)
				}
				f.settle(t, "pool exhausted", op, mark, false, err)
			}
			require.NoError(t, tx.Commit().Error)
			f.recovered(t, true)
		})
	}
}
