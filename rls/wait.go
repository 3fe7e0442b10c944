package rls

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/locks"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// short runs a transaction that waits for a lock for a short time only, and again until it gets it.
func (s *steps) short(ctx context.Context, do func(tx *gorm.DB) error) error {
	return s.retry(ctx, func() error {
		return s.db.Transaction(func(tx *gorm.DB) error {
			if err := s.limitWaits(ctx, tx); err != nil {
				return err
			}
			return do(tx)
		})
	})
}

// limitWaits sets how long the statements of the transaction wait for a lock. Who waits for one in PostgreSQL keeps all from the table
// who come later, also those that the holder would let in.
func (m migration) limitWaits(ctx context.Context, tx *gorm.DB) error {
	return setLockTimeout(ctx, tx.Statement.ConnPool, m.lockTimeout)
}

// retry calls try until it gets its locks, or has tried for too long.
func (m migration) retry(ctx context.Context, try func() error) error {
	gaveUp, err := locks.Retry(ctx, m.giveUpAfter, func() error {
		m.waited.set(nil)
		return try()
	})
	if gaveUp {
		err = catalog.ServerError{Cause: err, Text: fmt.Sprintf("other sessions hold locks, tried for %s: %s", m.giveUpAfter, catalog.Explain(err, m.Column))}
	}
	return err
}

// lockAll takes the locks of all changes before the first is made. Within a transaction of the caller's it takes none: there is no
// other try.
func (m migration) lockAll(ctx context.Context, conn gorm.ConnPool, planned []plan.Change) error {
	if m.within {
		return nil
	}
	var tables []string
	for _, c := range planned {
		if plan.LockOf(c.SQL).Mode == plan.AccessExclusive && !slices.Contains(tables, c.Relation) {
			tables = append(tables, c.Relation)
		}
	}
	own, err := catalog.Own(ctx, conn, tables)
	if err != nil {
		return err
	}
	return m.lock(ctx, conn, plan.AccessExclusive, own)
}

// lock locks tables, one after another. Who holds the first ones keeps others from them, and so waits for the rest no longer than
// LockTimeout in all. Writers that have come so far in another order wait for us, as we do for them: the table that was not free is the
// first in the next try, which leads to the order that the writers have.
func (m migration) lock(ctx context.Context, conn gorm.ConnPool, mode string, tables []string) error {
	m.busy.Sort(tables)
	for n, table := range tables {
		if n == 1 {
			if err := setLockTimeout(ctx, conn, locks.Share(m.lockTimeout, len(tables))); err != nil {
				return err
			}
		}
		if _, err := conn.ExecContext(ctx, "LOCK TABLE "+table+" IN "+mode+" MODE"); err != nil {
			m.busy.First(table)
			return err
		}
	}
	return setLockTimeout(ctx, conn, m.lockTimeout)
}

func setLockTimeout(ctx context.Context, conn gorm.ConnPool, timeout time.Duration) error {
	_, err := conn.ExecContext(ctx, "SELECT set_config('lock_timeout', $1, true)", fmt.Sprint(timeout.Milliseconds()))
	return err
}
