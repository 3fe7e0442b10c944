package guard_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// procedures are some that write, and commit in between.
const procedures = `
	CREATE TABLE log (id int GENERATED ALWAYS AS IDENTITY, who text, line text);
	GRANT ALL ON log TO PUBLIC;
	CREATE PROCEDURE purge(n int) LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO log (who, line) SELECT current_user || '|' || current_setting('app.tenant_id', true), string_agg(body, ',' ORDER BY body) FROM notes;
		COMMIT;
		INSERT INTO log (who, line) SELECT current_user || '|' || current_setting('app.tenant_id', true), string_agg(body, ',' ORDER BY body) FROM notes;
	END $$;
	CREATE PROCEDURE fails(state text) LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO log (line) VALUES (state);
		COMMIT;
		RAISE EXCEPTION 'prepared statement "tenancy_x" does not exist' USING ERRCODE = state;
	END $$`

func (d *database) logged(t *testing.T) []string {
	t.Helper()
	lines, err := texts(d.owner.Query(`WITH all_lines AS (DELETE FROM log RETURNING *)
		SELECT concat_ws('|', who, line) FROM all_lines ORDER BY id`))
	require.NoError(t, err)
	return lines
}

// procedureCalls commit before their end.
var procedureCalls = []string{
	`CALL purge(1)`, `/* CALL */ call purge(1)`, `-- x` + "\n" + `CALL purge(1);`,
	`DO $$ BEGIN CALL purge(1); END $$`, `DO $$ BEGIN INSERT INTO log (line) VALUES ('before'); COMMIT; INSERT INTO log (line) VALUES ('after'); END $$`,
}

// TestProcedureThatCommits: it runs to its end with its tenant, or not at all; and runs where it works for no tenant.
func TestProcedureThatCommits(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, procedures)
	eachWay(t, func(t *testing.T, way way) {
		p := d.app(t, way)
		for _, call := range procedureCalls {
			for _, through := range []string{"pool", "GORM", "transaction", "connection"} {
				d.requireProcedureRefused(t, p, through, call)
			}
		}
		if !way.prepared {
			_, err := p.ExecContext(tenant(t, "a"), `CALL purge($1)`, 1)
			require.ErrorContains(t, err, "2D000")
			require.Empty(t, d.logged(t))
		}
		p.requireFree(t)
		d.requireProcedureRuns(t, p)

		// On a pool that sets a role, a commit would end it.
		asAdmin := guarded(t, way, config(t, d.App, way.mode), guard.Config{Role: d.Admin.Role})
		_, err := way.exec(guard.WithoutTenant(t.Context()), t, asAdmin, `CALL purge(1)`)
		require.ErrorContains(t, err, "2D000")
		require.Empty(t, d.logged(t))
	})
}

// requireProcedureRefused makes a call for a tenant, and requires that nothing of it is done.
func (d *database) requireProcedureRefused(t *testing.T, p *pool, through, call string) {
	t.Helper()
	ctx := tenant(t, "a")
	var q queryer = p
	switch through {
	case "GORM":
		ctx = origin(ctx, call, false)
	case "transaction":
		tx := begin(ctx, t, p, nil)
		q = tx
	case "connection":
		c, err := p.Conn(ctx)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		q = c
	}
	_, err := p.exec(ctx, t, q, call)
	require.ErrorContains(t, err, "2D000", "%s: %s", through, call)
	require.ErrorContains(t, err, "WithoutTenant", "what to do")
	require.Empty(t, d.logged(t), "%s: %s", through, call)
	switch q := q.(type) {
	case *sql.Tx:
		require.NoError(t, q.Rollback())
	case *sql.Conn:
		require.NoError(t, q.Close())
	}
}

// requireProcedureRuns makes calls for no tenant, the last of them where a session is left with a tenant and a role.
func (d *database) requireProcedureRuns(t *testing.T, p *pool) {
	t.Helper()
	_, err := p.exec(guard.WithoutTenant(t.Context()), t, p, `CALL purge(1)`)
	require.NoError(t, err)
	require.Equal(t, []string{d.App.Role + "|", d.App.Role + "|"}, d.logged(t), "for no tenant it sees nothing, before and after")
	if !p.prepared {
		_, err = p.ExecContext(guard.WithoutTenant(t.Context()), `CALL purge($1)`, 1)
		require.NoError(t, err)
		require.Len(t, d.logged(t), 2)
	}
	for _, block := range procedureCalls[3:] {
		_, err = p.exec(guard.WithoutTenant(t.Context()), t, p, block)
		require.ErrorContains(t, err, "2D000", block)
		require.Empty(t, d.logged(t))
	}
	_, err = p.ExecContext(tenant(t, "a"), `SET app.tenant_id = 'a'; SET ROLE `+d.Admin.Role)
	require.NoError(t, err)
	_, err = p.ExecContext(guard.WithoutTenant(t.Context()), `CALL purge(1)`)
	require.NoError(t, err)
	require.Equal(t, []string{d.App.Role + "|", d.App.Role + "|"}, d.logged(t))
}

