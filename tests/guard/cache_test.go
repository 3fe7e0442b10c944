package guard_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// simple sends a statement past every cache.
var simple = pgx.QueryExecModeSimpleProtocol

func (p *pool) count(t *testing.T, query string) int {
	t.Helper()
	all, err := texts(p.QueryContext(tenant(t, "a"), query, simple))
	require.NoError(t, err)
	require.Len(t, all, 1)
	n, err := strconv.Atoi(all[0])
	require.NoError(t, err)
	return n
}

const preparedSQL = `SELECT count(*)::text FROM pg_prepared_statements`

// TestCacheBounded: a connection keeps as many prepared statements as it may, and those used last.
func TestCacheBounded(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		const capacity = 4
		const overhead = 2 // the assertion, and one that waits for the next round trip to be dropped
		cfg := config(t, d.App, way.mode)
		cfg.StatementCacheCapacity, cfg.DescriptionCacheCapacity = capacity, capacity
		p := guarded(t, way, cfg, guard.Config{})
		ctx := tenant(t, "a")
		for i := range 5 * capacity {
			query := fmt.Sprintf(`SELECT $1::int + %d`, i)
			for range 2 {
				require.Equal(t, strconv.Itoa(i+1), way.one(ctx, t, p, query, 1))
			}
			require.Equal(t, "7", way.one(ctx, t, p, `SELECT $1::int AS favourite`, 7))
			_, err := way.query(ctx, t, p, fmt.Sprintf(`SELECT %d FROM nowhere`, i))
			require.ErrorContains(t, err, "42P01")
			require.LessOrEqual(t, p.count(t, preparedSQL), capacity+overhead)
		}
		favourites := p.count(t, `SELECT count(*)::text FROM pg_prepared_statements WHERE statement LIKE '%favourite%'`)
		if way.prepared || way.mode == pgx.QueryExecModeCacheStatement {
			require.Equal(t, 1, favourites, "what is used again stays")
		} else {
			require.Zero(t, favourites)
		}
		p.requireFree(t)
	})
}

// TestCacheWithoutCapacityPreparesNothing: a capacity of nothing leaves nothing prepared.
func TestCacheWithoutCapacityPreparesNothing(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		cfg := config(t, d.App, way.mode)
		cfg.StatementCacheCapacity, cfg.DescriptionCacheCapacity = 0, 0
		p := guarded(t, way, cfg, guard.Config{})
		stock := open(t, cfg)
		ctx := tenant(t, "a")
		const query = `SELECT $1::int`
		want, stockErr := texts(way.query(ctx, t, stock, query, 1))
		got, err := texts(way.query(ctx, t, p, query, 1))
		require.Equal(t, want, got)
		require.Equal(t, describe(stockErr), describe(err))
		require.Zero(t, p.count(t, preparedSQL))
	})
}

// changes are what a migration can do between two executions of the same statement on the same connection.
var changes = []struct{ name, sql, undo string }{
	{"a column more", `ALTER TABLE shifting ADD COLUMN more text DEFAULT 'more'`, `ALTER TABLE shifting DROP COLUMN more`},
	{
		"another type", `ALTER TABLE shifting ALTER COLUMN v TYPE text USING v::text`,
		`ALTER TABLE shifting ALTER COLUMN v TYPE int USING v::int`,
	},
	{
		"a column less", `ALTER TABLE shifting DROP COLUMN extra`,
		`ALTER TABLE shifting ADD COLUMN extra numeric DEFAULT 1.5`,
	},
	{
		"another table", `DROP TABLE shifting; CREATE TABLE shifting (v text, w int); GRANT ALL ON shifting TO PUBLIC;
			INSERT INTO shifting VALUES ('1', 2)`,
		`DROP TABLE shifting; CREATE TABLE shifting (v int, extra numeric); GRANT ALL ON shifting TO PUBLIC;
			INSERT INTO shifting VALUES (1, 1.5)`,
	},
}

const shiftingSQL = `CREATE TABLE shifting (v int, extra numeric); GRANT ALL ON shifting TO PUBLIC;
	INSERT INTO shifting VALUES (1, 1.5)`

