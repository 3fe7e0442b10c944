package guard_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

func begin(ctx context.Context, t *testing.T, p *pool, opts *sql.TxOptions) *sql.Tx {
	t.Helper()
	tx, err := p.BeginTx(ctx, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// TestTxOptions: isolation and read-only are in force, and gone afterwards.
func TestTxOptions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	const show = `SELECT current_setting('transaction_isolation') || '|' || current_setting('transaction_read_only')`
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		for level, want := range map[sql.IsolationLevel]string{
			sql.LevelDefault: "read committed", sql.LevelReadUncommitted: "read uncommitted",
			sql.LevelReadCommitted: "read committed", sql.LevelRepeatableRead: "repeatable read",
			sql.LevelSnapshot: "repeatable read", sql.LevelSerializable: "serializable",
		} {
			for _, readOnly := range []bool{false, true} {
				tx := begin(ctx, t, p, &sql.TxOptions{Isolation: level, ReadOnly: readOnly})
				_, err := p.exec(ctx, t, tx, `UPDATE notes SET body = body`)
				if readOnly {
					require.ErrorContains(t, err, "25006", "no write may come through, not even the first statement")
					require.NoError(t, tx.Rollback())
					tx = begin(ctx, t, p, &sql.TxOptions{Isolation: level, ReadOnly: true})
					want += "|on"
				} else {
					require.NoError(t, err)
				}
				if !readOnly {
					require.Equal(t, want+"|off", p.one(ctx, t, tx, show))
				} else {
					require.Equal(t, want, p.one(ctx, t, tx, show))
				}
				require.NoError(t, tx.Commit())
			}
		}
		for _, level := range []sql.IsolationLevel{sql.LevelWriteCommitted, sql.LevelLinearizable, 42} {
			_, err := p.BeginTx(ctx, &sql.TxOptions{Isolation: level})
			require.ErrorContains(t, err, "unsupported isolation")
		}
		require.Equal(t, "read committed|off", p.one(ctx, t, p, show))
		p.requireFree(t)
	})
}