// TestRetryOnServersWordOnly: what failed with an error that SQL has raised is not sent again.
func TestRetryOnServersWordOnly(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, procedures)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		for _, state := range []string{"0A000", "26000", "08P01", "25001", "42704"} {
			_, err := p.exec(guard.WithoutTenant(t.Context()), t, p, `CALL fails($1)`, state)
			require.ErrorContains(t, err, state)
			require.Equal(t, []string{state}, d.logged(t), "once")

			_, err = p.ExecContext(guard.WithoutTenant(t.Context()), `INSERT INTO log (line) VALUES ('x'); COMMIT; EXECUTE nowhere`)
			require.ErrorContains(t, err, "26000")
			require.Len(t, d.logged(t), 1)
		}
		// The guard's own marks count only where the guard has asked for them.
		for _, mark := range []string{"session_is_not_clean", "transaction_was_ended", "table_is_not_isolated", "statements_were_prepared_by_sql"} {
			_, err := p.ExecContext(guard.WithoutTenant(t.Context()), `INSERT INTO log (line) VALUES ('x'); COMMIT; SELECT current_setting('tenancy.`+mark+`')`)
			require.ErrorContains(t, err, "42704")
			require.Len(t, d.logged(t), 1, mark)
		}
		// A statement that cannot run in a transaction is sent alone only if nothing went before it.
		_, err := p.ExecContext(guard.WithoutTenant(t.Context()), `INSERT INTO log (line) VALUES ('x'); COMMIT; VACUUM log`)
		require.ErrorContains(t, err, "25001")
		require.Len(t, d.logged(t), 1)
		_, err = p.ExecContext(guard.WithoutTenant(t.Context()), `DO $$ BEGIN INSERT INTO log (line) VALUES ('x'); EXECUTE 'VACUUM log'; END $$`)
		require.ErrorContains(t, err, "25001")
		require.Empty(t, d.logged(t))
	})
}

// TestTransactionKeepsRole: a role that a transaction took to have less rights is not exchanged for one that has more; and none
// that policies do not bind stays.
func TestTransactionKeepsRole(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	reports, auditor := d.App.Role+"_reports", d.App.Role+"_auditor"
	d.AsSuperuser(t, `CREATE ROLE `+reports+` NOLOGIN; CREATE ROLE `+auditor+` NOLOGIN; GRANT `+reports+`, `+auditor+` TO `+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, `DROP OWNED BY `+reports+`, `+auditor+`; DROP ROLE `+reports+`, `+auditor) })
	d.AsOwner(t, `GRANT SELECT ON notes TO `+reports+`, `+auditor+`; CREATE POLICY all_rows ON notes TO `+auditor+` USING (true)`)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		for _, take := range []string{`SET LOCAL ROLE `, `SET ROLE `} {
			ctx := tenant(t, "a")
			tx := begin(ctx, t, p, nil)
			_, err := p.exec(ctx, t, tx, take+reports)
			require.NoError(t, err)
			require.Equal(t, []string{"a1", "a2"}, p.notesOf(ctx, t, tx))
			require.Equal(t, "a|"+reports, p.one(ctx, t, tx, currentSQL))
			built := `UPDATE "notes" SET "body" = 'x'`
			_, err = p.exec(origin(ctx, built, true), t, tx, built)
			require.ErrorContains(t, err, "42501")
			require.NoError(t, tx.Rollback())

			tx = begin(ctx, t, p, nil)
			_, err = p.exec(ctx, t, tx, take+auditor)
			require.NoError(t, err)
			require.Equal(t, []string{"a1", "a2"}, p.notesOf(ctx, t, tx))
			require.Equal(t, "a|"+d.App.Role, p.one(ctx, t, tx, currentSQL))
			require.NoError(t, tx.Rollback())

			tx = begin(ctx, t, p, nil)
			_, err = p.exec(ctx, t, tx, take+reports)
			require.NoError(t, err)
			_, err = p.exec(ctx, t, tx, `RESET ROLE`)
			require.NoError(t, err)
			require.Equal(t, "a|"+d.App.Role, p.one(ctx, t, tx, currentSQL), "its own again")
			require.NoError(t, tx.Commit())
		}
	})
}