// TestMigrationBetween: a statement goes on working when a migration changes its rows, outside a transaction and as the
// first of one. A transaction under way gets the error, and the next one works.
func TestMigrationBetween(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, shiftingSQL)
	statements := []struct {
		sql  string
		args []any
	}{
		{`SELECT * FROM shifting`, nil},
		{`SELECT * FROM shifting WHERE v::text = $1`, []any{"1"}},
		{`UPDATE shifting SET v = v RETURNING *`, nil},
	}
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		stock := open(t, config(t, d.App, pgx.QueryExecModeDescribeExec))
		fresh := func(sql string, args ...any) string { // what a client without memory sees
			return dump(stock.QueryContext(ctx, sql, args...))([]string{"any"})
		}
		for _, change := range changes {
			for _, s := range statements {
				dumped := func(q queryer) string { return dump(p.query(ctx, t, q, s.sql, s.args...))([]string{"any"}) }
				requireSame(t, fresh(s.sql, s.args...), dumped(p), "before")

				d.AsOwner(t, change.sql)
				requireSame(t, fresh(s.sql, s.args...), dumped(p), change.name)
				d.AsOwner(t, change.undo)
				requireSame(t, fresh(s.sql, s.args...), dumped(p), change.name+" undone")

				d.AsOwner(t, change.sql)
				tx := begin(ctx, t, p, nil)
				want := fresh(s.sql, s.args...)
				requireSame(t, want, dumped(tx), change.name+", first of a transaction")
				requireSame(t, want, dumped(tx), change.name+", again")
				require.NoError(t, tx.Commit())

				tx = begin(ctx, t, p, nil)
				require.Equal(t, "a|"+d.App.Role, p.one(ctx, t, tx, currentSQL))
				d.AsOwner(t, change.undo)
				want = fresh(s.sql, s.args...)
				if got := dumped(tx); got != want {
					require.Contains(t, got, "failed", "an error, or the truth")
					require.ErrorIs(t, tx.Commit(), pgx.ErrTxCommitRollback)
				} else {
					require.NoError(t, tx.Commit())
				}
				tx = begin(ctx, t, p, nil)
				requireSame(t, want, dumped(tx), change.name+", the next transaction")
				require.NoError(t, tx.Commit())
			}
		}
		p.requireFree(t)
	})
}

// TestParameterTypeChanges: what the client knows of a statement's parameters can be outdated too. One error is pgx's
// own answer to that; a second is not.
func TestParameterTypeChanges(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, shiftingSQL)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		const sql = `UPDATE shifting SET v = $1`
		_, err := p.exec(ctx, t, p, sql, 1)
		require.NoError(t, err)
		d.AsOwner(t, changes[1].sql)
		if _, err = p.exec(ctx, t, p, sql, "one"); err != nil {
			_, err = p.exec(ctx, t, p, sql, "one")
		}
		require.NoError(t, err)
		_, err = p.exec(ctx, t, p, sql, "1")
		require.NoError(t, err)
		d.AsOwner(t, changes[1].undo)
		p.requireFree(t)
	})
}

// TestCacheDropsNothingIfNothingWasSent: a statement that failed is to be dropped on the server by the next round trip that
// prepares one. If that comes to nothing, for its context is over, another does it.
func TestCacheDropsNothingIfNothingWasSent(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		over, cancel := context.WithCancel(ctx)
		cancel()
		conn, err := p.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
		for range 2 {
			_, err = conn.ExecContext(ctx, `INSERT INTO notes (tenant_id, body) VALUES ($1, $2)`, "b", "foreign")
			require.ErrorContains(t, err, "42501")
			_, err = conn.ExecContext(over, `DELETE FROM notes WHERE body = $1`, "nothing")
			require.ErrorIs(t, err, context.Canceled)
		}
	})
}

// TestDeallocatedByStatement drops all prepared statements by one of them. The guard knows at once, and not only when the
// server misses one: that could be in a transaction, which would be lost.
func TestDeallocatedByStatement(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		notes := []string{"a1", "a2"}
		require.Equal(t, notes, p.notes(ctx, t))
		stmt, err := p.PrepareContext(ctx, `DEALLOCATE ALL`)
		require.NoError(t, err)
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx)
		require.NoError(t, err)

		tx := begin(ctx, t, p, nil)
		_, err = tx.ExecContext(ctx, `SAVEPOINT s`) // in the simple protocol: nothing that is prepared is missed
		require.NoError(t, err)
		require.Equal(t, notes, p.notesOf(ctx, t, tx))
		require.NoError(t, tx.Commit())
		p.requireFree(t)
	})
}

// TestStatementDeallocatedByServer: the server can forget what the client remembers.
func TestStatementDeallocatedByServer(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		notes := []string{"a1", "a2"}
		for _, forget := range []string{`DEALLOCATE ALL`, `DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$`} {
			for range 2 {
				require.Equal(t, notes, p.notes(ctx, t))
			}
			_, err := p.ExecContext(ctx, forget)
			require.NoError(t, err)
			require.Equal(t, notes, p.notes(ctx, t), forget)

			_, err = p.ExecContext(ctx, forget)
			require.NoError(t, err)
			tx := begin(ctx, t, p, nil)
			require.Equal(t, notes, p.notesOf(ctx, t, tx), "%s, first of a transaction", forget)
			require.Equal(t, notes, p.notesOf(ctx, t, tx), forget)
			require.NoError(t, tx.Commit())

			tx = begin(ctx, t, p, nil)
			_, err = tx.ExecContext(ctx, forget)
			require.NoError(t, err)
			if got, err := texts(p.query(ctx, t, tx, `SELECT body FROM notes ORDER BY body`)); err == nil {
				require.Equal(t, notes, got)
				require.NoError(t, tx.Commit())
			} else {
				require.ErrorContains(t, err, "26000")
				require.ErrorIs(t, tx.Commit(), pgx.ErrTxCommitRollback)
			}
			require.Equal(t, notes, p.notes(ctx, t), "the next")
		}
		p.requireFree(t)
	})
}

