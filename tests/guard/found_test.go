package guard_test

import (
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// What the random walk of tests/model has found.

// TestSessionHeldInTransactionOfSQL: a transaction that SQL has begun on a connection that is held is its tenant's. Another
// tenant's statements are refused there, so that a ROLLBACK brings back nothing for them.
func TestSessionHeldInTransactionOfSQL(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		c, err := p.Conn(tenant(t, "a"))
		require.NoError(t, err)
		defer c.Close()
		for _, sql := range []string{`CREATE TEMP TABLE notes AS SELECT * FROM public.notes`, `BEGIN`} {
			_, err = p.exec(tenant(t, "a"), t, c, sql)
			require.NoError(t, err)
		}
		_, err = p.exec(tenant(t, "b"), t, c, `ROLLBACK`)
		require.ErrorIs(t, err, guard.ErrTenantMismatch)
		_, err = texts(p.query(tenant(t, "b"), t, c, `SELECT body FROM notes`))
		require.ErrorIs(t, err, guard.ErrTenantMismatch)
		_, err = p.exec(tenant(t, "a"), t, c, `ROLLBACK`)
		require.NoError(t, err)
		require.Equal(t, []string{"b1"}, p.notesOf(tenant(t, "b"), t, c))
	})
}

// TestSessionEncodingOfAnother: a client_encoding that another user of the connection has left refuses no statement: it is
// cleaned first.
func TestSessionEncodingOfAnother(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		c, err := p.Conn(tenant(t, "a"))
		require.NoError(t, err)
		require.Equal(t, "a", p.one(tenant(t, "a"), t, c, `SELECT current_setting('app.tenant_id')`))
		_, err = c.ExecContext(tenant(t, "a"), `SET client_encoding = LATIN1`)
		require.NoError(t, err)
		require.Equal(t, "ünïted", p.one(tenant(t, "ünïted"), t, c, `SELECT current_setting('app.tenant_id')`))
		require.NoError(t, c.Close())
		if p.inner != nil {
			_, err = p.inner.Exec(`SET client_encoding = LATIN1`)
			require.NoError(t, err)
			require.Equal(t, "ünïted", p.one(tenant(t, "ünïted"), t, p, `SELECT current_setting('app.tenant_id')`))
		}
	})
}

// TestTransactionCommitsInItsEncoding: a deferred trigger does not run for the tenant whose id the bytes of this one's are in
// another encoding.
func TestTransactionCommitsInItsEncoding(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, procedures+`;
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO log (line) VALUES (current_setting('app.tenant_id', true));
			RETURN NULL;
		END $$;
		CREATE CONSTRAINT TRIGGER note AFTER INSERT ON shared DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()`)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		tx := begin(tenant(t, "ü"), t, p, nil)
		for _, sql := range []string{`INSERT INTO shared VALUES (1)`, `SET LOCAL client_encoding = LATIN1`} {
			_, err := p.exec(tenant(t, "ü"), t, tx, sql)
			require.NoError(t, err)
		}
		err := tx.Commit()
		require.Empty(t, d.logged(t), "for the tenant Ã¼")
		require.ErrorContains(t, err, "client_encoding")
		p.requireFree(t)
	})
}

// TestSessionHeldLocksGo: the locks of a holder, who has gone on for another tenant, do not stay with the connection when the
// last that the holder did leaves nothing.
func TestSessionHeldLocksGo(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		c, err := p.Conn(tenant(t, "a"))
		require.NoError(t, err)
		_, err = c.ExecContext(tenant(t, "a"), `SELECT pg_advisory_lock(7)`)
		require.NoError(t, err)
		require.Equal(t, []string{"b1"}, p.notesOf(tenant(t, "b"), t, c))
		require.NoError(t, c.Close())
		require.Equal(t, "0", p.one(tenant(t, "b"), t, p, advisoryLocks))
	})
}

// TestSessionSequencesOfTheLastButOne: lastval does not return what a tenant has inserted before another one has read.
func TestSessionSequencesOfTheLastButOne(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `GRANT USAGE ON SEQUENCE notes_id_seq TO `+d.App.Role)
	d.eachApp(t, func(t *testing.T, p *pool) {
		_, err := p.ExecContext(tenant(t, "a"), `INSERT INTO "notes" ("body") VALUES ($1)`, p.String())
		require.NoError(t, err)
		require.Equal(t, []string{"b1"}, p.notesOf(tenant(t, "b"), t, p))
		_, err = texts(p.QueryContext(tenant(t, "b"), `SELECT lastval()`))
		require.ErrorContains(t, err, "55000")
	})
}

