package rls

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// The defaults of LockTimeout and GiveUpAfter.
const (
	defaultLockTimeout = 300 * time.Millisecond
	defaultGiveUpAfter = 5 * time.Minute
)

// The pauses after a lock that was not free: long enough for those who have waited behind to get on.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
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
// who come later, also those whom the holder would let in.
func (m migration) limitWaits(ctx context.Context, tx *gorm.DB) error {
	_, err := tx.Statement.ConnPool.ExecContext(ctx, "SELECT set_config('lock_timeout', $1, true)", fmt.Sprint(m.lockTimeout.Milliseconds()))
	return err
}

// retry calls try until it gets its locks, or has tried for too long.
func (m migration) retry(ctx context.Context, try func() error) error {
	started, pause := time.Now(), firstPause
	for {
		err := try()
		if !locked(err) {
			return err
		}
		if time.Since(started) > m.giveUpAfter {
			return fmt.Errorf("other sessions hold locks, tried for %s: %w", m.giveUpAfter, err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2)) //nolint:gosec // no secret
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// locked reports whether an error says that another session held a lock, or waited for one of ours.
func locked(err error) bool {
	const (
		deadlockDetected = "40P01"
		lockNotAvailable = "55P03"
	)
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == deadlockDetected || pg.Code == lockNotAvailable)
}
