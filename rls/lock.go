package rls

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"time"

	"gorm.io/gorm"
)

// migrationLock is the key of the advisory lock that lets one migration run at a time in a database: "tenancy" in ASCII.
const migrationLock int64 = 0x74656e616e6379

// lockInterval is the time between two tries to get the lock.
const lockInterval = 50 * time.Millisecond

// The lock lasts for as long as the transaction, or the session.
const (
	lockTransaction = "SELECT pg_try_advisory_xact_lock($1)"
	lockSession     = "SELECT pg_try_advisory_lock($1)"
)

// tryLock takes the lock, if no other session has it.
func tryLock(ctx context.Context, conn gorm.ConnPool, query string) (got bool, err error) {
	err = conn.QueryRowContext(ctx, query, migrationLock).Scan(&got)
	return got, err
}

// await calls try until it is done. A statement that waits in PostgreSQL would hold a snapshot, and CREATE INDEX
// CONCURRENTLY waits for the end of all snapshots: two migrations would wait for each other.
func await(ctx context.Context, try func() (bool, error)) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		if done, err := try(); done || err != nil {
			return err
		}
		pause.Reset(lockInterval)
	}
}

// unlock gives the lock of the session back. A connection that cannot is closed, which gives it back as well.
func unlock(ctx context.Context, conn *sql.Conn) {
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}
