package signing_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// tablesSQL makes a table of tenants whose policy asks for a proof, one that lookups read, and a deferred trigger that writes for the
// tenant of the transaction.
const tablesSQL = `
	CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		tenant_id text NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), ''), body text NOT NULL);
	CREATE TABLE members (tenant_id text NOT NULL, name text NOT NULL);
	CREATE TABLE shared (id int);
	INSERT INTO notes (tenant_id, body) VALUES ('a', 'a1'), ('b', 'b1');
	INSERT INTO members VALUES ('a', 'ann'), ('b', 'bob');
	ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
	ALTER TABLE members ENABLE ROW LEVEL SECURITY;
	CREATE POLICY tenants ON notes USING (tenant_id = (SELECT tenancy_signed.tenant('app.tenant_id')));
	CREATE POLICY lookups ON members FOR SELECT USING ((SELECT tenancy_signed.lookup('app.tenant_id')));
	GRANT ALL ON notes, members, shared TO %[1]s;
	CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO notes (body) VALUES ('later ' || NEW.body); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		WHEN (NEW.body LIKE 'first%%') EXECUTE FUNCTION later();`

// modes are those of pgx that can carry a proof.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
}

func newTables(t *testing.T) *database {
	t.Helper()
	d := newDatabase(t)
	d.AsOwner(t, fmt.Sprintf(tablesSQL, d.App.Role))
	return d
}

// signer signs by the key of the database.
func (d *database) newSigner(lifetime time.Duration, unbound bool) *signing.Signer {
	return signing.NewSigner(func(context.Context) ([]signing.Key, error) { return []signing.Key{d.key}, nil },
		lifetime, unbound, slog.New(slog.DiscardHandler))
}

// guarded is a guarded pool of one connection.
func (d *database) guarded(t *testing.T, dsn string, mode pgx.QueryExecMode, borrowed bool, signer *signing.Signer) *sql.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = mode
	noPing := stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false })
	guardConfig := guard.Config{Setting: setting, Signer: signer, CleanAlways: true, NewPanicError: func(in string, _ any) error {
		return fmt.Errorf("panic in %s", in)
	}}
	var pool *sql.DB
	if borrowed {
		inner := stdlib.OpenDB(*cfg, noPing)
		inner.SetMaxOpenConns(1)
		t.Cleanup(func() { require.NoError(t, inner.Close()) })
		pool = guard.Borrow(inner, guardConfig)
	} else {
		pool = guard.Open(stdlib.GetConnector(*cfg, noPing), guardConfig)
		pool.SetMaxOpenConns(1)
	}
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

// eachPool runs test with each way in which a pool can sign.
func (d *database) eachPool(t *testing.T, test func(t *testing.T, p *sql.DB)) {
	t.Helper()
	for _, mode := range modes {
		for _, borrowed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/borrowed=%t", testdb.ModeName(mode), borrowed), func(t *testing.T) {
				test(t, d.guarded(t, d.App.DSN, mode, borrowed, d.newSigner(time.Minute, false)))
			})
		}
	}
}

func as(tenant string) context.Context { return guard.WithTenant(context.Background(), tenant) }

type querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

func notes(ctx context.Context, t *testing.T, q querier, where string, args ...any) (bodies []string) {
	t.Helper()
	rows, err := q.QueryContext(ctx, `SELECT body FROM notes `+where+` ORDER BY body`, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var body string
		require.NoError(t, rows.Scan(&body))
		bodies = append(bodies, body)
	}
	require.NoError(t, rows.Err())
	return bodies
}

