package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// disturb cuts connections and ends sessions until the context ends.
func (f *fixture) disturb(ctx context.Context, every time.Duration, r *report) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var err error
		switch kind := rand.IntN(20); kind {
		case 0:
			f.proxy.CutAll()
			r.fault("all connections cut")
		case 1, 2, 3, 4, 5:
			err = f.signal(ctx, "pg_terminate_backend", 1)
			r.fault("sessions terminated")
		default:
			err = f.signal(ctx, "pg_cancel_backend", 3)
			r.fault("statements cancelled by the server")
		}
		if err != nil && ctx.Err() == nil {
			r.fault("faults that failed: " + err.Error())
		}
	}
}

// signal ends some of the application's sessions, or what they do.
func (f *fixture) signal(ctx context.Context, function string, n int) error {
	_, err := f.super.ExecContext(ctx, fmt.Sprintf(`SELECT %s(pid) FROM
		(SELECT pid FROM pg_stat_activity WHERE usename = $1 ORDER BY random() LIMIT $2) s`, function), f.app, n)
	return err
}

func isCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

// kinds are the errors that are expected: those that faults cause, and those that work asks for.
var kinds = map[string]string{
	"57P01": "session terminated",
	"57014": "statement cancelled",
	"22012": "division by zero",
	"40P01": "deadlock",
	"25P02": "transaction aborted", // when what was cancelled is GORM's way back to a savepoint, whose error it does not tell
	"42501": "refused by the policy",
}

// kind names an error, and is empty for one that nothing explains.
func kind(err error) string {
	var (
		pgErr  *pgconn.PgError
		netErr net.Error
	)
	switch {
	case errors.Is(err, errOnPurpose):
		return "rolled back on purpose"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "context over"
	case errors.As(err, &pgErr):
		return kinds[pgErr.Code]
	case errors.As(err, &netErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, driver.ErrBadConn),
		errors.Is(err, sql.ErrConnDone), errors.Is(err, net.ErrClosed), errors.Is(err, pgconn.ErrConnClosed), pgconn.SafeToRetry(err):
		return "connection lost"
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, pgx.ErrTxCommitRollback):
		return "transaction over"
	}
	return ""
}
