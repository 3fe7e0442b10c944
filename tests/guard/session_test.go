package guard_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// kept is something that a session keeps beyond a transaction.
type kept struct {
	name  string
	leave string // SQL that leaves it
	look  string // SQL that returns what is found of it
	clean string // what that returns in a session that was not used
}

var allKept = []kept{
	{"temporary table", `CREATE TEMP TABLE IF NOT EXISTS report AS SELECT body FROM notes`, temporaryObjects, "0"},
	{"temporary table of a table's name", `CREATE TEMP TABLE notes AS SELECT * FROM notes`, `SELECT string_agg(body, ',') FROM notes`, "b1"},
	{"temporary view", `CREATE TEMP VIEW notes AS SELECT 'forged' AS body`, `SELECT string_agg(body, ',') FROM notes`, "b1"},
	{
		"temporary function", `CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
		`SELECT count(*)::text FROM pg_proc WHERE pronamespace = pg_my_temp_schema()`, "0",
	},
	{
		"temporary type", `CREATE TYPE pg_temp.colour AS ENUM ('red')`,
		`SELECT count(*)::text FROM pg_type WHERE typnamespace = pg_my_temp_schema()`, "0",
	},
	{
		"temporary operator", `CREATE FUNCTION pg_temp.eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
			CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.eq, LEFTARG = text, RIGHTARG = text)`,
		`SELECT count(*)::text FROM pg_operator WHERE oprnamespace = pg_my_temp_schema()`, "0",
	},
	{"cursor", `DECLARE c CURSOR WITH HOLD FOR SELECT * FROM notes`, `SELECT count(*)::text FROM pg_cursors WHERE is_holdable`, "0"},
	{"prepared statement", `PREPARE p AS SELECT * FROM notes`, preparedBySQL, "0"},
	{"setting of the tenant", `SET app.tenant_id = 'a'`, `SELECT count(*)::text FROM notes WHERE tenant_id <> 'b'`, "0"},
	{"setting of the application's", `SET my.secret = 'a'`, `SELECT coalesce(current_setting('my.secret', true), '')`, ""},
	{"row_security", `SET row_security = off`, `SHOW row_security`, "on"},
	{"search_path", `SET search_path = pg_catalog`, `SHOW search_path`, `"$user", public`},
	{"default_transaction_read_only", `SET default_transaction_read_only = on`, `SHOW default_transaction_read_only`, "off"},
	{
		"default_transaction_isolation", `SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE`,
		`SHOW default_transaction_isolation`, "read committed",
	},
	{"client_encoding", `SET client_encoding = LATIN1`, `SHOW client_encoding`, "UTF8"},
	{"DateStyle", `SET DateStyle = German`, `SHOW DateStyle`, "ISO, MDY"},
	{"standard_conforming_strings", `SET standard_conforming_strings = off`, `SHOW standard_conforming_strings`, "on"},
	{"statement_timeout", `SET statement_timeout = '1h'`, `SHOW statement_timeout`, "0"},
	{"setting by a function", `SELECT set_config('work_mem', '64kB', false)`, `SHOW work_mem`, "4MB"},
	{"setting by a view", `UPDATE pg_settings SET setting = '65' WHERE name = 'work_mem'`, `SHOW work_mem`, "4MB"},
	{"setting by a quoted view", `UPDATE pg_catalog."pg_settings" SET setting = '66' WHERE name = 'work_mem'`, `SHOW work_mem`, "4MB"},
	{"role", `SET ROLE {admin}`, `SHOW role`, "none"},
	{"channel", `LISTEN news`, `SELECT count(*)::text FROM pg_listening_channels()`, "0"},
	{"lock", `SELECT pg_advisory_lock(42)`, advisoryLocks, "0"},
	{"shared lock", `SELECT pg_advisory_lock_shared(4, 2)`, advisoryLocks, "0"},
}

const (
	temporaryObjects = `SELECT count(*)::text FROM pg_class WHERE relnamespace = pg_my_temp_schema()`
	preparedBySQL    = `SELECT count(*)::text FROM pg_prepared_statements WHERE from_sql`
	advisoryLocks    = `SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`
)

// leaving are the ways in which SQL of a caller reaches a session.
var leaving = []struct {
	name string
	run  func(ctx context.Context, p *pool, sql string) error
}{
	{"by itself", func(ctx context.Context, p *pool, sql string) error {
		_, err := p.ExecContext(ctx, sql)
		return err
	}},
	{"through GORM", func(ctx context.Context, p *pool, sql string) error {
		_, err := p.ExecContext(origin(ctx, sql, false), sql)
		return err
	}},
	{"with an argument", func(ctx context.Context, p *pool, sql string) error {
		if !strings.HasPrefix(sql, "SELECT") {
			return errNotThisWay
		}
		sql += " WHERE 1 = $1"
		_, err := p.ExecContext(origin(ctx, sql, false), sql, 1)
		return err
	}},
	{"prepared", func(ctx context.Context, p *pool, sql string) error {
		if strings.Contains(sql, ";") {
			return errNotThisWay
		}
		stmt, err := p.PrepareContext(ctx, sql)
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(origin(ctx, sql, false))
		return err
	}},
	{"read", func(ctx context.Context, p *pool, sql string) error {
		if strings.Contains(sql, ";") {
			return errNotThisWay
		}
		rows, err := p.QueryContext(origin(ctx, sql, false), sql)
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		return rows.Close()
	}},
	{"built by GORM", func(ctx context.Context, p *pool, sql string) error {
		if !strings.HasPrefix(sql, "SELECT") {
			return errNotThisWay
		}
		_, err := p.ExecContext(origin(ctx, sql, true), sql)
		return err
	}},
	{"in a transaction", func(ctx context.Context, p *pool, sql string) error {
		tx, err := p.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, sql); err != nil {
			return err
		}
		return tx.Commit()
	}},
	{"before a failure", func(ctx context.Context, p *pool, sql string) error {
		_, err := p.ExecContext(origin(ctx, sql+`; COMMIT; SELECT 1/0`, false), sql+`; COMMIT; SELECT 1/0`)
		if err == nil || !strings.Contains(err.Error(), "22012") {
			return errors.Join(errors.New("it did not fail"), err)
		}
		return nil
	}},
	{"on a connection that is held", func(ctx context.Context, p *pool, sql string) error {
		c, err := p.Conn(ctx)
		if err != nil {
			return err
		}
		if _, err := c.ExecContext(ctx, sql); err != nil {
			return err
		}
		return c.Close()
	}},
}

var errNotThisWay = errors.New("not to be sent in this way")

// origin is the context of a statement that passes GORM's callbacks.
func origin(ctx context.Context, sql string, built bool) context.Context {
	text := &strings.Builder{}
	text.WriteString(sql)
	return &guard.Origin{Context: ctx, SQL: text}
}

// TestSessionKeepsNothing: whatever SQL of one tenant leaves in the session is not there for the next, nor for who uses the
// pool without the guard.
func TestSessionKeepsNothing(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	replace := strings.NewReplacer("{admin}", d.Admin.Role, "{app}", d.App.Role)
	eachPool(t, func(t *testing.T, way way) {
		for _, k := range allKept {
			for _, leave := range leaving {
				t.Run(k.name+"/"+leave.name, func(t *testing.T) {
					p := d.app(t, way)
					err := leave.run(tenant(t, "a"), p, replace.Replace(k.leave))
					if errors.Is(err, errNotThisWay) {
						return
					}
					require.NoError(t, err)
					got, err := texts(p.QueryContext(tenant(t, "b"), k.look))
					require.NoError(t, err)
					require.Equal(t, []string{k.clean}, got)
					if p.inner == nil || strings.Contains(k.look, "string_agg") {
						return
					}
					require.NoError(t, leave.run(tenant(t, "a"), p, replace.Replace(k.leave)))
					got, err = texts(p.inner.QueryContext(t.Context(), k.look))
					require.NoError(t, err)
					require.Equal(t, []string{k.clean}, got, "without the guard")
				})
			}
		}
	})
}

// TestSessionForgetsSequences: no tenant learns the number that another one's row has got.
func TestSessionForgetsSequences(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `GRANT USAGE ON SEQUENCE notes_id_seq TO `+d.App.Role)
	d.eachApp(t, func(t *testing.T, p *pool) {
		insert := `INSERT INTO "notes" ("body") VALUES ($1)`
		n := 0
		create := func(q queryer, id string) {
			n++
			_, err := q.ExecContext(origin(tenant(t, id), insert, true), insert, p.String()+string(rune('A'+n)))
			require.NoError(t, err)
		}
		for _, look := range []string{`SELECT lastval()`, `SELECT currval('notes_id_seq')`} {
			for range 3 {
				create(p, "a")
				_, err := texts(p.QueryContext(tenant(t, "b"), look))
				require.ErrorContains(t, err, "55000", "not defined in this session")

				create(p, "a")
				tx, err := p.BeginTx(tenant(t, "b"), nil)
				require.NoError(t, err)
				built := `SELECT "body" FROM "notes"`
				_, err = texts(tx.QueryContext(origin(tenant(t, "b"), built, true), built))
				require.NoError(t, err)
				_, err = texts(tx.QueryContext(tenant(t, "b"), look))
				require.ErrorContains(t, err, "55000", "after another statement")
				require.NoError(t, tx.Rollback())

				create(p, "a")
				tx, err = p.BeginTx(tenant(t, "b"), nil)
				require.NoError(t, err)
				create(tx, "b")
				_, err = texts(tx.QueryContext(tenant(t, "b"), look))
				require.NoError(t, err, "one's own")
				require.NoError(t, tx.Commit())
			}
		}
	})
}

// TestSessionForgetsSeed: a tenant that has set the seed of random() does not know what the next one draws.
func TestSessionForgetsSeed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		drawn := map[string]bool{}
		for range 3 {
			_, err := p.ExecContext(tenant(t, "a"), `SELECT setseed(0.5)`)
			require.NoError(t, err)
			drawn[p.one(tenant(t, "b"), t, p, `SELECT random()::text`)] = true
		}
		require.Len(t, drawn, 3)
	})
}

// TestSessionOfConnectHook: what the application's connect hook and its DSN have set survives each cleaning.
func TestSessionOfConnectHook(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	eachPool(t, func(t *testing.T, way way) {
		cfg := config(t, d.App, way.mode)
		cfg.RuntimeParams["lock_timeout"] = "7s"
		cfg.RuntimeParams["my.dsn"] = "kept"
		hook := stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, `SET statement_timeout = '11s'; SET search_path = public, pg_catalog; SET TimeZone = 'Asia/Tokyo';
				SET application_name = 'it''s mine'; SET my.region = 'eu'`)
			return err
		})
		keep := guard.Config{Setting: setting, KeepSettings: []string{"my.region", "my.nothing"}}
		p := &pool{way: way}
		if way.direct {
			p.DB = guard.Open(stdlib.GetConnector(*cfg, noPing, hook), keep)
		} else {
			p.inner = stdlib.OpenDB(*cfg, noPing, hook)
			t.Cleanup(func() { _ = p.inner.Close() })
			p.inner.SetMaxOpenConns(1)
			p.DB = guard.Borrow(p.inner, keep)
		}
		p.SetMaxOpenConns(1)
		t.Cleanup(func() { _ = p.DB.Close() })

		const all = `SELECT concat_ws('|', current_setting('lock_timeout'), current_setting('my.dsn'), current_setting('statement_timeout'),
			current_setting('search_path'), current_setting('TimeZone'), current_setting('application_name'),
			current_setting('my.region'), current_setting('my.nothing', true))`
		pid := way.one(tenant(t, "a"), t, p, `SELECT pg_backend_pid()::text`)
		const want = `7s|kept|11s|public, pg_catalog|Asia/Tokyo|it's mine|eu`
		require.Equal(t, want, way.one(tenant(t, "a"), t, p, all))
		for range 3 {
			_, err := p.ExecContext(tenant(t, "a"), `SET lock_timeout = 1; SET my.dsn = 'b'; SET statement_timeout = 10000; SET search_path = '';
				SET TimeZone = UTC; SET application_name = 'x'; SET my.region = 'us'`)
			require.NoError(t, err)
			require.Equal(t, want, way.one(tenant(t, "b"), t, p, all))
		}
		require.Equal(t, pid, way.one(tenant(t, "a"), t, p, `SELECT pg_backend_pid()::text`), "the connection is kept")
	})
}