// TestSignedStatements see their tenant's rows, by whatever way they are sent, and so again on the same connection.
func TestSignedStatements(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	d.eachPool(t, func(t *testing.T, p *sql.DB) {
		for range 3 {
			require.Equal(t, []string{"a1"}, notes(as("a"), t, p, ""))
			require.Equal(t, []string{"b1"}, notes(as("b"), t, p, "WHERE body = $1", "b1"))
			require.Empty(t, notes(guard.WithoutTenant(context.Background()), t, p, ""))
			for ctx, want := range map[context.Context]int{guard.WithoutTenant(context.Background()): 2, as("a"): 0} {
				var members int
				require.NoError(t, p.QueryRowContext(ctx, `SELECT count(*) FROM members`).Scan(&members))
				require.Equal(t, want, members)
			}
			affected(t, p, as("a"), 1, `UPDATE notes SET body = body`)
			affected(t, p, as("a"), 1, `UPDATE notes SET body = $1`, "a1")
			affected(t, p, as("a"), 0, `DO $$ BEGIN DELETE FROM notes WHERE body = 'b1'; END $$`)
			affected(t, p, as("a"), 0, ``)
			affected(t, p, as("a"), 0, `-- nothing`)
			st, err := p.PrepareContext(as("a"), `SELECT count(*) FROM notes`)
			require.NoError(t, err)
			var count int
			require.NoError(t, st.QueryRowContext(as("b")).Scan(&count))
			require.Equal(t, 1, count)
			require.NoError(t, st.Close())
		}
	})
}

func affected(t *testing.T, p *sql.DB, ctx context.Context, want int64, query string, args ...any) { //nolint:revive // as in the tests of the guard
	t.Helper()
	result, err := p.ExecContext(ctx, query, args...)
	require.NoError(t, err, query)
	got, err := result.RowsAffected()
	require.NoError(t, err)
	require.Equal(t, want, got, query)
}

// TestSignedTransactions: statements of GORM's kind and SQL of the caller, deferred triggers, savepoints and COPY have the proof.
func TestSignedTransactions(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	d.eachPool(t, func(t *testing.T, p *sql.DB) {
		for _, before := range []string{``, `SELECT pg_sleep(0)`, `SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`, `SAVEPOINT s`} {
			tx, err := p.BeginTx(as("a"), nil)
			require.NoError(t, err)
			if before != "" {
				_, err = tx.Exec(before)
				require.NoError(t, err)
			}
			_, err = tx.ExecContext(as("a"), `INSERT INTO notes (tenant_id, body) VALUES ('a', 'first')`)
			require.NoError(t, err)
			require.Equal(t, []string{"a1", "first"}, notes(as("a"), t, tx, ""))
			require.NoError(t, tx.Commit(), before)
			require.Equal(t, []string{"a1", "first", "later first"}, notes(as("a"), t, p, ""), before)
			require.Equal(t, []string{"b1"}, notes(as("b"), t, p, ""))
			affected(t, p, as("a"), 2, `DELETE FROM notes WHERE body LIKE '%first'`)
		}
		conn, err := p.Conn(as("a"))
		require.NoError(t, err)
		require.NoError(t, conn.Raw(func(dc any) error {
			return guard.WithPgx(as("a"), dc, func(c *pgx.Conn) error {
				var count int
				require.NoError(t, c.QueryRow(t.Context(), `SELECT count(*) FROM notes`).Scan(&count))
				require.Equal(t, 1, count)
				_, err := c.CopyFrom(t.Context(), pgx.Identifier{"shared"}, []string{"id"}, pgx.CopyFromRows([][]any{{1}}))
				return err
			})
		}))
		require.NoError(t, conn.Close())
	})
}

// TestSignedTextIsOneStatement: what stacks statements is refused with words, and none of them runs.
func TestSignedTextIsOneStatement(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	d.eachPool(t, func(t *testing.T, p *sql.DB) {
		for _, stacked := range []string{
			`UPDATE notes SET body = 'x'; UPDATE notes SET body = 'y'`, `SELECT 1; COMMIT; BEGIN`, `SET app.x = 'y'; SELECT 1`,
		} {
			_, err := p.ExecContext(as("a"), stacked)
			require.ErrorContains(t, err, "send each statement by itself", stacked)
		}
		affected(t, p, as("a"), 1, `UPDATE notes SET body = 'a;1; SELECT 1'`)
		affected(t, p, as("a"), 1, `UPDATE notes SET body = 'a1';`)
		require.Equal(t, []string{"a1"}, notes(as("a"), t, p, ""))
		affected(t, p, guard.WithoutTenant(context.Background()), 0, `VACUUM shared`)
		_, err := p.ExecContext(as("a"), `VACUUM shared`)
		require.ErrorContains(t, err, "25001")
	})
}