// TestTransactionAssertsTenantAgain: what user SQL changes within a transaction holds for no other statement.
func TestTransactionAssertsTenantAgain(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		tx := begin(ctx, t, p, nil)
		want := "a|" + d.App.Role
		_, err := tx.ExecContext(ctx, `SAVEPOINT before`)
		require.NoError(t, err)
		for _, trap := range []string{
			`SET LOCAL app.tenant_id = 'b'`,
			`SET app.tenant_id = 'b'`,
			`RESET app.tenant_id`,
			`SET LOCAL ROLE ` + d.Admin.Role,
			`SET LOCAL ROLE ` + d.Admin.Role + `; SAVEPOINT admin`,
			`ROLLBACK TO SAVEPOINT admin`,
			`ROLLBACK TO SAVEPOINT before`,
			`RESET ROLE`,
			`RESET ALL`,
		} {
			_, err := p.exec(ctx, t, tx, trap)
			if p.prepared && err != nil {
				require.ErrorContains(t, err, "42601", "several statements can't be prepared")
				_, err = tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT before; `+trap)
			}
			require.NoError(t, err, trap)
			require.Equal(t, want, p.one(ctx, t, tx, currentSQL), trap)
			require.Equal(t, []string{"a1", "a2"}, p.notesOf(ctx, t, tx), trap)
		}
		require.NoError(t, tx.Commit())
		require.Equal(t, want, p.one(ctx, t, p, currentSQL))
		p.requireFree(t)
	})
}

// TestTransactionSavepoints: a failed statement aborts the transaction, which takes nothing but its end or a ROLLBACK TO SAVEPOINT.
func TestTransactionSavepoints(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		tx := begin(ctx, t, p, nil)
		exec := func(sql string, args ...any) error {
			_, err := p.exec(ctx, t, tx, sql, args...)
			return err
		}
		require.NoError(t, exec(`INSERT INTO notes (body) VALUES ('kept')`))
		require.NoError(t, exec(`SAVEPOINT sp`))
		require.NoError(t, exec(`INSERT INTO notes (body) VALUES ($1)`, "dropped"))
		require.ErrorContains(t, exec(`INSERT INTO notes (body) VALUES ($1)`, "dropped"), "23505")
		require.ErrorContains(t, exec(`SELECT 1`), "25P02")
		require.ErrorContains(t, exec(`SELECT $1::int`, 1), "25P02")
		_, err := p.query(ctx, t, tx, `SELECT body FROM notes`)
		require.ErrorContains(t, err, "25P02")
		require.NoError(t, exec(`ROLLBACK TO SAVEPOINT sp`))
		require.Equal(t, []string{"a1", "a2", "kept"}, p.notesOf(ctx, t, tx))
		require.ErrorContains(t, exec(`SELEC 1`), "42601")
		rows, err := p.query(ctx, t, tx, `ROLLBACK TO SAVEPOINT sp`)
		require.NoError(t, err, "as a query")
		require.NoError(t, rows.Close())
		require.NoError(t, exec(`RELEASE SAVEPOINT sp`))
		require.NoError(t, tx.Commit())
		require.Equal(t, []string{"a1", "a2", "kept"}, p.notes(ctx, t))
		_, err = p.ExecContext(ctx, `DELETE FROM notes WHERE body = 'kept'`)
		require.NoError(t, err)
		p.requireFree(t)
	})
}

// TestForgottenInAbortedTx: the assertion has to be prepared again after DEALLOCATE ALL, but an aborted transaction does
// not allow it; ROLLBACK TO SAVEPOINT must come through all the same.
func TestForgottenInAbortedTx(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		require.Equal(t, []string{"a1", "a2"}, p.notes(ctx, t))
		tx := begin(ctx, t, p, nil)
		_, err := tx.ExecContext(ctx, `SAVEPOINT sp; DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$`)
		require.NoError(t, err)
		for range 2 {
			rows, err := p.query(ctx, t, tx, `SELECT body FROM notes ORDER BY body`)
			if err == nil {
				require.NoError(t, rows.Close())
				_, err = p.exec(ctx, t, tx, `SELECT 1/$1::int`, 0)
			}
			require.Error(t, err)
			rows, err = p.query(ctx, t, tx, `ROLLBACK TO SAVEPOINT sp`)
			require.NoError(t, err)
			require.NoError(t, rows.Close())
		}
		require.Equal(t, []string{"a1", "a2"}, p.notesOf(ctx, t, tx))
		require.NoError(t, tx.Commit())
		p.requireFree(t)
	})
}

// TestRawEnd: after a COMMIT or ROLLBACK in raw SQL a transaction takes nothing more.
func TestRawEnd(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		for _, end := range []string{`COMMIT`, `ROLLBACK`, `ABORT`, `END`} {
			for _, first := range []bool{true, false} {
				p := d.app(t, way)
				ctx := tenant(t, "a")
				tx := begin(ctx, t, p, nil)
				if !first {
					require.Equal(t, []string{"a1", "a2"}, way.notesOf(ctx, t, tx))
				}
				_, err := way.exec(ctx, t, tx, end)
				require.NoError(t, err)
				before := p.sent.Load()
				_, err = way.query(ctx, t, tx, `SELECT body FROM notes`)
				require.ErrorContains(t, err, "already ended")
				_, err = way.exec(ctx, t, tx, `DELETE FROM notes`)
				require.ErrorContains(t, err, "already ended")
				require.Equal(t, before, p.sent.Load(), "nothing may be sent")
				require.ErrorContains(t, tx.Commit(), "already ended")
				p.requireFree(t)

				tx = begin(ctx, t, p, nil)
				_, err = way.exec(ctx, t, tx, end)
				require.NoError(t, err)
				require.NoError(t, tx.Rollback())
				p.requireFree(t)
				require.NoError(t, p.Close())
			}
		}
	})
}

// TestTransactionCommitOfAborted gives the error of pgx.
func TestTransactionCommitOfAborted(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		for _, sql := range []string{`SELECT 1/0`, `SELEC 1`, `SELECT nothing`} {
			for _, first := range []bool{true, false} {
				tx := begin(ctx, t, p, nil)
				if !first {
					_, err := p.exec(ctx, t, tx, `DELETE FROM notes`)
					require.NoError(t, err)
				}
				_, err := p.exec(ctx, t, tx, sql)
				require.Error(t, err)
				require.ErrorIs(t, tx.Commit(), pgx.ErrTxCommitRollback)
				p.requireFree(t)
			}
		}
	})
}

// TestDeferredConstraint: what PostgreSQL only finds at the commit is seen, wherever the commit is.
func TestDeferredConstraint(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	const orphan = "23503"
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		_, err := p.exec(ctx, t, p, `INSERT INTO children VALUES (1, 9)`)
		require.ErrorContains(t, err, orphan)
		_, err = p.exec(ctx, t, p, `INSERT INTO children VALUES (1, $1)`, 9)
		require.ErrorContains(t, err, orphan)

		const returning = `INSERT INTO children SELECT g, 9 FROM generate_series(1, 3) g RETURNING id`
		rows, err := p.query(ctx, t, p, returning)
		require.NoError(t, err)
		n := 0
		for rows.Next() {
			n++
		}
		require.Equal(t, 3, n)
		require.ErrorContains(t, rows.Err(), orphan, "at the end of the rows")

		rows, err = p.query(ctx, t, p, returning)
		require.NoError(t, err)
		require.True(t, rows.Next())
		require.ErrorContains(t, rows.Close(), orphan, "at an early close")

		rows, err = p.query(ctx, t, p, `INSERT INTO children VALUES (1, 9)`)
		if err == nil {
			require.False(t, rows.Next())
			err = rows.Err()
		}
		require.ErrorContains(t, err, orphan, "without rows")

		tx := begin(ctx, t, p, nil)
		_, err = p.exec(ctx, t, tx, `INSERT INTO children VALUES (1, 9)`)
		require.NoError(t, err)
		require.ErrorContains(t, tx.Commit(), orphan)
		require.Equal(t, "0", p.one(ctx, t, p, `SELECT count(*)::text FROM children`))
		p.requireFree(t)
	})
}

// TestTransactionOfTheFirst: a transaction that has no tenant belongs to the first that a statement names.
func TestTransactionOfTheFirst(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		a, b, none := tenant(t, "a"), tenant(t, "b"), guard.WithoutTenant(context.Background())
		for name, begun := range map[string]context.Context{"undecided": context.Background(), "without": none} {
			for _, before := range []bool{false, true} {
				tx := begin(begun, t, p, nil)
				if before {
					require.Empty(t, p.notesOf(none, t, tx), name)
				} else if begun != none {
					_, err := p.query(context.Background(), t, tx, `SELECT body FROM notes`)
					require.ErrorIs(t, err, guard.ErrNoTenant, name)
				}
				require.Equal(t, []string{"a1", "a2"}, p.notesOf(a, t, tx), name)
				for _, other := range []context.Context{b, none} {
					_, err := p.query(other, t, tx, `SELECT body FROM notes`)
					require.ErrorIs(t, err, guard.ErrTenantMismatch, name)
				}
				require.Equal(t, []string{"a1", "a2"}, p.notesOf(context.Background(), t, tx), name)
				require.NoError(t, tx.Commit())
			}
		}
		p.requireFree(t)
	})
}

// TestTransactionKeepsItsTenant: a transaction belongs to the tenant it was begun for.
func TestTransactionKeepsItsTenant(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		a, b, none := tenant(t, "a"), tenant(t, "b"), guard.WithoutTenant(context.Background())
		for begun, tests := range map[context.Context]struct {
			want  []string
			other []context.Context
		}{
			a: {[]string{"a1", "a2"}, []context.Context{b, none}},
		} {
			tx := begin(begun, t, p, nil)
			for range 2 { // before and after BEGIN is sent
				for _, other := range tests.other {
					_, err := p.query(other, t, tx, `SELECT body FROM notes`)
					require.ErrorIs(t, err, guard.ErrTenantMismatch)
					require.NotErrorIs(t, err, guard.ErrNoTenant)
					_, err = p.exec(other, t, tx, `DELETE FROM notes`)
					require.ErrorIs(t, err, guard.ErrTenantMismatch)
				}
				require.Equal(t, tests.want, p.notesOf(begun, t, tx))
				require.Equal(t, tests.want, p.notesOf(context.Background(), t, tx), "no decision inherits")
				bypassing := guard.WithBypass(context.Background(), guard.Bypass{Reason: "x"})
				require.Equal(t, tests.want, p.notesOf(bypassing, t, tx), "a bypass changes nothing here")
			}
			require.NoError(t, tx.Commit())
		}
		p.requireFree(t)
	})
}