// TestDiscardAll is what some poolers send; PostgreSQL takes it only outside a transaction.
func TestDiscardAll(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		if way.direct {
			return // needs an unguarded hand on the connection
		}
		p := d.app(t, way)
		require.Equal(t, []string{"a1", "a2"}, p.notes(tenant(t, "a"), t))
		_, err := p.inner.Exec(`DISCARD ALL`)
		require.NoError(t, err)
		require.Equal(t, []string{"a1", "a2"}, p.notes(tenant(t, "a"), t))
		require.Equal(t, []string{"b1"}, p.notes(tenant(t, "b"), t))
		p.requireFree(t)
	})
}

// TestBeginIsPrepared: a transaction begins by the name of a statement, and by its text again when the server has forgotten it.
func TestBeginIsPrepared(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		read := func() {
			tx, err := p.BeginTx(ctx, nil)
			require.NoError(t, err)
			got, err := texts(tx.QueryContext(ctx, `SELECT body FROM notes ORDER BY body`))
			require.NoError(t, err)
			require.Equal(t, []string{"a1", "a2"}, got)
			require.NoError(t, tx.Commit())
		}
		const begins = `SELECT count(*)::text FROM pg_prepared_statements WHERE statement = 'begin'`
		want := 0
		if p.mode == pgx.QueryExecModeCacheStatement {
			want = 1
		}
		for range 3 {
			read()
			require.Equal(t, want, p.count(t, begins))
		}
		if p.direct {
			return // needs an unguarded hand on the connection
		}
		_, err := p.inner.Exec(`DEALLOCATE ALL`)
		require.NoError(t, err)
		read()
		read()
		p.requireFree(t)
	})
}

// TestOrdinaryErrorsKeepStatements: an error that says nothing about the statement costs it nothing.
func TestOrdinaryErrorsKeepStatements(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachPool(t, func(t *testing.T, way way) {
		way.prepared = true
		p := d.app(t, way)
		ctx := tenant(t, "a")
		const sql = `INSERT INTO notes (body) VALUES ($1)`
		since := func() string {
			all, err := texts(p.QueryContext(ctx, `SELECT prepare_time::text FROM pg_prepared_statements WHERE statement = '`+sql+`'`, simple))
			require.NoError(t, err)
			require.Len(t, all, 1)
			return all[0]
		}
		_, err := way.exec(ctx, t, p, sql, "a1")
		require.ErrorContains(t, err, "23505")
		before := since()
		for range 3 {
			_, err := way.exec(ctx, t, p, sql, "a1")
			require.ErrorContains(t, err, "23505", "a duplicate")
			_, err = way.exec(ctx, t, p, sql, nil)
			require.ErrorContains(t, err, "23502", "a NULL")
		}
		require.Equal(t, before, since())
	})
}

// TestStatementOfManyRoles uses the same prepared SQL on one connection for tenants, for no tenant and for the admin:
// PostgreSQL plans it again for each role, and reads the setting with each execution.
func TestStatementOfManyRoles(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		if way.direct {
			return // two pools share a connection only if they borrow it
		}
		p := d.app(t, way)
		admin := &pool{way: way, inner: p.inner, DB: guard.Borrow(p.inner, guard.Config{
			Setting: setting, Bypass: true, Role: d.Admin.Role,
		})}
		defer admin.Close()
		bypass := guard.WithBypass(context.Background(), guard.Bypass{Reason: "test"})
		pid := func(p *pool, ctx context.Context) string { return way.one(ctx, t, p, `SELECT pg_backend_pid()::text`) }
		backend := pid(p, tenant(t, "a"))
		for range 8 { // more than the five after which PostgreSQL considers a generic plan
			require.Equal(t, []string{"a1", "a2"}, p.notes(tenant(t, "a"), t))
			require.Equal(t, []string{"a1", "a2", "b1"}, admin.notes(bypass, t))
			require.Equal(t, []string{"b1"}, p.notes(tenant(t, "b"), t))
			require.Empty(t, p.notes(guard.WithoutTenant(context.Background()), t))
			require.Empty(t, p.notes(tenant(t, "c"), t))
		}
		require.Equal(t, backend, pid(admin, bypass))
	})
}
