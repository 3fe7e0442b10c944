package guard_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"runtime/debug"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// ended gives contexts that end in each way, and the error that must be found in what they cause.
var ended = map[string]struct {
	start func(context.Context) (context.Context, context.CancelFunc)
	err   error
}{
	"cancelled": {context.WithCancel, context.Canceled},
	"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 20*time.Millisecond)
	}, context.DeadlineExceeded},
}

// TestContextEndsAtEachStage ends a context at every stage. The error says so, and the connection is free again.
func TestContextEndsAtEachStage(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for name, end := range ended {
		eachStage := func(t *testing.T, way way) {
			p := d.app(t, way)
			for stage, run := range stages {
				ctx, cancel := end.start(tenant(t, "a"))
				err := run(ctx, t, p, func() {
					if end.err == context.Canceled { //nolint:errorlint // the sentinel itself
						cancel()
					}
					<-ctx.Done()
				})
				cancel()
				require.ErrorIs(t, err, end.err, stage)
				p.requireFree(t)
			}
		}
		t.Run(name, func(t *testing.T) { eachWay(t, eachStage) })
	}
}

// stages run something that the end of a context is to interrupt. They call stop, in time or from beside. They lock no
// rows: a cancel request that comes before its statement leaves a backend asleep for a while.
var stages = map[string]func(ctx context.Context, t *testing.T, p *pool, stop func()) error{
	"before": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		stop()
		_, err := p.query(ctx, t, p, `SELECT 1`)
		return err
	},
	"during a query": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		go stop()
		_, err := texts(p.query(ctx, t, p, `SELECT pg_sleep(60)`))
		return err
	},
	"during an exec": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		go stop()
		_, err := p.exec(ctx, t, p, `SELECT pg_sleep($1::float8)`, 60)
		return err
	},
	"during rows": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		rows, err := p.query(ctx, t, p, `SELECT repeat('x', 1000) FROM generate_series(1, 100000)`)
		if err != nil {
			return err
		}
		defer rows.Close()
		if !rows.Next() {
			return rows.Err() // ended early
		}
		stop()
		for rows.Next() {
		}
		return rows.Err()
	},
	"in a transaction": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		tx, err := p.BeginTx(tenant(t, "a"), nil)
		require.NoError(t, err)
		_, err = p.exec(context.Background(), t, tx, `INSERT INTO shared VALUES (1)`)
		require.NoError(t, err)
		go stop()
		return interrupted(ctx, t, p, tx)
	},
	"a transaction's first statement": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		tx, err := p.BeginTx(tenant(t, "a"), nil)
		require.NoError(t, err)
		go stop()
		return interrupted(ctx, t, p, tx)
	},
	"a transaction's context": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		tx, err := p.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		go stop()
		_, err = p.exec(ctx, t, tx, `SELECT pg_sleep(60)`)
		_ = tx.Rollback() // database/sql may have been there before
		return err
	},
	"before the commit": func(ctx context.Context, t *testing.T, p *pool, stop func()) error {
		tx, err := p.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err = p.exec(ctx, t, tx, `INSERT INTO shared VALUES (1)`); err != nil {
			return err
		}
		stop()
		if err = tx.Commit(); errors.Is(err, sql.ErrTxDone) {
			return ctx.Err() // database/sql rolled back before
		}
		return err
	},
}

// interrupted sends a statement that only the end of ctx ends, and sees that nothing of it is committed.
func interrupted(ctx context.Context, t *testing.T, p *pool, tx *sql.Tx) error {
	t.Helper()
	_, err := p.exec(ctx, t, tx, `INSERT INTO shared SELECT 99 FROM pg_sleep(60)`)
	_ = tx.Commit() // which can be done where the context ended before the statement was sent
	require.Equal(t, "0", p.one(tenant(t, "a"), t, p, `SELECT count(*)::text FROM shared WHERE id = 99`))
	return err
}

// TestRollbackAfterCancel costs neither the connection nor anything else.
func TestRollbackAfterCancel(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	const pid = `SELECT pg_backend_pid()::text`
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		backend := p.one(tenant(t, "a"), t, p, pid)
		for range 3 {
			ctx, cancel := context.WithCancel(tenant(t, "a"))
			tx, err := p.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = p.exec(ctx, t, tx, `DELETE FROM notes`)
			require.NoError(t, err)
			cancel()
			if err := tx.Rollback(); err != nil {
				require.ErrorIs(t, err, sql.ErrTxDone)
			}
			p.requireFree(t)
		}
		require.Equal(t, backend, p.one(tenant(t, "a"), t, p, pid), "the connection was worth keeping")
	})
}

