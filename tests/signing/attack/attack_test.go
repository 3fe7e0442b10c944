package attack_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/signing"
)

// attack is SQL that an attacker has the application run for his own tenant. It returns a text, with a body of the victim's in it
// where it succeeds, or changes the victim's rows.
type attack struct {
	name string
	exec string // as text, of several statements where there are several; run first
	read string // a query, run after it in the same transaction if exec does not end it
}

const (
	all    = `SELECT coalesce(string_agg(body, ','), '') FROM notes`
	become = `SELECT set_config('app.tenant_id', 'victim', true)`
)

var attacks = []attack{
	{"set_config", become, all},
	{"set_config for the session", `SELECT set_config('app.tenant_id', 'victim', false)`, all},
	{"SET LOCAL", `SET LOCAL app.tenant_id = 'victim'`, all},
	{"SET", `SET app.tenant_id = 'victim'`, all},
	{"SET of another case", `SET "APP.Tenant_ID" = 'victim'`, all},
	{"stacked read", "", `SELECT set_config('x.y', (SELECT string_agg(body, ',') FROM notes), false) FROM (SELECT set_config('app.tenant_id', 'victim', true) OFFSET 0) s`},
	{"where fragment", "", `SELECT coalesce(string_agg(body, ','), '') FROM notes WHERE set_config('app.tenant_id', 'victim', true) <> ''`},
	{"order by", "", `SELECT body FROM notes ORDER BY set_config('app.tenant_id', 'victim', true) LIMIT 1`},
	{"WITH", "", `WITH s AS MATERIALIZED (SELECT set_config('app.tenant_id', 'victim', true)) SELECT string_agg(body, ',') FROM s, notes`},
	{"stacked update", become + `; UPDATE notes SET body = 'defaced' WHERE tenant_id = 'victim'`, all},
	{"stacked delete", become + `; DELETE FROM notes WHERE tenant_id = 'victim'`, all},
	{"stacked insert", become + `; INSERT INTO notes (tenant_id, body) VALUES ('victim', 'planted')`, all},
	{"insert by default", become + `; INSERT INTO notes (body) VALUES ('planted')`, all},
	{"moved row", become + `; UPDATE notes SET tenant_id = 'victim', body = 'planted'`, all},
	{"DO", `DO $$ BEGIN PERFORM set_config('app.tenant_id', 'victim', true); UPDATE notes SET body = 'defaced'; END $$`, all},
	{"DO that commits", `DO $$ BEGIN PERFORM set_config('app.tenant_id', 'victim', false); COMMIT; UPDATE notes SET body = 'defaced'; END $$`, all},
	{"commit and go on", `COMMIT; SET app.tenant_id = 'victim'; UPDATE notes SET body = 'defaced'`, all},
	{"rollback and go on", `ROLLBACK; BEGIN; SET LOCAL app.tenant_id = 'victim'; UPDATE notes SET body = 'defaced'; COMMIT`, all},
	{"savepoint", `SAVEPOINT a; SET LOCAL app.tenant_id = 'victim'; UPDATE notes SET body = 'defaced'; RELEASE a`, all},
	{"COPY", become + `; COPY (SELECT body FROM notes) TO STDOUT`, all},
	{"prepared", `PREPARE p AS SELECT string_agg(body, ',') FROM notes; SET app.tenant_id = 'victim'; EXECUTE p`, all},
	{"prepared write", `PREPARE p AS UPDATE notes SET body = 'defaced'; SET app.tenant_id = 'victim'; EXECUTE p`, all},
	{"cursor", `DECLARE c CURSOR FOR SELECT body FROM notes; SET app.tenant_id = 'victim'; UPDATE notes SET body = 'defaced'`, all},
	{"query_to_xml", become, `SELECT query_to_xml('SELECT body FROM notes', true, true, '')::text`},
	{"table_to_xml", become, `SELECT table_to_xml('notes', true, true, '')::text`},
	{"cursor_to_xml", become + `; DECLARE c CURSOR FOR SELECT body FROM notes`, `SELECT cursor_to_xml('c', 100, true, true, '')::text`},
	{"subquery in a cast", become, `SELECT (array_agg(notes)::text[])::text FROM notes`},
	{"whole row", become, `SELECT string_agg(notes::text, ',') FROM notes`},
	{"foreign proof of no key", `SELECT set_config('app.tenant_id', 'victim', true),
		set_config('app.tenant_id_proof', repeat('0', 64) || substr(current_setting('app.tenant_id_proof', true), 65), true)`, all},
	{"own proof for the victim", `SELECT set_config('app.tenant_id', 'victim', true),
		set_config('app.tenant_id_proof', current_setting('app.tenant_id_proof', true), true)`, all},
	{"proof removed", become + `; SELECT set_config('app.tenant_id_proof', '', true)`, all},
	{"search_path", `SET search_path = pg_temp, public; SET app.tenant_id = 'victim'`, `SELECT string_agg(body, ',') FROM public.notes`},
	{"row_security", `SET row_security = off; SET app.tenant_id = 'victim'`, all},
	{"settings view", `UPDATE pg_settings SET setting = 'off' WHERE name = 'row_security'; SET app.tenant_id = 'victim'`, all},
	{"ROLE of the owner", become + `; SET ROLE {owner}`, all},
	{"ROLE of the admin", become + `; SET ROLE {admin}`, all},
	{"key", become, `SELECT string_agg(k::text, ',') || 'v1' FROM tenancy_signed.keys k`},
	{"key by the role", `SET ROLE {signer}`, `SELECT string_agg(k::text, ',') || 'v1' FROM tenancy_signed.keys k`},
	{"key by a file", "", `SELECT pg_read_file('postgresql.conf') || 'v1'`},
	{"key in statistics", "", `SELECT string_agg(most_common_vals::text, ',') || 'v1' FROM pg_stats WHERE schemaname = 'tenancy_signed' HAVING count(*) > 0`},
	{"function replaced", `CREATE OR REPLACE FUNCTION tenancy_signed.tenant(setting text) RETURNS text LANGUAGE sql AS 'SELECT ''victim'''`, all},
	{"operator in a temporary schema", `CREATE FUNCTION pg_temp.eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'; SET app.tenant_id = 'victim'`, all},
	{"temporary table", `CREATE TEMP TABLE keys (id text, inner_pad bytea, outer_pad bytea); SET search_path = pg_temp; SET app.tenant_id = 'victim'`, `SELECT string_agg(body, ',') FROM public.notes`},
	{"lookup role as a tenant", `SET ROLE {lookup}`, `SELECT string_agg(email, ',') || ' v1' FROM members WHERE tenant_id = 'victim' HAVING count(*) > 0`},
	{"lookup role without a proof", `SELECT set_config('app.tenant_id', '', true); SET ROLE {lookup}`, `SELECT string_agg(email, ',') || ' v1' FROM members WHERE tenant_id = 'victim' HAVING count(*) > 0`},
}

