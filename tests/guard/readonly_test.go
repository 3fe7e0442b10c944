package guard_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// escapes are what a read-only client could send to write all the same. ROLE stands for the admin's role.
var escapes = []string{
	`SET TRANSACTION READ WRITE; DELETE FROM notes`,
	`SET transaction_read_only = off; DELETE FROM notes`,
	`RESET transaction_read_only; DELETE FROM notes`,
	`RESET ALL; DELETE FROM notes`,
	`COMMIT; SET ROLE "ROLE"; DELETE FROM notes`,
	`COMMIT; BEGIN READ WRITE; SET LOCAL ROLE "ROLE"; DELETE FROM notes; COMMIT`,
	`ROLLBACK; SET ROLE "ROLE"; DELETE FROM notes`,
	`ROLLBACK AND CHAIN; DELETE FROM notes`,
	`; COMMIT; SET ROLE "ROLE"; DELETE FROM notes`,
	`/* ; */ END; SET ROLE "ROLE"; DELETE FROM notes`,
	`SELECT 1; COMMIT; SET ROLE "ROLE"; DELETE FROM notes`,
	`CALL wipe()`, `; call wipe()`, `/* CALL */ CALL wipe()`, `-- DO` + "\n;;" + `CALL wipe()`, `SELECT 1; CALL wipe()`,
	`DO $$ BEGIN COMMIT; DELETE FROM notes; END $$`,
	`DO $$ BEGIN RESET transaction_read_only; DELETE FROM notes; END $$`,
	`DO $$ BEGIN EXECUTE 'CALL wipe()'; END $$`,
	`SELECT set_config('transaction_read_only', 'off', true), wiped()`,
	`WITH d AS (DELETE FROM notes RETURNING *) SELECT * FROM d`,
	`EXPLAIN ANALYZE DELETE FROM notes`,
	`DELETE FROM notes`,
}

// steps are the same in several statements.
var readOnlySteps = [][]string{
	{`SET TRANSACTION READ WRITE`, `DELETE FROM notes`},
	{`SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE`, `DELETE FROM notes`},
	{`RESET transaction_read_only`, `DELETE FROM notes`},
	{`SELECT set_config('transaction_read_only', 'off', false)`, `DELETE FROM notes`},
	{`COMMIT`, `SET TRANSACTION READ WRITE`, `DELETE FROM notes`},
	{`COMMIT AND CHAIN`, `SET TRANSACTION READ WRITE`, `DELETE FROM notes`},
	{`ROLLBACK AND CHAIN`, `SET TRANSACTION READ WRITE`, `DELETE FROM notes`},
	{`BEGIN READ WRITE`, `DELETE FROM notes`, `COMMIT`},
	{`BEGIN`, `SET TRANSACTION READ WRITE`, `DELETE FROM notes`, `COMMIT`},
	{`SELEC 1`, `ROLLBACK`, `BEGIN READ WRITE`, `DELETE FROM notes`, `COMMIT`},
	{`SAVEPOINT s`, `SET TRANSACTION READ WRITE`, `ROLLBACK TO s`, `SET TRANSACTION READ WRITE`, `DELETE FROM notes`},
}

// TestReadOnlyBypassNeverWrites: whatever is sent, on the pool, on a connection and in a transaction, as its first statement and
// later.
func TestReadOnlyBypassNeverWrites(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsSuperuser(t, `CREATE PROCEDURE wipe() LANGUAGE plpgsql AS $$ BEGIN COMMIT; SET ROLE "`+d.Admin.Role+`"; DELETE FROM notes; COMMIT; END $$;
		CREATE FUNCTION wiped() RETURNS void LANGUAGE sql AS 'DELETE FROM notes'`)
	admin := open(t, config(t, d.Admin, pgx.QueryExecModeExec))
	eachWay(t, func(t *testing.T, way way) {
		p := d.bypass(t, way, nil)
		ctx := bypassing(guard.Bypass{Reason: "look", ReadOnly: true})
		kept := func(sent ...string) {
			t.Helper()
			all, err := texts(admin.Query(`SELECT body FROM notes ORDER BY body`))
			require.NoError(t, err)
			require.Equal(t, everything, all, sent)
		}
		for _, escape := range escapes {
			escape = strings.ReplaceAll(escape, "ROLE\"", d.Admin.Role+`"`)
			for _, query := range []bool{false, true} {
				for name, through := range throughs(ctx, t, p) {
					q, end := through()
					var err error
					if query {
						_, err = texts(way.query(ctx, t, q, escape))
					} else {
						_, err = way.exec(ctx, t, q, escape)
					}
					require.Error(t, err, "%s: %s", name, escape)
					end()
				}
			}
			kept(escape)
		}
		for _, steps := range readOnlySteps {
			for _, through := range throughs(ctx, t, p) {
				q, end := through()
				for _, step := range steps {
					_, err := way.exec(ctx, t, q, step)
					if step == `DELETE FROM notes` || step == `SET TRANSACTION READ WRITE` {
						require.Error(t, err, steps)
					}
				}
				end()
			}
			kept(steps...)
		}
		require.Equal(t, everything, p.notes(ctx, t), "it still reads")
		_, err := way.exec(bypassing(guard.Bypass{Reason: "write"}), t, p, `UPDATE notes SET body = body`)
		require.NoError(t, err, "nothing of it stays")
	})
}

// TestReadOnlyBypassRefusesReadWriteFirst: PostgreSQL's own reasons.
func TestReadOnlyBypassRefusesReadWriteFirst(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		p := d.bypass(t, way, nil)
		ctx := bypassing(guard.Bypass{Reason: "look", ReadOnly: true})
		for _, through := range throughs(ctx, t, p) {
			for text, state := range map[string]string{
				`SET TRANSACTION READ WRITE`: "25001", `BEGIN READ WRITE`: "25001", `COMMIT; DELETE FROM notes`: "42601", `DELETE FROM notes`: "25006",
			} {
				q, end := through()
				_, err := way.exec(ctx, t, q, text)
				require.Equal(t, state, code(err), text)
				end()
			}
		}
		before := p.sent.Load()
		_, err := way.exec(ctx, t, p, `CALL wipe()`)
		require.ErrorContains(t, err, "cannot run CALL or DO")
		require.Equal(t, before, p.sent.Load())
	})
}

// throughs are the ways to the server: by the pool, by a connection that is held, and in a transaction. What they return ends
// the use.
func throughs(ctx context.Context, t *testing.T, p *pool) map[string]func() (queryer, func()) {
	t.Helper()
	return map[string]func() (queryer, func()){
		"pool": func() (queryer, func()) { return p, func() {} },
		"connection": func() (queryer, func()) {
			c, err := p.Conn(ctx)
			require.NoError(t, err)
			return c, func() { require.NoError(t, c.Close()) }
		},
		"transaction": func() (queryer, func()) {
			tx := begin(ctx, t, p, nil)
			return tx, func() { _ = tx.Commit() }
		},
		"transaction, later": func() (queryer, func()) {
			tx := begin(ctx, t, p, nil)
			_, err := tx.ExecContext(ctx, `SELECT 1`)
			require.NoError(t, err)
			return tx, func() { _ = tx.Commit() }
		},
	}
}
