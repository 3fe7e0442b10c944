package attack_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// payload is a program of an attacker, which begins as tenant evil.
type payload struct {
	name       string
	kept       string // why it reaches no other tenant without a key either; empty where it does
	statements []string
}

const (
	v       = `SET app.tenant_id = 'victim'`
	become1 = `set_config('app.tenant_id', 'victim', true)`
	first   = `(SELECT ` + become1 + ` AS b OFFSET 0) s`
)

// Why PostgreSQL refuses something to each login, or the rights that a login has.
const (
	noCreate   = "the login may create nothing"
	noOwner    = "the login owns nothing"
	noRole     = "the login is a member of no such role"
	noFile     = "files are for superusers"
	noProof    = "there are no other rows in what it shows"
	noCommit   = "procedures cannot commit in the guard's transaction"
	valueOfOwn = "the value was the attacker's own"
)

var payloads = []payload{
	// Event order.
	{"deferred trigger", "", []string{`SELECT run('INSERT INTO accounts (body, amount) VALUES (''x'', 5) RETURNING body'), set_config('app.tenant_id', 'victim', true)`}},
	{"deferred trigger after SET LOCAL", "", []string{`DO $$ BEGIN INSERT INTO accounts (body, amount) VALUES ('x', 5); PERFORM set_config('app.tenant_id', 'victim', true); END $$`}},
	{"constraints made immediate", "", []string{`INSERT INTO accounts (body, amount) VALUES ('x', 5)`, v, `SET CONSTRAINTS ALL IMMEDIATE`}},
	{"procedure that commits", noCommit, []string{`CALL run_and_commit('SET app.tenant_id = ''victim''')`, v, `UPDATE notes SET body = 'defaced'`}},
	{"procedure from a DO", noCommit, []string{`DO $$ BEGIN SET app.tenant_id = 'victim'; CALL run_and_commit('UPDATE notes SET body = ''defaced'''); END $$`, v, `DELETE FROM notes`}},
	{"commit in a DO", noCommit, []string{v, `DO $$ BEGIN COMMIT; SET app.tenant_id = 'victim'; UPDATE notes SET body = 'defaced'; END $$`, `DELETE FROM notes`}},
	{"handler of an exception", "", []string{`DO $$ BEGIN SET LOCAL app.tenant_id = 'victim'; PERFORM 1/0; EXCEPTION WHEN OTHERS THEN SET LOCAL app.tenant_id = 'victim'; UPDATE notes SET body = 'defaced'; END $$`}},
	{"nested savepoints", "", []string{`SAVEPOINT a`, v, `SAVEPOINT b`, `SELECT * FROM accounts`, `ROLLBACK TO b`, `SELECT * FROM accounts`}},
	// Order of evaluation within one statement.
	{"select list", "", []string{`SELECT ` + become1 + `, (SELECT string_agg(body, '') FROM accounts)`}},
	{"lateral join", "", []string{`SELECT x.* FROM ` + first + ` CROSS JOIN LATERAL (SELECT * FROM accounts WHERE s.b IS NOT NULL) x`}},
	{"values", "", []string{`SELECT x.* FROM (VALUES (` + become1 + `)) s (b), notes x`}},
	{"recursion", "", []string{`WITH RECURSIVE r (n, b) AS (SELECT 1, ` + become1 + ` UNION ALL SELECT n + 1, b FROM r WHERE n < 3) SELECT x.* FROM r, accounts x`}},
	{"union", "", []string{`SELECT b FROM ` + first + ` UNION ALL SELECT x::text FROM (SELECT ` + become1 + ` OFFSET 0) t, accounts x`}},
	{"window", "", []string{`SELECT first_value(x::text) OVER (ORDER BY s.b) FROM ` + first + `, accounts x`}},
	{"grouping", "", []string{`SELECT s.b, string_agg(x.body, ',') FROM ` + first + `, accounts x GROUP BY s.b`}},
	{"having", "", []string{`SELECT s.b FROM ` + first + `, accounts x GROUP BY s.b, x.body HAVING leak(x.body)`}},
	{"case", "", []string{`SELECT CASE WHEN ` + become1 + ` = 'victim' THEN (SELECT max(body) FROM accounts) END`}},
	{"limit", "", []string{`SELECT x::text FROM ` + first + `, accounts x LIMIT length(` + become1 + `)`}},
	{"array", "", []string{`SELECT ARRAY(SELECT x::text FROM ` + first + `, accounts x)`}},
	{"function in FROM", "", []string{`SELECT x.* FROM run('SELECT set_config(''app.tenant_id'', ''victim'', true)') r, accounts x`}},
	{"dynamic SQL of the application", "", []string{`SELECT run('SELECT set_config(''app.tenant_id'', ''victim'', true)'), run('SELECT string_agg(body, '','') FROM accounts')`}},
	// What a row can be turned into.
	{"json", "", []string{`SELECT json_agg(x) FROM ` + first + `, accounts x`}},
	{"record", "", []string{`SELECT (x).*, x FROM ` + first + `, accounts x`}},
	{"reversed", "", []string{`SELECT reverse(x::text) FROM ` + first + `, accounts x`}},
	{"sum", "", []string{`SELECT sum(amount) AS counted FROM ` + first + `, accounts x`}},
	{"count", "", []string{`SELECT count(*) AS counted FROM ` + first + `, accounts x`}},
	{"count of locked rows", "", []string{`SELECT count(*) AS counted FROM ` + first + `, LATERAL (SELECT * FROM accounts WHERE s.b IS NOT NULL FOR UPDATE) x`}},
	{"sample", "", []string{`SELECT x.* FROM ` + first + `, accounts x TABLESAMPLE SYSTEM (100)`}},
	{"a view", "", []string{`SELECT x.* FROM ` + first + `, account_view x`}},
	{"schema_to_xml", "", []string{`SELECT schema_to_xml('public', true, true, left(` + become1 + `, 0))`}},
	{"database_to_xml", "", []string{`SELECT database_to_xml(true, true, left(` + become1 + `, 0))`}},
	{"words of a text index", "", []string{`SELECT x.word FROM ` + first + `, LATERAL ts_stat('SELECT to_tsvector(''simple'', body) FROM accounts' || left(s.b, 0)) x`}},
	// Errors as a channel.
	{"cast of a row", "", []string{`SELECT (x::text)::int FROM ` + first + `, accounts x`}},
	{"division", "", []string{`SELECT 1 / (amount - amount) AS n, amount FROM ` + first + `, accounts x WHERE leak(body)`}},
	{"constraint with DETAIL", "PostgreSQL shows no row in DETAIL where row-level security is active", []string{v, `UPDATE accounts SET amount = -1`}},
	{"raised", "", []string{`DO $$ BEGIN SET LOCAL app.tenant_id = 'victim'; RAISE EXCEPTION '%', (SELECT string_agg(body, ',') FROM accounts); END $$`}},
	{"cast to a date", "", []string{`SELECT body::date FROM ` + first + `, accounts x`}},
	{"notice of a cheap function", "", []string{v, `SELECT id FROM accounts WHERE leak(body)`, `SELECT 1 FROM ` + first + `, accounts x WHERE leak(x.body)`}},
	{"cheap function before the policy", "PostgreSQL calls functions that may leak after the policy", []string{`SELECT id FROM accounts WHERE leak(body) AND tenant_id = 'victim'`}},
	{"cheap operator before the policy", "PostgreSQL calls functions that may leak after the policy", []string{`SELECT id FROM accounts WHERE (body || '')::int > 0`}},
	{"condition of a join before the policy", "PostgreSQL calls functions that may leak after the policy", []string{`SELECT x.id FROM accounts x JOIN notes y ON leak(x.body) AND leak(y.body)`}},
	{"notification", "", []string{`LISTEN c`, `SELECT pg_notify('c', x.body) FROM ` + first + `, accounts x LIMIT 3`, `SELECT 1`}},
	// Writes.
	{"update by ctid", "", []string{v, `UPDATE accounts SET body = 'defaced' WHERE ctid = '(0,1)'`}},
	{"update from", "", []string{`UPDATE accounts x SET body = 'defaced' FROM ` + first + ` RETURNING x.*`}},
	{"delete using", "", []string{`DELETE FROM accounts x USING ` + first + ` RETURNING x.*`}},
	{"insert with select", "", []string{`INSERT INTO notes (tenant_id, body) SELECT 'victim', 'planted' FROM ` + first}},
	{"upsert", "", []string{v, `INSERT INTO accounts AS x (tenant_id, id, body, amount) SELECT 'victim', n, 'x', 1 FROM generate_series(1, 1000) n ON CONFLICT (tenant_id, id) DO UPDATE SET body = 'defaced'`}},
	{"upsert that returns", "", []string{v, `INSERT INTO accounts AS x (tenant_id, id, body, amount) SELECT 'victim', n, 'x', 1 FROM generate_series(1, 1000) n ON CONFLICT (tenant_id, id) DO UPDATE SET amount = x.amount RETURNING x.*`}},
	{"CTE that writes", "", []string{v, `WITH w AS (UPDATE accounts SET body = 'defaced' RETURNING *) SELECT * FROM w`}},
	{"update through a view", "", []string{v, `UPDATE account_view SET body = 'defaced'`}},
	{"rows before an update", "", []string{`DO $$ DECLARE r text; BEGIN SET LOCAL app.tenant_id = 'victim'; EXECUTE 'UPDATE accounts SET amount = 1 RETURNING old.body || new.body' INTO r; RAISE NOTICE '%', r;
		EXCEPTION WHEN undefined_table THEN SET LOCAL app.tenant_id = 'victim'; UPDATE accounts SET amount = 1; END $$`}}, // PostgreSQL 18 has old and new
	{"update that changes nothing", "", []string{v, `UPDATE accounts SET body = body`}},
	{"row given away", "", []string{v, `INSERT INTO notes (tenant_id, body) VALUES ('victim', 'planted')`}},
	{"row taken over", "the policy asks about the new row as well", []string{v, `UPDATE accounts SET tenant_id = 'evil'`}},
	{"COPY of a table", "", []string{v, `COPY accounts TO STDOUT`, `SELECT * FROM accounts`}},
	{"COPY into a table", "PostgreSQL copies into no table with row-level security", []string{`COPY accounts FROM STDIN`}},
	// What a session keeps.
	{"generic plan", "", []string{`SET plan_cache_mode = force_generic_plan`, `PREPARE g AS SELECT * FROM accounts`, `EXECUTE g`, v, `EXECUTE g`, `SELECT x.* FROM ` + first + `, accounts x`}},
	{"statement under a name of pgx", "cleaning drops what SQL has prepared", []string{`DEALLOCATE ALL`, `PREPARE stmtcache_1 AS SELECT 1`}},
	{"cursor WITH HOLD", "", []string{v, `DECLARE h CURSOR WITH HOLD FOR SELECT * FROM accounts`, `COMMIT`, `FETCH ALL FROM h`, `SELECT x.* FROM ` + first + `, accounts x`}},
	{"cursor that is read later", "", []string{`DECLARE h SCROLL CURSOR FOR SELECT * FROM accounts`, v, `FETCH ALL FROM h`, `SELECT * FROM accounts`, `SELECT x.* FROM ` + first + `, accounts x`}},
	{"settings for later", "cleaning resets settings", []string{`SET search_path = pg_catalog`, `SET TimeZone = 'Asia/Tokyo'`, `SET default_transaction_read_only = on`, `SET statement_timeout = 1`}},
	{"locks for later", "cleaning gives locks back", []string{`SELECT pg_advisory_lock(1)`, `SELECT pg_advisory_lock_shared(2)`}},
	{"channels for later", "cleaning leaves channels", []string{`LISTEN a`, `LISTEN b`}},
	{"transaction that stays open", "the guard ends it", []string{`BEGIN`, v}},
	{"reset of the guard's settings", noProof, []string{`DISCARD ALL`, `RESET ALL`, `SELECT * FROM accounts WHERE tenant_id <> 'evil'`}},
	// Objects.
	{"temporary view of the table's name", noCreate, []string{`CREATE TEMP VIEW accounts AS SELECT 1 AS id`}},
	{"function that runs as its owner", noCreate, []string{`CREATE FUNCTION public.f() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT max(body) FROM accounts'`}},
	{"operator", noCreate, []string{`CREATE OPERATOR public.= (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)`}},
	{"cast", noOwner, []string{`CREATE CAST (text AS int) WITH INOUT`}},
	{"rule", noOwner, []string{`CREATE RULE r AS ON SELECT TO notes DO INSTEAD SELECT * FROM accounts`}},
	{"trigger", noOwner, []string{`CREATE TRIGGER t AFTER UPDATE ON notes EXECUTE FUNCTION touched()`}},
	{"policy", noOwner, []string{`CREATE POLICY p ON accounts USING (true)`, `SELECT * FROM accounts`}},
	{"row security disabled", noOwner, []string{`ALTER TABLE accounts DISABLE ROW LEVEL SECURITY`, `SELECT * FROM accounts`}},
	{"statistics of columns", noOwner, []string{`CREATE STATISTICS s ON body, tenant_id FROM notes`}},
	{"index on a leaking function", noOwner, []string{`CREATE INDEX ON accounts (leak(body))`}},
	{"setting of the database", noOwner, []string{`ALTER DATABASE {database} SET app.tenant_id = 'victim'`, `SELECT * FROM accounts WHERE tenant_id = 'victim'`}},
	{"setting of the server", noRole, []string{`ALTER SYSTEM SET row_security = off`}},
	{"comments", noOwner, []string{`COMMENT ON TABLE accounts IS 'x'`, `COMMENT ON POLICY tenant ON accounts IS 'x'`}},
	{"grants of grants", noOwner, []string{`GRANT SELECT ON accounts TO PUBLIC`}},
	{"default privileges", noCreate, []string{`ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC`}},
	{"event trigger", noRole, []string{`CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION touched()`}},
	{"statistics that are made up", noRole, []string{`SELECT pg_clear_relation_stats('public', 'accounts')`, `SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', 'accounts', 'reltuples', 1::real)`}},
	{"transaction that is prepared", "PostgreSQL prepares none by default", []string{`SELECT * FROM accounts`, `PREPARE TRANSACTION 'evil'`}},
	{"TRUNCATE", noRole, []string{`TRUNCATE accounts`}},
	{"session authorization", noRole, []string{`SET SESSION AUTHORIZATION {owner}`, `SELECT * FROM accounts WHERE tenant_id <> 'evil'`}},
	// Files, other connections, statistics and catalogs.
	{"file of the server", noFile, []string{`SELECT pg_read_file('postgresql.conf')`, `SELECT pg_read_binary_file('global/pg_control')`, `SELECT lo_import('/etc/hostname')`}},
	{"file as an entity", noFile, []string{`SELECT xpath('/x/text()', '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>')`}},
	{"COPY to a program", noFile, []string{`COPY accounts TO PROGRAM 'cat'`}},
	{"pages", "the extension is for superusers", []string{`SELECT get_raw_page('accounts', 0)`}},
	{"replication", noRole, []string{`SELECT pg_create_logical_replication_slot('s', 'test_decoding')`}},
	{"statistics", "PostgreSQL shows none of tables with row-level security", []string{`SELECT * FROM pg_stats WHERE tablename = 'accounts'`, `SELECT * FROM pg_stats_ext`}},
	{"catalog of statistics", noRole, []string{`SELECT * FROM pg_statistic`}},
	{"locks, snapshots and messages", noProof, []string{`SELECT l, l.relation::regclass FROM pg_locks l`, `SELECT pg_export_snapshot()`, `SELECT pg_logical_emit_message(true, 'outbox', 'x')`, `SELECT pg_current_wal_lsn()`}},
	{"keys by their functions", noRole, []string{`SELECT tenancy_signed.generate_key('x')`, `SELECT * FROM tenancy_signed.list_keys()`, `SELECT tenancy_signed.retire_key('k1', '5 minutes')`}},
	{"versions of rows", noProof, []string{`SELECT xmin, xmax, ctid, tableoid, pg_column_size(x) FROM accounts x`}},
	{"activity", noProof, []string{`SELECT query FROM pg_stat_activity`, `SELECT statement FROM pg_prepared_statements`, `SELECT statement FROM pg_cursors`}},
	{"source of the verifying function", noProof, []string{`SELECT pg_get_functiondef('tenancy_signed.tenant(text)'::regprocedure)`}},
	{"plans as they are made", noProof, []string{`SET debug_print_plan = on`, `SET debug_print_parse = on`, `SET client_min_messages = log`, `SELECT tenancy_signed.tenant('app.tenant_id')`}},
	{"parallel workers", "", []string{`SET parallel_setup_cost = 0`, `SET parallel_tuple_cost = 0`, `SET min_parallel_table_scan_size = 0`, `SELECT count(DISTINCT x::text) AS counted FROM ` + first + `, accounts x`}},
	{"parameters in errors", valueOfOwn, []string{`SET log_parameter_max_length_on_error = -1`, `SELECT 1 / 0`}},
}