// TestSessionPreparedByName: SQL that takes the name of one of the guard's prepared statements is found out, and costs no one
// else a row.
func TestSessionPreparedByName(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		built := `SELECT "body" FROM "notes" ORDER BY "body"`
		read := func(id string) []string {
			ctx := origin(tenant(t, id), built, true)
			got, err := texts(p.query(ctx, t, p, built))
			require.NoError(t, err)
			return got
		}
		require.Equal(t, []string{"a1", "a2"}, read("a"))
		require.Equal(t, []string{"b1"}, read("b"))
		for _, role := range []string{"none", d.Admin.Role} {
			_, err := p.ExecContext(tenant(t, "b"), `DO $do$
				DECLARE s record;
				BEGIN
					FOR s IN SELECT name, statement FROM pg_prepared_statements WHERE name LIKE 'tenancy%' AND NOT from_sql LOOP
						EXECUTE format('DEALLOCATE %I', s.name);
						IF s.statement LIKE '%set_config%' THEN
							EXECUTE format('PREPARE %I (text, text) AS SELECT set_config(''app.tenant_id'', ''b'', true), set_config(''role'', %L, true)',
								s.name, '`+role+`');
						ELSE
							EXECUTE format('PREPARE %I AS SELECT ''forged''', s.name);
						END IF;
					END LOOP;
				END $do$`)
			require.NoError(t, err)
			for range 5 {
				require.Equal(t, []string{"a1", "a2"}, read("a"))
			}
		}
	})
}

