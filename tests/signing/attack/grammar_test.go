package attack_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// grammar composes SQL of an attacker: what it makes is legal often enough to run, and as wild as its depth allows.
type grammar struct{ *rand.Rand }

// newGrammar composes the same for the same seed.
func newGrammar(seed uint64) grammar { return grammar{rand.New(rand.NewPCG(seed, 15))} } //nolint:gosec // attacks are to be repeated

func (g grammar) of(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g grammar) tenant() string {
	return g.of("victim", "victim", "victim", "third", "evil", "", "VICTIM")
}

func (g grammar) local() string { return g.of("true", "true", "false") }

// proof is an expression for what an attacker may forge from the proof that he has.
func (g grammar) proof() string {
	const own = `current_setting('app.tenant_id_proof', true)`
	switch g.IntN(9) {
	case 0:
		return `''`
	case 1:
		return `NULL`
	case 2:
		return `repeat('0', 64) || substr(` + own + `, 65)`
	case 3:
		return `overlay(` + own + ` placing 'l' from 66)`
	case 4:
		return `overlay(` + own + ` placing '-' from 67)`
	case 5:
		return `overlay(` + own + ` placing '9999999999' from 78)`
	case 6:
		return own + ` || 'x'`
	case 7:
		return fmt.Sprintf(`encode(sha256(convert_to(substr(%s, 65) || '|' || pg_backend_pid() || '|' || length(session_user::text) || '|app.tenant_id|' || session_user || 'victim', 'UTF8')), 'hex') || substr(%[1]s, 65)`, own)
	default:
		return own
	}
}

// become is an expression that names another tenant, or changes what decides about him.
func (g grammar) become() string {
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf(`set_config('app.tenant_id_proof', %s, %s)`, g.proof(), g.local())
	case 1:
		return fmt.Sprintf(`set_config('app.tenant_id', '%s', %s) || set_config('app.tenant_id_proof', %s, %[2]s)`, g.tenant(), g.local(), g.proof())
	case 2:
		return `set_config('role', '` + g.role() + `', ` + g.local() + `)`
	case 3:
		return `set_config('row_security', 'off', ` + g.local() + `)`
	case 4:
		return `set_config('search_path', '` + g.of("tenancy_signed, public", "pg_temp, public", "public, pg_catalog", "pg_catalog") + `', ` + g.local() + `)`
	case 5:
		return `run('SET ` + g.of("LOCAL", "SESSION") + ` app.tenant_id = ''''` + g.tenant() + `''''')`
	default:
		return fmt.Sprintf(`set_config('app.tenant_id', '%s', %s)`, g.tenant(), g.local())
	}
}

func (g grammar) role() string {
	return g.of("none", "{owner}", "{admin}", "{signer}", "{lookup}", "{app}", "postgres", "pg_read_all_data")
}

func (g grammar) table() string {
	return g.of("accounts", "accounts", "notes", "notes", "members", "account_view")
}

// source is what stands behind FROM, with the alias x.
func (g grammar) source(depth int) string {
	if depth > 0 {
		switch g.IntN(9) {
		case 0:
			return `(` + g.query(depth-1) + `) x`
		case 1:
			return `(SELECT ` + g.become() + ` AS b OFFSET 0) s, ` + g.table() + ` x`
		case 2:
			return `(SELECT ` + g.become() + ` AS b OFFSET 0) s CROSS JOIN LATERAL (SELECT * FROM ` + g.table() + ` i WHERE s.b IS NOT NULL) x`
		case 3:
			return `(SELECT * FROM ` + g.table() + ` ` + g.of("FOR UPDATE", "FOR SHARE", "ORDER BY 1 LIMIT 5", "OFFSET 0") + `) x`
		case 4:
			return g.of("accounts", "notes") + ` x TABLESAMPLE ` + g.of("SYSTEM", "BERNOULLI") + ` (100)`
		case 5:
			return `ONLY ` + g.of("accounts", "notes", "members") + ` x`
		case 6:
			return g.table() + ` y ` + g.of("LEFT", "RIGHT", "FULL", "INNER") + ` JOIN ` + g.table() + ` x USING (tenant_id)`
		case 7:
			return `(VALUES (` + g.become() + `)) v (b) JOIN ` + g.table() + ` x ON v.b IS NOT NULL`
		}
	}
	return g.table() + ` x`
}

