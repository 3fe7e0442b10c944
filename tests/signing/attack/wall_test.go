package attack_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// forge makes a proof for the victim in SQL, from the blocks of the key and evil's own proof.
const forge = `SELECT set_config('app.tenant_id', 'victim', true), set_config('app.tenant_id_proof', encode(sha256(@outer || sha256(inner_pad || convert_to(
		concat(head, '|', pg_backend_pid(), '|', octet_length(session_user::text), '|', 'app.tenant_id', '|', session_user, 'victim'), 'UTF8'))), 'hex') || head, true)
	FROM tenancy_signed.keys, (SELECT substr(current_setting('app.tenant_id_proof'), 65) AS head) h`

// innerOnly makes the outer block of the inner one: they differ by a constant.
const innerOnly = `(SELECT string_agg(set_byte('\x00', 0, get_byte(inner_pad, n) # 106), ''::bytea ORDER BY n) FROM generate_series(0, 63) n)`

// brick is a part of the wall: a right that the login must not have, or something that the database or the guard does.
type brick struct {
	name  string
	out   string // takes it out, as a superuser
	back  string
	depth string // why an attack does not get through there yet; empty where it does
	from  int    // the version of PostgreSQL that has it
	until int    // the version from which on depth holds
	// The attack, and after it what the others do, which returns what is wrong with it.
	attack []string
	then   func(t *testing.T, a *target) string
}

const readAll = `SELECT * FROM accounts`

// stash makes objects in a schema that take the calls of others: a function that keeps what it is given.
func stash(schema string) []string {
	return []string{
		`CREATE TABLE ` + schema + `.stash (x text)`,
		`CREATE FUNCTION ` + schema + `.md5(x text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ` + schema + `.stash VALUES (x); RETURN pg_catalog.md5(x); END $$`,
		`ALTER ROLE {app} SET search_path = ` + schema + `, public, pg_catalog`,
	}
}

// stashed returns what the stash has of the requests of others, on connections that are made afterwards.
func stashed(schema string) func(*testing.T, *target) string {
	return func(t *testing.T, a *target) string {
		db := a.pool(t, pgx.QueryExecModeExec, signer(time.Hour, false, key("k1", 1)))
		_ = a.request(db, "victim")
		got := &answers{}
		got.send(as("evil"), db, `SELECT x FROM `+schema+`.stash`)
		return got.breach
	}
}