// TestSessionOutOfResources: a session for which the server has run out of something ends, and gives back what it holds.
func TestSessionOutOfResources(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		for _, state := range []string{"53200", "53300", "XX000"} {
			before := p.one(tenant(t, "a"), t, p, `SELECT pg_backend_pid()::text`)
			_, err := p.ExecContext(tenant(t, "a"), `DO $$ BEGIN RAISE EXCEPTION 'out' USING ERRCODE = '`+state+`'; END $$`)
			require.ErrorContains(t, err, state)
			require.NotEqual(t, before, p.one(tenant(t, "b"), t, p, `SELECT pg_backend_pid()::text`))
		}
	})
}

// TestSessionHeldForTwoTenants: the holder of a connection finds what it made for one tenant, and not under another; its locks
// stay.
func TestSessionHeldForTwoTenants(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachAppWay(t, func(t *testing.T, p *pool) {
		c, err := p.Conn(tenant(t, "a"))
		require.NoError(t, err)
		_, err = c.ExecContext(tenant(t, "a"), `SELECT pg_advisory_lock(7); CREATE TEMP TABLE mine AS SELECT * FROM notes`)
		require.NoError(t, err)
		require.Equal(t, "2", p.one(tenant(t, "a"), t, c, `SELECT count(*)::text FROM mine`))
		require.Equal(t, "0", p.one(tenant(t, "b"), t, c, temporaryObjects))
		require.Equal(t, "1", p.one(tenant(t, "b"), t, c, advisoryLocks))
		require.NoError(t, c.Close())
		require.Equal(t, "0", p.one(tenant(t, "a"), t, p, advisoryLocks))
	})
}

