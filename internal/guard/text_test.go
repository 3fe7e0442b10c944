package guard

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClassOf(t *testing.T) {
	for sql, want := range map[string]class{
		"":         utility,
		"select 1": query,
		" \n-- x\n/* /* y */ */\tWITH x AS (SELECT 1) SELECT": query,
		"insert into t":          query,
		"(SELECT 1)":             utility,
		"CALL p()":               utility,
		"/* SELECT */ call p()":  utility,
		"DO $$ BEGIN END $$":     utility,
		"SET x = 1":              control,
		"lock table t":           control,
		"SAVEPOINT a":            control,
		"SELECTED":               utility,
		"/* never closed SELECT": utility,
		"-- SELECT":              utility,
		"VACUUM":                 utility,
	} {
		require.Equal(t, want, classOf(sql), "%q", sql)
	}
}

func TestIsCall(t *testing.T) {
	for sql, want := range map[string]bool{"CALL p()": true, "/* DO */ call p()": true, "DO 'BEGIN END'": false, "SELECT 1": false, "CALLED": false} {
		require.Equal(t, want, isCall(sql), "%q", sql)
	}
}

func TestMaySeveral(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT 1":                false,
		"SELECT 1;":               false,
		"SELECT 1; -- the end\n ": false,
		"SELECT 1; SELECT 2":      true,
		"SELECT ';'":              true, // which is only slower
	} {
		require.Equal(t, want, maySeveral(sql), "%q", sql)
	}
}

func TestMayHoldValue(t *testing.T) {
	for sql, want := range map[string]bool{
		`SELECT * FROM "notes" WHERE "notes"."id" = $1 AND t1.a2 IS NULL LIMIT $12`: false,
		`INSERT INTO "it's" VALUES ($1)`:                                            false,
		`SELECT * FROM notes LIMIT 10`:                                              true,
		`SELECT * FROM notes WHERE a=-.5`:                                           true,
		`SELECT 'x'`:                                                                true,
		`SELECT E'x'`:                                                               true,
		`SELECT U&'x'`:                                                              true,
		`SELECT $$x$$`:                                                              true,
		`SELECT $a$x$a$`:                                                            true,
		`SELECT a -- x`:                                                             true,
		`SELECT a /* x */`:                                                          true,
		`SELECT a;`:                                                                 true, // which is only slower
		``:                                                                          false,
	} {
		require.Equal(t, want, mayHoldValue(sql), "%q", sql)
	}
}

func TestIsStateless(t *testing.T) {
	for _, sql := range []string{
		`SELECT * FROM "notes" WHERE "notes"."id" = $1 ORDER BY "notes"."id" LIMIT $2`,
		`SELECT count(*) FROM "notes" WHERE body IN ($1,$2) AND ("a" = $3 OR "b" = 'it''s')`,
		`INSERT INTO "notes" ("tenant_id","body") VALUES ($1,$2) RETURNING "id"`,
		`INSERT INTO "archive"."notes" ("tenant_id") VALUES ($1),($2) ON CONFLICT ("tenant_id","id") DO UPDATE SET "body"="excluded"."body"`,
		`UPDATE "notes" SET "body"=$1,"updated_at"=$2 WHERE "id" IN (SELECT "id" FROM "other" WHERE lower(name) = $3)`,
		`DELETE FROM "notes" WHERE NOT EXISTS (SELECT 1 FROM x WHERE x.id = "notes"."id")`,
		`SELECT "a"."id", COALESCE(sum(b.n),0) FROM "a" LEFT JOIN "b" ON ("a"."id" = "b"."a_id") GROUP BY "a"."id" HAVING (count(*) > 1) FOR UPDATE`,
		`WITH x AS (SELECT 1) SELECT * FROM x`,
		`SAVEPOINT sp1`, `RELEASE SAVEPOINT sp1`, `ROLLBACK TO SAVEPOINT sp1`, `rollback to "sp"`,
		`SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`, `SET CONSTRAINTS ALL DEFERRED`, `LOCK TABLE notes IN EXCLUSIVE MODE`,
		`SET LOCAL lock_timeout = '1s'`, `set local Statement_Timeout to 5`, `SHOW search_path`,
		`SELECT * FROM "notes" WHERE (price + (2)) > 3 AND created_at > now() - '1 day'::interval`,
	} {
		require.True(t, isStateless(sql), sql)
	}
	for _, sql := range []string{
		`SELECT set_config('app.tenant_id', 'b', false)`,
		`SELECT * FROM "notes" WHERE set_config ('DateStyle','German',false) <> ''`,
		`SELECT * FROM "notes" WHERE pg_catalog.set_config('a.b','c',false) <> ''`,
		`SELECT * FROM "notes" WHERE "set_config"('a.b','c',false) <> ''`,
		`SELECT * FROM "notes" WHERE evil.count(1)`,
		`SELECT * FROM "notes" WHERE evil . count (1)`,
		`SELECT * FROM "notes" WHERE "evil"."count"(1)`,
		`SELECT * FROM "notes" WHERE x = E'\'' OR set_config('a.b', '', false) = E'\''`,
		`SELECT * FROM "notes" WHERE x = $$'$$ AND pg_advisory_lock(1) = $$'$$`,
		`SELECT * FROM "notes" WHERE x = $a$'$a$`,
		`SELECT * FROM "notes" WHERE set_config/**/('a.b','',false)`,
		"SELECT * FROM \"notes\" WHERE set_config--\n('a.b','',false)",
		`SELECT * INTO TEMP x FROM "notes"`,
		`SELECT * FROM "notes"; SELECT 1`,
		`INSERT INTO "notes" ("id") VALUES (pg_advisory_lock(1))`,
		`INSERT INTO "notes" SELECT lastval()`,
		`WITH x AS (SELECT set_config('a.b','',false)) SELECT 1`,
		`SELECT 1 AS evil(2)`,
		`SELECT a.evil (2)`,
		`TABLE notes`,
		`CALL p()`,
		`ROLLBACK`, `ROLLBACK AND CHAIN`, `COMMIT`, `RESET ALL`, `SET ROLE x`, `SET LOCAL ROLE x`, `SET search_path = x`,
		`SET LOCAL search_path = x`, `SET LOCAL app.tenant_id = 'b'`, `SET SESSION AUTHORIZATION x`, `SET lock_timeout = 1`, `SET LOCAL`,
		`SAVEPOINT a; SET ROLE x`, `SAVEPOINT`, `DISCARD ALL`, `SET LOCAL "lock_timeout" = 1`,
		"SELECT set_config\f('a.b','c',false)", "SELECT set_config\v('a.b','c',false)", "SELECT set_config\x1c('a.b','c',false)",
		"SELECT 'x' \\", `SELECT '\' OR set_config('a.b','c',false) = '\'`,
		`SELECT "a""b"(1)`,
		`SELECT random()`,
		`UPDATE pg_settings SET setting = 'off' WHERE name = 'enable_indexscan'`,
		`UPDATE pg_catalog."pg_settings" SET setting = '1' WHERE name = 'statement_timeout'`,
		`WITH x AS (UPDATE PG_Settings SET setting = '1' RETURNING name) SELECT * FROM x`,
		`INSERT INTO a.b.c (x) SELECT f(1)`,
		`SELECT into(1)`,
		`SELECT "unterminated`,
		`SELECT 'unterminated`,
	} {
		require.False(t, isStateless(sql), sql)
	}
}