// bricks are the rights that the plugin asks about when it is installed, CREATEDB, which it need not ask about, and last what the database does.
var bricks = []brick{
	{name: "keys", out: `GRANT SELECT ON tenancy_signed.keys TO {app}`, back: `REVOKE ALL ON tenancy_signed.keys FROM {app}`, attack: []string{replace(forge, "@outer", "outer_pad"), readAll}},
	{name: "a column of the keys", out: `GRANT SELECT (inner_pad) ON tenancy_signed.keys TO {app}`, back: `REVOKE ALL (inner_pad) ON tenancy_signed.keys FROM {app}`, attack: []string{replace(forge, "@outer", innerOnly), readAll}},
	{name: "keys that can be added", out: `GRANT INSERT ON tenancy_signed.keys TO {app}`, back: `REVOKE ALL ON tenancy_signed.keys FROM {app}; DELETE FROM tenancy_signed.keys WHERE id = 'x'`, attack: []string{
		`DO $$ BEGIN INSERT INTO tenancy_signed.keys (id, inner_pad, outer_pad) VALUES ('x', repeat('0', 64)::bytea, repeat('1', 64)::bytea); EXCEPTION WHEN unique_violation THEN NULL; END $$`,
		`SELECT set_config('app.tenant_id', 'victim', true), set_config('app.tenant_id_proof', encode(sha256(repeat('1', 64)::bytea || sha256(repeat('0', 64)::bytea || convert_to(
		concat(head, '|', pg_backend_pid(), '|', octet_length(session_user::text), '|', 'app.tenant_id', '|', session_user, 'victim'), 'UTF8'))), 'hex') || head, true)
		FROM (SELECT left(substr(current_setting('app.tenant_id_proof'), 65), 23) || 'x' AS head) h`, readAll}},
	{name: "the role that owns the keys", out: `GRANT {signer} TO {app}`, back: `REVOKE {signer} FROM {app}`, attack: []string{`SET ROLE {signer}`, replace(forge, "@outer", "outer_pad"), `RESET ROLE`, readAll}},
	{name: "a role that reads all", out: `GRANT pg_read_all_data TO {app}`, back: `REVOKE pg_read_all_data FROM {app}`, attack: []string{`SET ROLE pg_read_all_data`, replace(forge, "@outer", "outer_pad"), `RESET ROLE`, readAll}},
	{name: "CREATEROLE", out: `ALTER ROLE {app} CREATEROLE`, back: `ALTER ROLE {app} NOCREATEROLE; REVOKE {admin} FROM {app}`, until: 160000,
		depth: "from PostgreSQL 16 on, it gives away roles that it has made only", attack: []string{`GRANT {admin} TO {app}`, `SET ROLE {admin}`, readAll}},
	{name: "REPLICATION", out: `ALTER ROLE {app} REPLICATION; CREATE PUBLICATION p FOR ALL TABLES`, back: `DROP PUBLICATION p; ALTER ROLE {app} NOREPLICATION`,
		attack: []string{`SELECT pg_create_logical_replication_slot('evil_' || current_database(), 'pgoutput')`}, then: func(t *testing.T, a *target) string {
			a.fill(t, `INSERT INTO notes (tenant_id, body) VALUES ('victim', '`+canary+` written')`)
			got := a.run(t, alone, []string{`SELECT data FROM pg_logical_slot_get_binary_changes('evil_' || current_database(), NULL, NULL, 'proto_version', '1', 'publication_names', 'p')`})
			a.fill(t, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
			return got.breach
		}},
	{name: "CREATEDB", out: `ALTER ROLE {app} CREATEDB`, back: `ALTER ROLE {app} NOCREATEDB`, depth: "a database of its own has no rows of this one, and this one is no template",
		attack: []string{`CREATE DATABASE evil_{database} TEMPLATE {database}`}},
	{name: "a role of PostgreSQL itself", out: `GRANT pg_read_all_stats TO {app}`, back: `REVOKE pg_read_all_stats FROM {app}`, attack: []string{`SET ROLE pg_read_all_stats`, `SELECT query FROM pg_stat_activity`}},
	{name: "a role that no policy binds", out: `GRANT {admin} TO {app}`, back: `REVOKE {admin} FROM {app}`, attack: []string{`SET ROLE {admin}`, readAll}},
	{name: "TEMPORARY", out: `GRANT TEMPORARY ON DATABASE {database} TO {app}`, back: `REVOKE TEMPORARY ON DATABASE {database} FROM {app}`,
		depth: "cleaning drops temporary objects before others get the connection", attack: []string{`CREATE TEMP VIEW accounts AS SELECT 1 AS id, 'x' AS tenant_id, 'x' AS body, 1 AS amount`}},
	{name: "CREATE in the database", out: `GRANT CREATE ON DATABASE {database} TO {app}`, back: `ALTER ROLE {app} RESET search_path; DROP SCHEMA evil CASCADE; REVOKE CREATE ON DATABASE {database} FROM {app}`,
		attack: append([]string{`CREATE SCHEMA evil`}, stash("evil")...), then: stashed("evil")},
	{name: "CREATE in a schema", out: `GRANT CREATE ON SCHEMA public TO {app}`, back: `ALTER ROLE {app} RESET search_path; DROP TABLE public.stash; DROP FUNCTION public.md5; REVOKE CREATE ON SCHEMA public FROM {app}`,
		attack: stash("public"), then: stashed("public")},
	{name: "an owned table", out: `ALTER TABLE accounts OWNER TO {app}`, back: `ALTER TABLE accounts OWNER TO {owner}; GRANT SELECT, INSERT, UPDATE, DELETE ON accounts TO {app}; ALTER TABLE accounts ENABLE ROW LEVEL SECURITY`, attack: []string{`ALTER TABLE accounts DISABLE ROW LEVEL SECURITY`, readAll}},
	{name: "an owned function", out: `ALTER FUNCTION tenancy_signed.tenant(text) OWNER TO {app}; GRANT CREATE ON SCHEMA tenancy_signed TO {app}`, back: `ALTER FUNCTION tenancy_signed.tenant(text) OWNER TO {signer}; REVOKE CREATE ON SCHEMA tenancy_signed FROM {app}`,
		attack: []string{`CREATE OR REPLACE FUNCTION tenancy_signed.tenant(setting text) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'victim'$$`, readAll},
		then:   func(*testing.T, *target) string { return "" }}, // the others see nothing: the function cannot read the keys
	{name: "large objects", out: `SELECT lo_from_bytea(4711, '` + canary + `'); ALTER LARGE OBJECT 4711 OWNER TO {app}`, back: `SELECT lo_unlink(4711)`, attack: []string{`SELECT lo_get(4711)`}},
	{name: "TRUNCATE", out: `GRANT TRUNCATE ON accounts TO {app}`, back: `REVOKE TRUNCATE ON accounts FROM {app}`, attack: []string{`TRUNCATE accounts`}},
	{name: "TRIGGER", out: `GRANT TRIGGER ON accounts TO {app}`, back: `DROP TRIGGER IF EXISTS evil ON accounts; REVOKE TRIGGER ON accounts FROM {app}`,
		attack: []string{`CREATE TRIGGER evil AFTER UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION touched()`}, then: func(t *testing.T, a *target) string {
			_, err := a.db.ExecContext(as("victim"), `UPDATE accounts SET amount = amount WHERE amount = $1`, canaryNumber+1)
			require.NoError(t, err)
			return a.request(a.db, "victim")
		}},
	{name: "MAINTAIN", from: 170000, out: `GRANT MAINTAIN ON accounts TO {app}`, back: `REVOKE MAINTAIN ON accounts FROM {app}`, attack: []string{`CLUSTER accounts USING accounts_pkey`}},
	{name: "REFERENCES", out: `GRANT REFERENCES ON accounts TO {app}`, back: `REVOKE REFERENCES ON accounts FROM {app}`, depth: "it needs a table of its own as well",
		attack: []string{`CREATE TABLE mine (tenant_id text, id bigint, FOREIGN KEY (tenant_id, id) REFERENCES accounts)`}},
	{name: "UPDATE of a sequence", out: `GRANT UPDATE ON SEQUENCE notes_id_seq TO {app}`, back: `REVOKE UPDATE ON SEQUENCE notes_id_seq FROM {app}`, attack: []string{`SELECT setval('notes_id_seq', (SELECT min(id) FROM notes) - 9)`}, then: func(t *testing.T, a *target) string {
		tx, err := a.db.BeginTx(as("victim"), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(as("victim"), `INSERT INTO notes (body) VALUES ($1)`, "mine")
		require.NoError(t, tx.Rollback())
		if err == nil {
			return ""
		}
		return err.Error()
	}},
	{name: "a parameter", from: 150000, out: `GRANT SET ON PARAMETER session_replication_role TO {app}`, back: `REVOKE ALL ON PARAMETER session_replication_role FROM {app}`,
		depth: "policies hold; what keeps a tenant's own rows together does not: foreign keys, triggers such as those of records of changes", attack: []string{`SET session_replication_role = replica`, v, readAll}},
	{name: "the text of statements", out: `ALTER ROLE {app} RESET track_activities`, back: `ALTER ROLE {app} SET track_activities = off`, attack: []string{`SELECT query FROM pg_stat_activity`}},
	{name: "pg_stat_statements", out: `CREATE VIEW pg_stat_statements AS SELECT '` + canary + `'::text AS query; GRANT SELECT ON pg_stat_statements TO {app}`, back: `DROP VIEW pg_stat_statements`, attack: []string{`SELECT query FROM pg_stat_statements`}},

	{name: "the policy", out: `CREATE POLICY hole ON accounts USING (tenant_id = current_setting('app.tenant_id'))`, back: `DROP POLICY hole ON accounts`, attack: []string{v, readAll}},
	{name: "the proof that a lookup policy asks for", out: `CREATE POLICY hole ON members FOR SELECT TO {lookup} USING (true)`, back: `DROP POLICY hole ON members`, attack: []string{`SET ROLE {lookup}`, `SELECT * FROM members`}},
	{name: "the owner of the function", out: `ALTER ROLE {signer} LOGIN`, back: `ALTER ROLE {signer} NOLOGIN`, depth: "it has no password, and the login cannot become it; Initialize finds the function changed", attack: []string{`SET ROLE {signer}`, replace(forge, "@outer", "outer_pad"), readAll}},
	{name: "the function's rights", out: `ALTER FUNCTION tenancy_signed.tenant(text) SECURITY INVOKER`, back: `ALTER FUNCTION tenancy_signed.tenant(text) SECURITY DEFINER`, depth: "it reads no key then, and shows nothing to anyone", attack: []string{v, readAll},
		then: func(t *testing.T, a *target) string {
			assert.Contains(t, a.request(a.db, "victim"), "permission denied")
			return ""
		}},
}

// TestWallKeepsAttacksOut, and each part of it taken out lets one in, or is defence in depth.
func TestWallKeepsAttacksOut(t *testing.T) {
	a := newTarget(t, true)
	names := func(s string) string { return a.names([]string{s})[0] }
	a.fill(t, names(`ALTER ROLE {app} SET track_activities = off`))
	version := pgserver.Shared(t).Version()
	reopen := func(t *testing.T) { // sessions get the settings of their role when they begin
		require.NoError(t, a.db.Close())
		a.db = a.pool(t, pgx.QueryExecModeExec, signer(time.Hour, false, key("k1", 1)))
	}
	reaches := func(t *testing.T, b brick) (reached string) {
		other, err := a.db.Conn(t.Context()) // the session of another request of the same login
		require.NoError(t, err)
		_, err = other.ExecContext(as("victim"), `SELECT '`+canary+`', pg_sleep(0)`)
		require.NoError(t, err)
		defer other.Close()
		for w := range ways {
			a.fill(t, `SELECT '`+canary+`'`) // and that of an operator
			if got := a.run(t, w, a.names(b.attack)).breach; got != "" {
				return got
			}
			if b.then != nil {
				if got := b.then(t, a); got != "" {
					return got
				}
			} else if got := a.request(a.db, "victim"); got != "" {
				return got
			}
			if a.checksum(t) != a.rows {
				return "rows have changed"
			}
		}
		return ""
	}
	for _, b := range bricks {
		if version < b.from {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			a.fill(t, targetRows)
			reopen(t)
			a.expect(t)
			before := b
			if b.then != nil {
				before.then = nil // which is about what is left behind
			}
			require.Empty(t, reaches(t, before), "the wall stands")
			a.fill(t, names(b.out))
			reopen(t)
			reached := reaches(t, b)
			a.fill(t, names(b.back))
			a.AsOwner(t, signing.Setup(a.signer)) // makes replaced functions again
			if b.depth != "" && version >= b.until {
				require.Empty(t, reached, b.depth)
			} else {
				require.NotEmpty(t, reached, "the wall has a hole")
			}
		})
	}
	a.fill(t, names(`ALTER ROLE {app} RESET ALL`))
}

// TestSessionCleaningIsPartOfTheWall: what an attacker leaves in a session meets others where nothing cleans it.
func TestSessionCleaningIsPartOfTheWall(t *testing.T) {
	a := newTarget(t, true)
	leave := []string{`SET TimeZone = 'Asia/Tokyo'`, `SET search_path = pg_catalog`, `SELECT pg_advisory_lock(1)`, `LISTEN c`, `PREPARE p AS SELECT 1`, `DECLARE h CURSOR WITH HOLD FOR SELECT 1`}
	for _, statement := range leave {
		require.Empty(t, a.run(t, alone, []string{statement}).breach)
		require.Empty(t, a.follow(t), statement)

		s := connect(t, a.App.DSN) // without the guard
		_, err := s.Exec(t.Context(), statement)
		require.NoError(t, err)
		tx, err := s.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `SELECT pg_catalog.set_config('app.tenant_id', 'victim', true), pg_catalog.set_config('app.tenant_id_proof', $1, true)`, string(key("k1", 1).Proof(s.claims())))
		require.NoError(t, err)
		var got string
		err = tx.QueryRow(t.Context(), requestSQL).Scan(&got)
		require.False(t, err == nil && got == a.expected["victim"], statement)
		require.NoError(t, s.Close(context.Background()))
	}
}