// TestPayloads: no program reaches another tenant, in whatever way it is sent.
func TestPayloads(t *testing.T) {
	a := newTarget(t, true)
	for _, mode := range modes {
		a.db = a.pool(t, mode, signer(time.Hour, false, key("k1", 1)))
		for _, p := range payloads {
			for w := range ways {
				require.Empty(t, a.run(t, w, a.names(p.statements)).breach, "%s, %s in mode %s", p.name, w, mode)
				require.Empty(t, a.request(a.db, "victim"), "%s, %s in mode %s", p.name, w, mode)
			}
		}
		require.Empty(t, a.follow(t), mode)
		a.fill(t, evilRows)
	}
}

// TestPayloadsBreachWithoutKey: each of them does where nothing is signed, in one of the ways at least, or says why not.
func TestPayloadsBreachWithoutKey(t *testing.T) {
	a := newTarget(t, false)
	distinct := map[string]bool{}
	for _, p := range payloads {
		require.False(t, distinct[p.name], p.name)
		distinct[p.name] = true
		reached := ""
		for w := range ways {
			got := a.run(t, w, a.names(p.statements))
			if got.breach == "" {
				got.breach = a.request(a.db, "victim")
			}
			if got.breach == "" && a.checksum(t) != a.rows {
				got.breach = "rows have changed"
			}
			if got.breach != "" {
				reached = got.breach
				a.fill(t, targetRows)
				a.db = a.pool(t, pgx.QueryExecModeExec, nil)
				a.expect(t)
				break
			}
		}
		assert.Equal(t, p.kept == "", reached != "", "%s reached others: %q", p.name, reached)
	}
	require.GreaterOrEqual(t, len(distinct)+len(attacks), 60)
}