// value is what is selected of x.
func (g grammar) value(depth int) string {
	inner := func() string { return strings.ReplaceAll(g.query(max(depth-1, 0)), "'", "''") }
	switch g.IntN(26) {
	case 0:
		return `x`
	case 1:
		return `x::text`
	case 2:
		return `row_to_json(x)`
	case 3:
		return `string_agg(x::text, ',')`
	case 4:
		return `array_agg(x)`
	case 5, 6, 7:
		return `count(DISTINCT x::text) AS counted`
	case 8:
		return `xmlforest(x::text AS r)`
	case 9:
		return `query_to_xml('` + inner() + `', true, true, '')`
	case 10:
		return `table_to_xml('` + g.table() + `', true, ` + g.of("true", "false") + `, coalesce(left(` + g.become() + `, 0), ''))`
	case 11:
		return `(x::text)::int`
	case 12:
		return `1 / (length(x::text) - length(x::text))`
	case 13:
		return `run('` + inner() + `')`
	case 14:
		return `json_agg(x)`
	case 15:
		return `x.ctid, x.tableoid`
	case 16:
		return `reverse(x::text)`
	case 17:
		return `(SELECT string_agg(z::text, '') FROM ` + g.table() + ` z)`
	case 18:
		return `(` + g.become() + `), x::text`
	case 19:
		return `sum(pg_column_size(x))`
	case 20:
		return `first_value(x::text) OVER (ORDER BY ` + g.become() + `)`
	case 21:
		return `CASE WHEN ` + g.become() + ` IS NOT NULL THEN x::text END`
	case 22:
		return `pg_notify('c', x::text)`
	case 23:
		return `has_table_privilege('accounts', 'SELECT'), x::text`
	case 24:
		return g.of(`(SELECT schema_to_xml('public', true, false, ''))`, `ts_stat('SELECT to_tsvector(body) FROM notes')`)
	default:
		return `x.*`
	}
}

func (g grammar) where() string {
	switch g.IntN(11) {
	case 0:
		return ` WHERE ` + g.become() + ` IS NOT NULL`
	case 1:
		return ` WHERE leak(x::text)`
	case 2:
		return ` WHERE x.tenant_id = '` + g.tenant() + `'`
	case 3:
		return ` WHERE x.tenant_id <> 'evil' OR ` + g.become() + ` = ''`
	case 4:
		return ` WHERE (x::text)::int > 0`
	case 5:
		return ` WHERE EXISTS (SELECT FROM ` + g.table() + ` w WHERE leak(w::text) AND w.tenant_id = x.tenant_id)`
	case 6:
		return ` WHERE leak(x::text) AND x.tenant_id = '` + g.tenant() + `'`
	case 7:
		return ` WHERE x.tenant_id IN (SELECT ` + g.become() + `)`
	default:
		return ``
	}
}

// query is a SELECT, perhaps with others inside.
func (g grammar) query(depth int) string {
	q := `SELECT ` + g.value(depth) + ` FROM ` + g.source(depth) + g.where()
	if depth == 0 {
		return q
	}
	switch g.IntN(10) {
	case 0:
		return `WITH s AS MATERIALIZED (SELECT ` + g.become() + `) ` + strings.Replace(q, ` FROM `, ` FROM s, `, 1)
	case 1:
		return `WITH w AS (` + g.write(0) + ` RETURNING 1) ` + q
	case 2:
		return `WITH RECURSIVE r (n, b) AS (SELECT 1, ''::text UNION ALL SELECT n + 1, ` + g.become() + ` FROM r WHERE n < 4) ` + strings.Replace(q, ` FROM `, ` FROM r, `, 1)
	case 3:
		return q + ` ORDER BY ` + g.become()
	case 4:
		return q + ` UNION ALL ` + q
	case 5:
		return q + ` LIMIT length(` + g.become() + `)`
	case 6:
		return q + ` GROUP BY x, ` + g.become()
	default:
		return q
	}
}