type panicking struct{}

func (panicking) Value() (driver.Value, error) { panic("value") }

func (panicking) RewriteQuery(context.Context, *pgx.Conn, string, []any) (string, []any, error) {
	panic("rewriter")
}

// panicError is what the guarded pools of these tests make of a panic.
type panicError struct {
	in    string
	value any
	stack []byte
}

func (e *panicError) Error() string { return "panic in " + e.in }

func newPanicError(in string, value any) error { return &panicError{in, value, debug.Stack()} }

// TestPanicReleasesConnection in a user's code leave the pool clean. They become errors, for database/sql never takes the connection of a
// panicking query back, and lets the Rollback of its transaction wait for ever.
func TestPanicReleasesConnection(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	type valuer struct{ driver.Valuer }
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		for name, arg := range map[string]any{"value": valuer{panicking{}}, "rewriter": panicking{}} {
			requirePanic := func(err error) {
				t.Helper()
				var panicked *panicError
				require.ErrorAs(t, err, &panicked)
				require.Equal(t, name, panicked.value)
				require.Contains(t, string(panicked.stack), "cancel_test.go")
				require.NotContains(t, err.Error(), name, "what is panicked with may be anything")
			}
			_, err := p.query(ctx, t, p, `SELECT $1::int`, arg)
			requirePanic(err)
			p.requireFree(t)
			_, err = p.exec(ctx, t, p, `SELECT $1::int`, arg)
			requirePanic(err)
			p.requireFree(t)
			for _, first := range []bool{true, false} {
				tx, err := p.BeginTx(ctx, nil)
				require.NoError(t, err)
				if !first {
					_, err = p.exec(ctx, t, tx, `UPDATE notes SET body = 'lost' WHERE body = 'a1'`)
					require.NoError(t, err)
				}
				_, err = p.query(ctx, t, tx, `SELECT $1::int`, arg)
				requirePanic(err)
				_ = tx.Rollback() // the connection may be gone
				p.requireFree(t)
			}
		}
	})
}

// TestBackendKilledAtEachStage ends the session on the server, at every stage.
func TestBackendKilledAtEachStage(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		killer, err := pgx.ConnectConfig(ctx, config(t, d.App, pgx.QueryExecModeExec))
		require.NoError(t, err)
		defer killer.Close(ctx)
		kill := func(q queryer) { // by another session of the same role, which needs no right to do so
			t.Helper()
			pid := p.one(ctx, t, q, `SELECT pg_backend_pid()::text`)
			var gone bool
			require.NoError(t, killer.QueryRow(ctx, `SELECT pg_terminate_backend($1::text::int, 10000)`, pid).Scan(&gone))
			require.True(t, gone)
		}
		require.Equal(t, []string{"a1", "a2"}, p.notes(ctx, t))

		// Between two statements the pool cannot know before the first has been tried.
		kill(p)
		_, err = texts(p.query(ctx, t, p, `SELECT body FROM notes`))
		if err != nil {
			require.NotErrorIs(t, err, guard.ErrNoTenant)
		}
		p.requireFree(t)

		tx := begin(ctx, t, p, nil)
		_, err = p.exec(ctx, t, tx, `UPDATE notes SET body = 'lost' WHERE body = 'a1'`)
		require.NoError(t, err)
		kill(tx)
		require.Error(t, tx.Commit())
		p.requireFree(t)

		tx = begin(ctx, t, p, nil)
		_, err = p.exec(ctx, t, tx, `UPDATE notes SET body = 'lost' WHERE body = 'a1'`)
		require.NoError(t, err)
		kill(tx)
		_, err = p.exec(ctx, t, tx, `UPDATE notes SET body = 'lost' WHERE body = 'a2'`)
		require.Error(t, err)
		require.Error(t, tx.Commit())
		p.requireFree(t)

		// Within a statement: it ends its own session.
		_, err = p.exec(ctx, t, p, `SELECT pg_terminate_backend(pg_backend_pid())`)
		require.Equal(t, "57P01", code(err))
		p.requireFree(t)
		rows, err := p.query(ctx, t, p, `SELECT CASE WHEN g = 90000 THEN pg_terminate_backend(pg_backend_pid())::text
			ELSE repeat('x', 100) END FROM generate_series(1, 100000) g`)
		if err == nil {
			for rows.Next() {
			}
			err = rows.Err()
			_ = rows.Close()
		}
		require.Error(t, err)
		p.requireFree(t)
		require.Equal(t, "|"+d.App.Role, p.one(guard.WithoutTenant(ctx), t, p, currentSQL))
	})
}