// reaches runs an attack as tenant evil, by itself and in a transaction, and reports whether a row of the victim was returned or
// changed, then or when others use the connection afterwards.
func (d *database) reaches(t *testing.T, db *sql.DB, a attack) bool {
	t.Helper()
	names := func(sql string) string {
		return replace(sql, "{owner}", d.Owner.Role, "{admin}", d.Admin.Role, "{signer}", d.signer, "{lookup}", d.lookup())
	}
	reached := false
	look := func(row *sql.Row) {
		var text sql.NullString
		if row.Scan(&text) == nil && (contains(text.String, "v1") || contains(text.String, "v2")) {
			reached = true
		}
	}
	if a.exec != "" {
		_, _ = db.ExecContext(as("evil"), names(a.exec)) // mostly it fails
	}
	look(db.QueryRowContext(as("evil"), names(a.read)))
	tx, err := db.BeginTx(as("evil"), nil)
	require.NoError(t, err)
	_, _ = tx.ExecContext(as("evil"), names(a.exec))
	_ = tx.Commit()
	// The attacker's text and query as one: what a stacked query returns.
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Raw(func(dc any) error {
		_ = guard.WithPgx(as("evil"), dc, func(c *pgx.Conn) error {
			results, err := c.PgConn().Exec(t.Context(), names(a.exec+"; "+a.read)).ReadAll()
			for _, r := range results {
				for _, row := range r.Rows {
					for _, value := range row {
						reached = reached || contains(string(value), "v1") || contains(string(value), "v2")
					}
				}
			}
			return err
		})
		return nil
	}))
	require.NoError(t, conn.Close())
	for range 3 {
		look(db.QueryRowContext(as("evil"), all))
		look(db.QueryRowContext(as("third"), all))
	}
	var rows string
	require.NoError(t, d.AdminDB.Raw(`SELECT coalesce(string_agg(body, ',' ORDER BY id), '') FROM notes WHERE tenant_id = 'victim'`).Scan(&rows).Error)
	return reached || rows != "v1,v2"
}

