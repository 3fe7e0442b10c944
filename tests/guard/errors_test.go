package guard_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// failing are statements that fail at different stages.
var failing = []struct {
	sql  string
	args []any
}{
	{"SELEC 1", nil},
	{"SELECT 1 FROM nowhere", nil},
	{"SELECT 'Ünïcödé', nothing FROM shared", nil},
	{"SELECT 1; SELEC 2", nil},
	{"INSERT INTO shared VALUES ($1, $2) RETURN id", []any{1, "x"}},
	{"SELECT nothing, $1::int, $2::text", []any{1, "x"}},
	{"SELECT $1::int", nil},
	{"SELECT $1::int", []any{1, 2}},
	{"SELECT 1", []any{1}},
	{"SELECT $1::int", []any{"one"}},
	{"SELECT $1::int", []any{int64(math.MaxInt64)}},
	{"SELECT $1::int", []any{make(chan int)}},
	{"SELECT $1::timestamptz", []any{struct{ A int }{1}}},
	{"SELECT $1::text", []any{"a\x00b"}},
	{"SELECT $1::jsonb", []any{"{"}},
	{"SELECT 1 / ($1::int - 1)", []any{1}},
	{"SELECT 1 / (g - 3) FROM generate_series(1, 5) g", nil},
	{"SELECT 1 / (g - 300) FROM generate_series(1, 500) g", nil},
	{"INSERT INTO parents VALUES (1), (1)", nil},
	{"INSERT INTO children VALUES (1, 7)", nil},
	{"INSERT INTO children VALUES (1, $1)", []any{7}},
	{"INSERT INTO children VALUES (1, 7) RETURNING id", nil},
	{"DROP TABLE shared", nil},
	{"DO $$ BEGIN RAISE EXCEPTION 'no' USING HINT = 'h', DETAIL = 'd'; END $$", nil},
}

// TestErrorsAreThoseOfPGX holds the errors of faulty statements against those of pgx's stdlib, above all the positions: text before
// the statement must not show in them.
func TestErrorsAreThoseOfPGX(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachPool(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		for _, s := range failing {
			want := dump(way.query(ctx, t, stock, s.sql, s.args...))([]string{"any"})
			require.Regexp(t, `query failed|end [^<]`, want, "should fail: %s", s.sql)
			got := dump(way.query(ctx, t, p, s.sql, s.args...))([]string{"any"})
			if strings.HasSuffix(want, "insufficient arguments") {
				require.Contains(t, got, "42P02", "the guard lets PostgreSQL find it out")
			} else {
				requireSame(t, want, got, "query "+s.sql)
			}

			_, stockErr := way.exec(ctx, t, stock, s.sql, s.args...)
			_, err := way.exec(ctx, t, p, s.sql, s.args...)
			requireSameError(t, stockErr, err, "exec "+s.sql)
		}
		p.requireFree(t)
	})
	t.Run("prepared", func(t *testing.T) {
		eachPool(t, func(t *testing.T, way way) {
			way.prepared = true
			stock := open(t, config(t, d.App, way.mode))
			p := d.app(t, way)
			ctx := tenant(t, "a")
			for _, s := range failing {
				_, stockErr := way.exec(ctx, t, stock, s.sql, s.args...)
				_, err := way.exec(ctx, t, p, s.sql, s.args...)
				require.Error(t, err)
				if sql := s.sql; sql == "SELECT $1::int" && len(s.args) != 1 || sql == "SELECT 1" {
					continue // database/sql counts them for a driver that knows the number before it executes
				}
				requireSameError(t, stockErr, err, "exec "+s.sql)
			}
			p.requireFree(t)
		})
	})
}

// TestErrorsInTransaction does the same for the first statement of a transaction, which BEGIN travels with, and for a
// later one.
func TestErrorsInTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		run := func(db beginner, first bool, query string, args ...any) string {
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			defer tx.Rollback()
			if !first {
				_, err := tx.ExecContext(ctx, "SELECT 1")
				require.NoError(t, err)
			}
			_, execErr := way.exec(ctx, t, tx, query, args...)
			require.Error(t, execErr)
			_, then := way.exec(ctx, t, tx, "SELECT 1 AS after")
			require.Error(t, then, "a failed statement fails its transaction")
			if !errors.Is(then, sql.ErrTxDone) {
				require.ErrorContains(t, then, "25P02")
			}
			return describe(execErr) + "\n" + describe(tx.Commit())
		}
		for _, first := range []bool{true, false} {
			for _, sql := range []string{"SELEC 1", "SELECT nothing FROM shared", "SELECT 1/0"} {
				requireSame(t, run(stock, first, sql), run(p, first, sql), sql)
			}
			requireSame(t, run(stock, first, "SELECT 1/$1::int", 0), run(p, first, "SELECT 1/$1::int", 0), "argument")

			// A value that can't be encoded fails nothing but its own statement.
			tx, err := p.BeginTx(ctx, nil)
			require.NoError(t, err)
			if !first {
				require.Equal(t, "1", way.one(ctx, t, tx, "SELECT 1"))
			}
			_, err = way.exec(ctx, t, tx, "SELECT $1::int", make(chan int))
			require.Error(t, err)
			require.Equal(t, []string{"a1", "a2"}, way.notesOf(ctx, t, tx))
			require.NoError(t, tx.Commit())
		}
		p.requireFree(t)
	})
}

// TestTooManyArguments: PostgreSQL counts them in 16 bits. A statement with more is not sent, and costs no connection.
func TestTooManyArguments(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	args := make([]any, math.MaxUint16+1)
	params := make([]string, len(args))
	for i := range args {
		args[i], params[i] = i, fmt.Sprintf("$%d::int", i+1)
	}
	eachPool(t, func(t *testing.T, way way) {
		stock := open(t, config(t, d.App, way.mode))
		p := d.app(t, way)
		ctx := tenant(t, "a")
		for _, call := range []string{"", "pg_sleep(0), "} { // behind the second one the session is cleaned
			sql := "SELECT " + call + "1 WHERE 1 IN (" + strings.Join(params, ", ") + ")"
			_, stockErr := way.exec(ctx, t, stock, sql, args...)
			before := p.one(ctx, t, p, "SELECT pg_backend_pid()")
			_, err := way.exec(ctx, t, p, sql, args...)
			requireSameError(t, stockErr, err, call)
			require.Equal(t, before, p.one(ctx, t, p, "SELECT pg_backend_pid()"))
		}
		p.requireFree(t)
	})
}

// TestOpenRowsInTransaction: a statement beside rows that are open is refused for that reason, and the transaction goes on.
func TestOpenRowsInTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		tx := begin(ctx, t, p, nil)
		rows, err := p.query(ctx, t, tx, "SELECT body FROM notes")
		require.NoError(t, err)
		require.True(t, rows.Next())
		_, err = p.exec(ctx, t, tx, "SELECT 1")
		require.ErrorContains(t, err, "conn busy")
		require.NoError(t, rows.Close())
		require.Equal(t, "1", p.one(ctx, t, tx, "SELECT 1"))
		require.NoError(t, tx.Commit())
		p.requireFree(t)
	})
}