// TestSessionSequencesOfAnotherTable: currval does not return what another tenant has inserted, also after an insert of one's
// own into another table.
func TestSessionSequencesOfAnotherTable(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `GRANT USAGE ON SEQUENCE notes_id_seq TO `+d.App.Role)
	d.eachApp(t, func(t *testing.T, p *pool) {
		_, err := p.ExecContext(tenant(t, "a"), `INSERT INTO "notes" ("body") VALUES ($1)`, p.String())
		require.NoError(t, err)
		tx := begin(tenant(t, "b"), t, p, nil)
		_, err = tx.ExecContext(tenant(t, "b"), `INSERT INTO "shared" ("id") VALUES ($1)`, 1)
		require.NoError(t, err)
		_, err = texts(tx.QueryContext(tenant(t, "b"), `SELECT currval('notes_id_seq')`))
		require.ErrorContains(t, err, "55000")
		require.NoError(t, tx.Rollback())
	})
}

// TestTransactionChainAfterError: a transaction that SQL has ended after an error, and begun again, is not taken for the one
// that was begun.
func TestTransactionChainAfterError(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		tx := begin(tenant(t, "a"), t, p, nil)
		_, err := tx.ExecContext(tenant(t, "a"), `INSERT INTO "notes" ("body") VALUES ($1)`, "a1")
		require.ErrorContains(t, err, "23505")
		_, err = tx.ExecContext(tenant(t, "a"), `ROLLBACK AND CHAIN`)
		require.NoError(t, err)
		require.Error(t, tx.Commit())
	})
}

// TestSessionSequencesOfAFailure: lastval does not return the number that another tenant's insert drew before it failed.
func TestSessionSequencesOfAFailure(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `GRANT USAGE ON SEQUENCE notes_id_seq TO `+d.App.Role)
	d.eachApp(t, func(t *testing.T, p *pool) {
		_, err := p.ExecContext(tenant(t, "a"), `INSERT INTO "notes" ("body") VALUES ($1)`, "a1")
		require.ErrorContains(t, err, "23505")
		_, err = texts(p.QueryContext(tenant(t, "b"), `SELECT lastval()`))
		require.ErrorContains(t, err, "55000")
	})
}

// TestSessionRowSecurityOfTrigger: row_security, which a trigger has switched off, refuses the next tenant nothing.
func TestSessionRowSecurityOfTrigger(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	switchesRowSecurityOff(t, d)
	d.eachApp(t, func(t *testing.T, p *pool) {
		insert := `INSERT INTO "shared" ("id") VALUES (1)`
		_, err := p.ExecContext(origin(tenant(t, "b"), insert, true), insert)
		require.NoError(t, err)
		require.Equal(t, []string{"a1", "a2"}, p.notesOf(tenant(t, "a"), t, p))
		require.Equal(t, []string{"a1", "a2"}, p.notesOf(tenant(t, "a"), t, p), "in a session that is known to be clean")
		_, err = p.ExecContext(origin(tenant(t, "b"), insert, true), insert)
		require.NoError(t, err)
		require.Equal(t, []string{"b1"}, p.notesOf(tenant(t, "b"), t, p))

		_, err = p.ExecContext(origin(tenant(t, "b"), insert, true), insert)
		require.NoError(t, err)
		tx := begin(tenant(t, "a"), t, p, nil)
		require.Equal(t, []string{"a1", "a2"}, p.notesOf(tenant(t, "a"), t, tx), "in a transaction")
		require.NoError(t, tx.Commit())
	})
}

// switchesRowSecurityOff makes inserts into the shared table switch row_security off, which the guard cannot see in their text.
func switchesRowSecurityOff(t *testing.T, d *database) {
	d.AsOwner(t, `CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM set_config('row_security', 'off', false);
			RETURN NULL;
		END $$;
		CREATE TRIGGER leave AFTER INSERT ON shared EXECUTE FUNCTION leave()`)
}

// TestSessionRowSecurityInFunction: a function that PostgreSQL refuses because a trigger has switched row_security off may have done
// something before, so that its statement is not sent again. The session is cleaned.
func TestSessionRowSecurityInFunction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	switchesRowSecurityOff(t, d)
	d.AsOwner(t, `CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT count(*) FROM notes); END $$`,
		`CREATE VIEW counts AS SELECT counted() AS n`, `GRANT SELECT ON counts TO PUBLIC`)
	d.eachApp(t, func(t *testing.T, p *pool) {
		count := `SELECT "n"::text FROM "counts"`
		_, err := texts(p.QueryContext(tenant(t, "a"), count))
		require.NoError(t, err)
		insert := `INSERT INTO "shared" ("id") VALUES (1)`
		_, err = p.ExecContext(origin(tenant(t, "b"), insert, true), insert)
		require.NoError(t, err)
		_, err = texts(p.QueryContext(tenant(t, "a"), count))
		require.ErrorContains(t, err, "42501")
		n, err := texts(p.QueryContext(tenant(t, "a"), count))
		require.NoError(t, err)
		require.Equal(t, []string{"2"}, n)
	})
}