// TestTransactionBeginsWithoutSnapshot: SET TRANSACTION and LOCK TABLE can be the first statements of a transaction, prepared
// or not, and the snapshot is taken after the lock.
func TestTransactionBeginsWithoutSnapshot(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachWay(t, func(t *testing.T, way way) {
		p, other := d.app(t, way), d.app(t, way)
		ctx := tenant(t, "a")
		for _, first := range []string{
			`SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`, `SET LOCAL lock_timeout = '1s'`, `SHOW lock_timeout`, `LOCK TABLE shared`,
		} {
			tx := begin(ctx, t, p, nil)
			_, err := way.exec(ctx, t, tx, first)
			require.NoError(t, err)
			_, err = way.exec(ctx, t, tx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`)
			require.NoError(t, err)
			require.Equal(t, "repeatable read", way.one(ctx, t, tx, `SHOW transaction_isolation`))
			require.Equal(t, []string{"a1", "a2"}, way.notesOf(ctx, t, tx))
			require.NoError(t, tx.Commit())
		}

		_, err := p.ExecContext(ctx, `DELETE FROM shared`)
		require.NoError(t, err)
		tx := begin(ctx, t, p, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		_, err = way.exec(ctx, t, tx, `LOCK TABLE parents IN EXCLUSIVE MODE`)
		require.NoError(t, err)
		_, err = other.ExecContext(ctx, `INSERT INTO shared VALUES (1, 'after the lock')`)
		require.NoError(t, err)
		require.Equal(t, "1", way.one(ctx, t, tx, `SELECT count(*)::text FROM shared`), "the snapshot is younger than the lock")
		require.NoError(t, tx.Commit())
	})
}

// TestTransactionChain: a transaction that SQL has ended and begun again is not taken for the one that was begun.
func TestTransactionChain(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		for _, end := range []string{
			`COMMIT AND CHAIN`, `ROLLBACK AND CHAIN`, `COMMIT; BEGIN`, `ROLLBACK; BEGIN`, `END AND CHAIN`, `ABORT AND CHAIN`,
		} {
			if p.prepared && strings.Contains(end, ";") {
				continue
			}
			for _, next := range []string{"query", "commit"} {
				tx := begin(ctx, t, p, nil)
				_, err := p.exec(ctx, t, tx, `UPDATE notes SET body = body`)
				require.NoError(t, err)
				_, err = p.exec(ctx, t, tx, end)
				require.NoError(t, err)
				if next == "query" {
					_, err = texts(p.query(ctx, t, tx, `SELECT body FROM notes`))
					require.ErrorContains(t, err, "already ended", end)
				}
				require.ErrorIs(t, tx.Commit(), sql.ErrTxDone, end)
				p.requireFree(t)
			}
		}
		// A ROLLBACK TO SAVEPOINT has the same command tag, and ends nothing. RESET ALL hides nothing.
		tx := begin(ctx, t, p, nil)
		for _, sql := range []string{`SAVEPOINT a`, `RESET ALL`, `ROLLBACK TO SAVEPOINT a`, `SAVEPOINT b`, `ROLLBACK TO SAVEPOINT b`} {
			_, err := p.exec(ctx, t, tx, sql)
			require.NoError(t, err)
			require.Equal(t, []string{"a1", "a2"}, p.notesOf(ctx, t, tx), sql)
		}
		require.NoError(t, tx.Commit())
	})
}

// TestTransactionDeferredTrigger: a trigger that runs when the transaction commits runs for its tenant, whatever SQL has set
// last.
func TestTransactionDeferredTrigger(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, procedures+`;
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO log (who, line) SELECT current_user || '|' || current_setting('app.tenant_id', true), string_agg(body, ',' ORDER BY body) FROM notes;
			RETURN NULL;
		END $$;
		CREATE CONSTRAINT TRIGGER note AFTER INSERT ON shared DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()`)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		ctx := tenant(t, "a")
		for _, last := range []string{
			`SET LOCAL app.tenant_id = 'b'`, `SET LOCAL ROLE ` + d.Admin.Role, `SET app.tenant_id = 'b'`, `RESET ALL`,
			`SELECT set_config('app.tenant_id', 'b', true)`,
		} {
			tx := begin(ctx, t, p, nil)
			_, err := p.exec(ctx, t, tx, `INSERT INTO shared VALUES (1)`)
			require.NoError(t, err)
			_, err = p.exec(ctx, t, tx, last)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			require.Equal(t, []string{d.App.Role + "|a|a1,a2"}, d.logged(t), last)
		}
	})
}