// TestSignedExplainIsRefused in statements of tenants: it counts the rows of others.
func TestSignedExplainIsRefused(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	d.eachPool(t, func(t *testing.T, p *sql.DB) {
		for _, query := range []string{
			`EXPLAIN SELECT * FROM notes`, ` explain (analyze) SELECT * FROM notes`, "-- x\n ; /* y /* z */ */ ; Explain ANALYZE UPDATE notes SET body = body",
		} {
			_, err := p.ExecContext(as("a"), query)
			require.ErrorContains(t, err, "EXPLAIN is refused", query)
			_, err = p.QueryContext(as("a"), query, pgx.QueryExecModeSimpleProtocol)
			require.ErrorContains(t, err, "EXPLAIN is refused", query)
			tx, err := p.BeginTx(as("a"), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(context.Background(), query)
			require.ErrorContains(t, err, "EXPLAIN is refused", query)
			require.NoError(t, tx.Rollback())
			st, err := p.PrepareContext(as("a"), query)
			if err == nil {
				_, err = st.ExecContext(as("a"))
				require.NoError(t, st.Close())
			}
			require.ErrorContains(t, err, "EXPLAIN is refused", query)
			affected(t, p, guard.WithoutTenant(context.Background()), 0, query)
		}
		require.Equal(t, []string{"a1"}, notes(as("a"), t, p, ""))
	})
	affected(t, d.guarded(t, d.App.DSN, pgx.QueryExecModeExec, false, nil), as("a"), 0, `EXPLAIN SELECT * FROM notes`)
}

// TestProofIsInNoText that another session of the login could read.
func TestProofIsInNoText(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	d.eachPool(t, func(t *testing.T, p *sql.DB) {
		var texts []string
		look := func(ctx context.Context, q interface {
			QueryRowContext(context.Context, string, ...any) *sql.Row
		}) {
			var text, proof string
			require.NoError(t, q.QueryRowContext(ctx, `SELECT query, current_setting('app.tenant_id_proof') FROM pg_stat_activity WHERE pid = pg_backend_pid()`).Scan(&text, &proof))
			require.Contains(t, proof, d.key.ID())
			texts = append(texts, text)
		}
		look(as("a"), p)
		tx, err := p.BeginTx(as("a"), nil)
		require.NoError(t, err)
		look(as("a"), tx)
		_, err = tx.Exec(`DO $$ BEGIN PERFORM set_config('app.seen', (SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()), false); END $$`)
		require.NoError(t, err)
		var seen string
		require.NoError(t, tx.QueryRow(`SELECT current_setting('app.seen')`).Scan(&seen))
		require.NoError(t, tx.Commit())
		d.AsSuperuser(t, `GRANT pg_read_all_stats TO `+d.Owner.Role)
		d.as(t, d.Owner, func(conn *pgx.Conn) {
			rows, err := conn.Query(t.Context(), `SELECT query FROM pg_stat_activity WHERE datname = current_database()`)
			require.NoError(t, err)
			all, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			texts = append(texts, all...)
		})
		for _, text := range append(texts, seen) {
			require.NotContains(t, text, "1tp", "a head")
		}
	})
}

// TestSimpleProtocolCarriesNoProof, which would be a part of SQL text.
func TestSimpleProtocolCarriesNoProof(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	p := d.guarded(t, d.App.DSN, pgx.QueryExecModeSimpleProtocol, false, d.newSigner(time.Minute, false))
	_, err := p.ExecContext(as("a"), `SELECT 1`)
	require.ErrorContains(t, err, "simple_protocol")
	_, err = p.QueryContext(as("a"), `SELECT $1::int`, 1)
	require.ErrorContains(t, err, "simple_protocol")

	// A caller that asks for the mode gets another one.
	p = d.guarded(t, d.App.DSN, pgx.QueryExecModeCacheStatement, false, d.newSigner(time.Minute, false))
	require.Equal(t, []string{"a1"}, notes(as("a"), t, p, "", pgx.QueryExecModeSimpleProtocol))
	require.Equal(t, []string{"a1"}, notes(as("a"), t, p, "WHERE body <> $1", pgx.QueryExecModeSimpleProtocol, "b1"))
}

// TestSigningTakesNoRoundTrip: each statement takes as many with a key as without.
func TestSigningTakesNoRoundTrip(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	for _, mode := range modes {
		t.Run(testdb.ModeName(mode), func(t *testing.T) {
			counts := map[bool][]int64{}
			for _, signs := range []bool{false, true} {
				proxy, dsn := wire.Start(t, d.App.DSN)
				var signer *signing.Signer
				if signs {
					signer = d.newSigner(time.Minute, false)
				}
				p := d.guarded(t, dsn, mode, false, signer)
				for _, do := range []func() error{
					func() error { _, err := p.ExecContext(as("a"), `UPDATE notes SET body = body`); return err },
					func() error {
						_, err := p.ExecContext(as("a"), `UPDATE notes SET body = body WHERE body = $1`, "a1")
						return err
					},
					func() error { return p.QueryRowContext(as("b"), `SELECT count(*) FROM notes`).Scan(new(int)) },
					func() error { return p.QueryRowContext(as("a"), `SELECT pg_backend_pid()`).Scan(new(int)) },
					func() error { _, err := p.ExecContext(as("a"), `DO $$ BEGIN NULL; END $$`); return err },
					func() error { _, err := p.ExecContext(as("a"), `SET statement_timeout = 0`); return err },
					func() error {
						tx, err := p.BeginTx(as("a"), nil)
						if err == nil {
							_, err = tx.Exec(`SELECT pg_sleep(0)`)
						}
						if err == nil {
							err = tx.Commit()
						}
						return err
					},
				} {
					for range 3 {
						before := proxy.RoundTrips()
						require.NoError(t, do())
						counts[signs] = append(counts[signs], proxy.RoundTrips()-before)
					}
				}
			}
			require.Equal(t, counts[false], counts[true])
		})
	}
}

// TestProofIsMadeOnce for a connection and tenant, and again in time.
func TestProofIsMadeOnce(t *testing.T) {
	t.Parallel()
	d := newTables(t)
	p := d.guarded(t, d.App.DSN, pgx.QueryExecModeCacheStatement, false, d.newSigner(time.Hour, false))
	proof := func(p *sql.DB, tenant string) (proof string) {
		require.NoError(t, p.QueryRowContext(as(tenant), `SELECT current_setting('app.tenant_id_proof')`).Scan(&proof))
		return proof
	}
	first := proof(p, "a")
	require.NotEqual(t, first, proof(p, "b"))
	require.Equal(t, first, proof(p, "a"))
	for n := range 100 {
		require.Equal(t, []string(nil), notes(as(fmt.Sprintf("tenant %d", n)), t, p, ""))
	}
	require.Equal(t, []string{"a1"}, notes(as("a"), t, p, ""))
	require.True(t, strings.HasPrefix(first[64:], "1tp"))

	// Half of no lifetime is over at once: each statement gets a proof that is good for the clocks' difference.
	short := d.guarded(t, d.App.DSN, pgx.QueryExecModeCacheStatement, false, d.newSigner(0, true))
	require.Equal(t, []string{"a1"}, notes(as("a"), t, short, ""))
	require.True(t, strings.HasPrefix(proof(short, "a")[64:], "1t-"), "of any process")
}