// write is a statement that changes rows, without its RETURNING.
func (g grammar) write(depth int) string {
	t := g.of("accounts", "accounts", "notes", "account_view", "members")
	switch g.IntN(12) {
	case 0:
		return `UPDATE ` + t + ` x SET tenant_id = '` + g.tenant() + `'` + g.where()
	case 1:
		return `DELETE FROM ` + t + ` x` + g.where()
	case 2:
		return `DELETE FROM ` + t + ` x USING (SELECT ` + g.become() + ` AS b OFFSET 0) s` + g.where()
	case 3:
		return `UPDATE ` + t + ` x SET tenant_id = x.tenant_id FROM (SELECT ` + g.become() + ` AS b OFFSET 0) s` + g.where()
	case 4:
		return `INSERT INTO notes (tenant_id, body) SELECT '` + g.tenant() + `', left(z::text, 60) FROM (` + g.query(depth) + ` LIMIT 2) z`
	case 5:
		return `INSERT INTO accounts (body, amount) SELECT coalesce(` + g.become() + `, ''), 7`
	case 6:
		return fmt.Sprintf(`INSERT INTO accounts AS x (tenant_id, id, body, amount) VALUES ('%s', %d, 'x', 1) ON CONFLICT (tenant_id, id) DO UPDATE SET body = 'y', amount = x.amount`, g.tenant(), 1+g.IntN(1000))
	case 7:
		return fmt.Sprintf(`INSERT INTO accounts AS x (tenant_id, id, body, amount) VALUES ('%s', %d, 'x', %s) ON CONFLICT DO NOTHING`, g.tenant(), 1+g.IntN(1000), g.of("1", "-1"))
	case 8:
		return `INSERT INTO notes (tenant_id, body) VALUES ('` + g.tenant() + `', ` + g.become() + `)`
	case 9:
		return `UPDATE ` + t + ` x SET body = 'defaced' WHERE x.ctid = '(` + g.of("0", "1", "2") + `,` + g.of("1", "2", "7") + `)'`
	default:
		return `UPDATE ` + t + ` x SET body = 'defaced'` + g.where()
	}
}

// merge is known to PostgreSQL from version 15 on, its RETURNING from 17 on, as old and new are from 18 on.
func (g grammar) merge() string {
	return `MERGE INTO accounts x USING (SELECT ` + g.become() + ` AS b, ` + g.of("1", "7", "-1") + ` AS n) s ON x.tenant_id = '` + g.tenant() + `' WHEN MATCHED THEN ` +
		g.of("DELETE", "UPDATE SET body = 'defaced'", "DO NOTHING") + ` WHEN NOT MATCHED THEN INSERT (tenant_id, body, amount) VALUES ('` + g.tenant() + `', 'planted', s.n)` + g.of("", "", " RETURNING x.*", " RETURNING merge_action(), old, new")
}