// TestSessionRowSecurityOfSeveralStatements: SQL text that may have committed before PostgreSQL refused its second statement is not sent again.
func TestSessionRowSecurityOfSeveralStatements(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	switchesRowSecurityOff(t, d)
	d.AsOwner(t, `CREATE TABLE once (id bigint)`, `GRANT SELECT, INSERT ON once TO PUBLIC`)
	d.eachApp(t, func(t *testing.T, p *pool) {
		before, err := texts(p.QueryContext(tenant(t, "a"), `SELECT "id"::text FROM "once"`))
		require.NoError(t, err)
		insert := `INSERT INTO "shared" ("id") VALUES (1)`
		_, err = p.ExecContext(origin(tenant(t, "b"), insert, true), insert)
		require.NoError(t, err)
		_, err = p.ExecContext(tenant(t, "a"), `INSERT INTO once VALUES (1); COMMIT; SELECT count(*) FROM notes`)
		require.Error(t, err)
		after, err := texts(p.QueryContext(tenant(t, "a"), `SELECT "id"::text FROM "once"`))
		require.NoError(t, err)
		require.LessOrEqual(t, len(after), len(before)+1)
	})
}

// TestSessionRoleEndsWithItsUse: who gets the connection next, also without the guard, has the login's own role.
func TestSessionRoleEndsWithItsUse(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		if p.inner == nil {
			return // there is none without
		}
		_, err := p.ExecContext(tenant(t, "a"), `SET ROLE `+d.Admin.Role)
		require.NoError(t, err)
		var role string
		require.NoError(t, p.inner.QueryRow(`SHOW role`).Scan(&role))
		require.Equal(t, "none", role)
	})
}

// TestTransactionOnLostConnection: a transaction whose first statement could not be sent is not committed.
func TestTransactionOnLostConnection(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		if p.inner == nil {
			return // its connections are not to be reached
		}
		require.Equal(t, []string{"a1", "a2"}, p.notesOf(tenant(t, "a"), t, p))
		c, err := p.inner.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, c.Raw(func(dc any) error { return dc.(*stdlib.Conn).Conn().PgConn().Conn().Close() }))
		require.NoError(t, c.Close())
		tx := begin(tenant(t, "a"), t, p, nil)
		_, err = tx.ExecContext(tenant(t, "a"), `INSERT INTO "notes" ("body") VALUES ($1)`, p.String())
		require.Error(t, err)
		require.Error(t, tx.Commit())
		require.Equal(t, []string{"a1", "a2"}, p.notesOf(tenant(t, "a"), t, p))
	})
}

// TestRetryOnlyOfServersOwnErrors: a statement that has run is not sent again for an error that only looks like one of those after
// which it has not.
func TestRetryOnlyOfServersOwnErrors(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `CREATE SEQUENCE runs; GRANT USAGE, SELECT ON SEQUENCE runs TO `+d.App.Role+`;
		CREATE TABLE changing (id int); GRANT SELECT ON changing TO `+d.App.Role+`;
		CREATE FUNCTION stale() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
			PERFORM nextval('runs');
			EXECUTE 'EXECUTE no_such_statement';
			RETURN 1;
		END $$`)
	runs := func(p *pool, way way) string {
		return way.one(tenant(t, "a"), t, p, `SELECT last_value::text || is_called FROM runs`)
	}
	eachPool(t, func(t *testing.T, way way) {
		p := d.app(t, way)
		reset := func() { d.AsOwner(t, `ALTER SEQUENCE runs RESTART`) }
		reset()
		ctx := tenant(t, "a")
		// PostgreSQL's own 0A000, of another of its functions, at run time, as the first of a transaction.
		tx := begin(ctx, t, p, nil)
		_, err := texts(way.query(ctx, t, tx, `SELECT date_part(CASE WHEN nextval('runs') > 0 THEN $1 END, interval '1 day')::text`, "julian"))
		require.ErrorContains(t, err, "0A000")
		require.NoError(t, tx.Rollback())
		require.Equal(t, "1true", runs(p, way))

		reset()
		_, err = texts(way.query(ctx, t, p, `SELECT stale()::text`))
		require.ErrorContains(t, err, "26000")
		require.Equal(t, "1true", runs(p, way))

		// A DO block that would go on if it was sent again, by itself.
		reset()
		_, err = p.ExecContext(guard.WithoutTenant(t.Context()), `DO $$ BEGIN
			IF nextval('runs') = 1 THEN EXECUTE 'VACUUM shared'; END IF;
			INSERT INTO shared (id) VALUES (99);
		END $$`)
		require.ErrorContains(t, err, "25001")
		require.Equal(t, "1true", runs(p, way))
		require.Equal(t, "0", way.one(ctx, t, p, `SELECT count(*)::text FROM shared WHERE id = 99`))
	})
}
