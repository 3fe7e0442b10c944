// Package locks gets locks of tables that others use, without keeping them waiting for long.
package locks

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The defaults of rls.Isolation's LockTimeout and GiveUpAfter.
const (
	DefaultTimeout     = 300 * time.Millisecond
	DefaultGiveUpAfter = 5 * time.Minute
)

// The pauses after a lock that was not free: long enough for those who have waited behind to get on.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Retry calls try until it gets its locks, and returns its last error. It reports whether it has tried for too long.
func Retry(ctx context.Context, giveUpAfter time.Duration, try func() error) (gaveUp bool, err error) {
	started, pause := time.Now(), firstPause
	for {
		err := try()
		if !NotFree(err) {
			return false, err
		}
		if time.Since(started) > giveUpAfter {
			return true, err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2)) //nolint:gosec // no secret
		select {
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// NotFree reports whether an error says that another session held a lock, or waited for one of ours.
func NotFree(err error) bool {
	const (
		deadlockDetected = "40P01"
		lockNotAvailable = "55P03"
	)
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == deadlockDetected || pg.Code == lockNotAvailable)
}

// Busy are the tables that were not free, the last one first. Who takes their locks first comes to the order that writers have.
type Busy []string

// First notes that a table was not free.
func (b *Busy) First(table string) {
	*b = slices.Insert(slices.DeleteFunc(*b, func(t string) bool { return t == table }), 0, table)
}

// Sort sorts tables by their places, those that were free last.
func (b *Busy) Sort(tables []string) {
	slices.SortStableFunc(tables, func(x, y string) int { return b.place(x) - b.place(y) })
}

func (b *Busy) place(table string) int {
	if n := slices.Index(*b, table); n >= 0 {
		return n
	}
	return len(*b)
}

// Share returns how long each of so many locks is waited for once the first is held, so that all take no longer than timeout.
func Share(timeout time.Duration, tables int) time.Duration {
	return max(timeout/time.Duration(max(tables-1, 1)), time.Millisecond)
}