// statement is any statement.
func (g grammar) statement(depth int) string {
	quoted := func() string { return strings.ReplaceAll(g.statement(0), "'", "''") }
	switch g.IntN(40) {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		return g.query(depth)
	case 8, 9, 10, 11:
		return g.write(depth)
	case 12, 13:
		return g.write(depth) + ` RETURNING ` + g.of("*", "x", "x::text", "old, new", "x.tenant_id, "+g.become(), "(SELECT count(*) FROM notes) AS counted")
	case 14:
		return g.merge()
	case 15, 16, 17:
		return `SELECT ` + g.become()
	case 18:
		return `SET ` + g.of("LOCAL", "SESSION", "") + ` app.tenant_id = '` + g.tenant() + `'`
	case 19:
		return `SET ` + g.of("LOCAL", "SESSION", "") + ` ROLE ` + g.role()
	case 20:
		return `DO $a$ DECLARE r text; c refcursor; BEGIN PERFORM ` + g.become() + `; ` + g.of(
			``, `COMMIT; `, `ROLLBACK; `, `PERFORM `+g.become()+`; `) + g.write(0) + `; ` + g.of(
			`EXECUTE '`+quoted()+`'; `, `OPEN c FOR `+g.query(0)+`; FETCH c INTO r; RAISE NOTICE '%', r; `,
			`SELECT string_agg(x::text, '') INTO r FROM `+g.source(1)+`; RAISE EXCEPTION '%', r; `) + g.of(``, `EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; `) + `END $a$`
	case 21:
		return `PREPARE p` + g.of("1", "2", "3") + ` AS ` + g.of(g.query(depth), g.write(depth))
	case 22:
		return `EXECUTE p` + g.of("1", "2", "3")
	case 23:
		return `DECLARE c` + g.of("1", "2") + g.of(" ", " SCROLL ") + `CURSOR ` + g.of("WITH HOLD", "WITHOUT HOLD") + ` FOR ` + g.query(depth)
	case 24:
		return g.of("FETCH ALL FROM", "FETCH 3 FROM", "MOVE 2 IN", "CLOSE") + ` c` + g.of("1", "2")
	case 25:
		return `COPY ` + g.of(`accounts`, `notes`, `(`+g.query(depth)+`)`, `tenancy_signed.keys`) + ` TO STDOUT`
	case 26:
		return g.of(`BEGIN`, `COMMIT`, `ROLLBACK`, `COMMIT AND CHAIN`, `SAVEPOINT s`, `ROLLBACK TO s`, `RELEASE s`, `SET CONSTRAINTS ALL IMMEDIATE`, `SET CONSTRAINTS ALL DEFERRED`)
	case 27:
		return `CALL run_and_commit('` + quoted() + `')`
	case 28:
		return `SELECT run('` + quoted() + `')`
	case 29:
		return g.of(`DISCARD ALL`, `DISCARD PLANS`, `RESET ALL`, `RESET app.tenant_id`, `RESET ROLE`, `DEALLOCATE ALL`, `RESET SESSION AUTHORIZATION`, `CLOSE ALL`)
	case 30:
		return g.of(`SET TimeZone = 'Asia/Tokyo'`, `SET DateStyle = 'German'`, `SET default_transaction_read_only = on`, `SET client_min_messages = debug1`,
			`SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE`, `SET TRANSACTION READ ONLY`, `SET plan_cache_mode = force_generic_plan`,
			`SET enable_seqscan = off`, `SET enable_indexscan = off`, `SET bytea_output = escape`, `SET standard_conforming_strings = off`, `SET transform_null_equals = on`)
	case 31:
		return g.of(`CREATE TEMP TABLE notes (tenant_id text, body text)`, `CREATE TABLE stolen AS SELECT * FROM accounts`, `CREATE TEMP VIEW accounts AS SELECT 1 AS id`,
			`CREATE VIEW stolen AS SELECT * FROM accounts`, `SELECT * INTO TEMP stolen FROM accounts`, `CREATE SCHEMA evil`, `CREATE TEMP SEQUENCE s`)
	case 32:
		return g.of(`CREATE FUNCTION pg_temp.set_config(text, text, bool) RETURNS text LANGUAGE sql AS 'SELECT ''victim'''`,
			`CREATE FUNCTION public.f() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT body FROM notes'`,
			`CREATE OR REPLACE FUNCTION tenancy_signed.tenant(setting text) RETURNS text LANGUAGE sql AS 'SELECT ''victim'''`,
			`ALTER FUNCTION tenancy_signed.tenant(text) SECURITY INVOKER`, `ALTER FUNCTION tenancy_signed.tenant(text) SET app.tenant_id = 'victim'`,
			`CREATE OPERATOR public.= (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)`, `CREATE CAST (text AS int) WITH INOUT`,
			`CREATE RULE r AS ON SELECT TO notes DO INSTEAD SELECT * FROM accounts`, `CREATE TRIGGER t AFTER UPDATE ON notes EXECUTE FUNCTION touched()`,
			`CREATE POLICY p ON notes USING (true)`, `CREATE INDEX ON notes (leak(body))`, `CREATE STATISTICS s ON body, tenant_id FROM notes`)
	case 33:
		return g.of(`ALTER TABLE notes DISABLE ROW LEVEL SECURITY`, `ALTER TABLE notes NO FORCE ROW LEVEL SECURITY`, `ALTER POLICY tenant ON notes USING (true)`,
			`DROP POLICY tenant ON notes`, `ALTER TABLE notes OWNER TO CURRENT_USER`, `TRUNCATE notes`, `DROP TABLE notes CASCADE`, `GRANT ALL ON notes TO PUBLIC`,
			`GRANT {owner} TO {app}`, `ALTER ROLE {app} BYPASSRLS`, `ALTER DATABASE {database} SET app.tenant_id = 'victim'`, `ALTER SYSTEM SET row_security = off`,
			`SECURITY LABEL ON TABLE notes IS 'x'`, `COMMENT ON TABLE notes IS 'x'`, `REASSIGN OWNED BY {owner} TO {app}`, `ANALYZE notes`, `VACUUM notes`, `CLUSTER notes`,
			`REINDEX TABLE notes`, `UPDATE pg_settings SET setting = 'off' WHERE name = 'row_security'`, `UPDATE pg_class SET relrowsecurity = false`,
			`DELETE FROM pg_policy`, `LOCK TABLE notes`, `LOAD 'plpgsql'`, `CHECKPOINT`, `SET SESSION AUTHORIZATION {owner}`, `SET SESSION AUTHORIZATION {admin}`)
	case 34:
		return g.of(`SELECT k FROM tenancy_signed.keys k`, `UPDATE tenancy_signed.keys SET id = 'x'`, `SELECT tenancy_signed.add_key('x', sha256('x'))`,
			`SELECT pg_get_functiondef('tenancy_signed.tenant(text)'::regprocedure)`, `SELECT tenancy_signed.tenant('app.tenant_id')`, `SELECT tenancy_signed.lookup('app.tenant_id')`,
			`SELECT * FROM pg_stats`, `SELECT * FROM pg_statistic`, `SELECT * FROM pg_stat_activity`, `SELECT * FROM pg_prepared_statements`, `SELECT * FROM pg_cursors`,
			`SELECT * FROM pg_locks`, `SELECT * FROM pg_stats_ext`, `SELECT * FROM pg_largeobject`, `SELECT * FROM pg_authid`, `SELECT * FROM pg_user_mappings`)
	case 35:
		return g.of(`SELECT pg_read_file('postgresql.conf')`, `SELECT pg_ls_dir('.')`, `SELECT lo_import('/etc/passwd')`, `SELECT lo_get(oid) FROM pg_largeobject_metadata`,
			`SELECT pg_logical_slot_get_changes('s', NULL, NULL)`, `SELECT pg_export_snapshot()`, `SELECT dblink_connect('dbname={database}')`, `SELECT heap_page_items(get_raw_page('notes', 0))`,
			`SELECT pg_create_logical_replication_slot('s', 'test_decoding')`, `SELECT pg_advisory_lock(1)`, `SELECT pg_advisory_xact_lock(1)`, `SELECT setval('notes_id_seq', 1)`)
	case 36:
		return g.of(`LISTEN c`, `NOTIFY c`, `UNLISTEN *`)
	case 37:
		return `COPY ` + g.of("accounts", "notes", "members", "tenancy_signed.keys") + ` FROM STDIN`
	case 38:
		return `SELECT cursor_to_xml('c` + g.of("1", "2") + `', 1000, true, true, '')`
	default:
		return `SELECT convert_from(convert_to(string_agg(x::text, ','), 'UTF8'), 'UTF8') FROM ` + g.source(depth) + g.where()
	}
}

// program is a few statements, and how they are sent.
func (g grammar) program() (way, []string) {
	statements := make([]string, 1+g.IntN(5))
	for n := range statements {
		statements[n] = g.statement(2)
	}
	return way(g.IntN(int(ways))), statements
}