// TestPreparedTextsOfOthers: pg_prepared_statements shows what others have prepared on the same connection. So texts that may hold a value are
// not prepared under a name, in no mode of pgx and not by PrepareContext, which PrepareStmt of GORM calls. Others are.
func TestPreparedTextsOfOthers(t *testing.T) {
	a := newTarget(t, true)
	const harmless = `SELECT count(*) FROM notes WHERE body <> $1`
	for _, mode := range modes {
		db := a.pool(t, mode, signer(time.Hour, false, key("k1", 1)))
		db.SetMaxOpenConns(1)
		for _, condition := range []string{`'text of the victim'`, `E'text of the victim'`, `$$text of the victim$$`, `$1 -- text of the victim`, `$1 /* text of the victim */`, `$1 AND id <> 471147`} {
			query := `SELECT count(*) FROM notes WHERE body <> $1 AND body <> ` + condition
			for range 2 {
				var found int
				require.NoError(t, db.QueryRowContext(as("victim"), query, canary).Scan(&found), query)
				prepared, err := db.PrepareContext(as("victim"), query+` `)
				require.NoError(t, err)
				require.NoError(t, prepared.QueryRowContext(as("victim"), canary).Scan(&found), query)
				require.NoError(t, prepared.Close())
			}
		}
		var found int
		require.NoError(t, db.QueryRowContext(as("victim"), harmless, canary).Scan(&found))
		require.Positive(t, found)
		var texts string
		require.NoError(t, db.QueryRowContext(as("evil"), `SELECT coalesce(string_agg(statement, ';'), '') FROM pg_prepared_statements`).Scan(&texts))
		require.NotContains(t, texts, canary, "an argument")
		require.NotContains(t, texts, "victim", mode)
		require.NotContains(t, texts, "471147", mode)
		require.Equal(t, mode == pgx.QueryExecModeCacheStatement, contains(texts, harmless), mode)
	}
}

// TestDefaultPrivilegesKeepNoInstanceFromStarting: the login may set those of what it would make, which is nothing.
func TestDefaultPrivilegesKeepNoInstanceFromStarting(t *testing.T) {
	a := newTarget(t, true)
	found := func() (breaches string) {
		require.NoError(t, a.db.QueryRowContext(as("evil"), signing.WallSQL("session_user")).Scan(&breaches))
		return breaches
	}
	before := found()
	got := a.run(t, alone, []string{`ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`})
	require.Zero(t, got.errs)
	require.Equal(t, before, found())
}