// TestAttackStaysInItsTenant: with a key, no SQL of tenant evil reaches a row of the victim.
func TestAttackStaysInItsTenant(t *testing.T) {
	d := signed(t)
	for _, mode := range modes {
		db := d.app(t, mode, signer(time.Minute, false, key("k1", 1)))
		for _, a := range attacks {
			require.False(t, d.reaches(t, db, a), "%s in mode %s", a.name, mode)
		}
	}
}

// TestAttackBreachesWithoutKey: the same SQL does reach the victim where nothing is signed, or what it does is refused there, too, by
// what keys need besides. Without this the test above could not fail.
func TestAttackBreachesWithoutKey(t *testing.T) {
	breaches := 0
	d := unsigned(t)
	for _, a := range attacks {
		d.AsSuperuser(t, `TRUNCATE notes`, rows)
		if d.reaches(t, d.app(t, pgx.QueryExecModeCacheStatement, nil), a) {
			breaches++
		} else {
			assert.True(t, refusedWithoutKey[a.name], "%s should breach without a key", a.name)
		}
	}
	require.Greater(t, breaches, 25)
}

// refusedWithoutKey are attacks on what only signed databases have, those that PostgreSQL itself refuses, and those that what
// Initialize demands keeps out: temporary objects.
var refusedWithoutKey = map[string]bool{
	"where fragment": true, "order by": true, "DO that commits": true, "row_security": true, "settings view": true,
	"operator in a temporary schema": true, "temporary table": true, "ROLE of the owner": true, "ROLE of the admin": true,
	"key": true, "key by the role": true, "key by a file": true, "key in statistics": true, "function replaced": true,
}

// TestLookupNeedsItsProof: under WithoutTenant the lookup role reads the members of all, and a tenant in that role only its own.
func TestLookupNeedsItsProof(t *testing.T) {
	d := signed(t)
	for _, mode := range modes {
		db := d.app(t, mode, signer(time.Minute, false, key("k1", 1)))
		var emails string
		const query = `SELECT string_agg(email, ',' ORDER BY email) FROM members`
		require.NoError(t, db.QueryRowContext(guard.WithoutTenant(context.Background()), query).Scan(&emails))
		require.Equal(t, "e@x,v@x", emails)
		require.NoError(t, db.QueryRowContext(as("evil"), query).Scan(&emails))
		require.Equal(t, "e@x", emails)
		var lookup bool
		require.NoError(t, db.QueryRowContext(as("evil"), `SELECT coalesce(`+signing.Call(signing.FunctionLookup, setting)+`, false)`).Scan(&lookup))
		require.False(t, lookup, "a tenant's proof is none of a lookup")
	}
}