// TestSessionIsLookedAt: what a trigger or someone without the guard has left is found before a statement runs.
func TestSessionIsLookedAt(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			CREATE TEMP TABLE IF NOT EXISTS notes AS SELECT 'forged' AS body;
			RETURN NULL;
		END $$;
		CREATE TRIGGER leave AFTER INSERT ON shared EXECUTE FUNCTION leave()`)
	d.eachApp(t, func(t *testing.T, p *pool) {
		insert, read := `INSERT INTO "shared" ("id") VALUES (1)`, `SELECT "body" FROM "notes" ORDER BY "body"`
		for range 3 {
			_, err := p.ExecContext(origin(tenant(t, "b"), insert, true), insert)
			require.NoError(t, err)
			got, err := texts(p.QueryContext(origin(tenant(t, "a"), read, true), read))
			require.NoError(t, err)
			require.Equal(t, []string{"a1", "a2"}, got)

			_, err = p.ExecContext(origin(tenant(t, "b"), insert, true), insert)
			require.NoError(t, err)
			tx, err := p.BeginTx(tenant(t, "a"), nil)
			require.NoError(t, err)
			require.Equal(t, []string{"a1", "a2"}, p.notesOf(tenant(t, "a"), t, tx), "at the beginning of a transaction")
			require.NoError(t, tx.Commit())
		}
		if p.inner == nil {
			return
		}
		for _, leave := range []string{
			`CREATE TEMP TABLE notes AS SELECT 'forged' AS body`, `SET search_path = pg_catalog`, `SET row_security = off`,
			`SET client_encoding = LATIN1`, `SET default_transaction_read_only = on`, `SET DateStyle = German`,
		} {
			_, err := p.inner.Exec(leave)
			require.NoError(t, err)
			got, err := texts(p.QueryContext(origin(tenant(t, "a"), read, true), read))
			require.NoError(t, err, leave)
			require.Equal(t, []string{"a1", "a2"}, got, leave)
		}
	})
}

// TestSessionCleanAlways: what a trigger leaves that the guard does not look for is cleaned away where that is asked for.
func TestSessionCleanAlways(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM set_config('my.secret', current_setting('app.tenant_id'), false);
			RETURN NULL;
		END $$;
		CREATE TRIGGER leave AFTER INSERT ON shared EXECUTE FUNCTION leave()`)
	insert, look := `INSERT INTO "shared" ("id") VALUES ($1)`, `SELECT coalesce(current_setting('my.secret', true), '')`
	eachWay(t, func(t *testing.T, way way) {
		for always, want := range map[bool]string{true: "", false: "a"} {
			p := guarded(t, way, config(t, d.App, way.mode), guard.Config{CleanAlways: always})
			_, err := way.exec(tenant(t, "a"), t, p, insert, 1)
			require.NoError(t, err)
			require.Equal(t, want, way.one(tenant(t, "b"), t, p, look), "always: %v", always)

			tx := begin(tenant(t, "a"), t, p, nil)
			_, err = way.exec(tenant(t, "a"), t, tx, insert, 1)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			require.Equal(t, want, way.one(tenant(t, "b"), t, p, look), "always: %v, in a transaction", always)
		}
	})
}
