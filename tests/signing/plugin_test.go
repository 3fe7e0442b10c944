package signing_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/clock"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// walled is a database whose login has no rights but those that its statements need.
type walled struct {
	*database
	login pgserver.Login
}

func newWalled(t *testing.T, signed bool) walled {
	t.Helper()
	d := walled{database: newDatabase(t)}
	name := "app_of_" + d.Name
	d.login = pgserver.Login{Role: name, DSN: testdb.WithLogin(d.App.DSN, name, "secret")}
	d.AsSuperuser(t, `CREATE ROLE `+name+` LOGIN PASSWORD 'secret'`, `ALTER ROLE `+name+` SET track_activities = off`,
		`REVOKE TEMPORARY ON DATABASE `+d.Name+` FROM PUBLIC`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	t.Cleanup(func() { d.AsSuperuser(t, `DROP OWNED BY `+name+` CASCADE`, `DROP ROLE `+name) })
	d.Migrate(t, rls.Isolation{AppRole: name, AdminRole: d.Admin.Role, Signed: signed, SignerRole: d.signer}, models...)
	d.fill(t)
	return d
}

// config signs by the key of the database.
func (d walled) config(t *testing.T) tenancy.Config {
	t.Helper()
	key, err := tenancy.NewSigningKey("one", secretOf('a'), time.Time{})
	require.NoError(t, err)
	return tenancy.Config{SigningKeys: tenancy.FixedSigningKeys(key), Logger: testdb.Quiet}
}

func (d walled) open(t *testing.T, cfg tenancy.Config) (*gorm.DB, error) {
	t.Helper()
	return testdb.OpenGuarded(t, d.login.DSN, cfg)
}

// payloads are what an attacker may have the application send as the tenant a, to read, count or change the rows of b. The second is
// sent after the first.
var payloads = [][2]string{
	{`SELECT set_config('app.tenant_id', 'b', true); UPDATE pages SET text = 'changed'`, `SELECT 1::text`},
	{`SELECT set_config('app.tenant_id', 'b', false); DELETE FROM marks`, `SELECT 1::text`},
	{`SET LOCAL app.tenant_id = 'b'; SELECT set_config('app.got', (SELECT string_agg(text, '') FROM pages), false)`, `SELECT current_setting('app.got')`},
	{``, `SELECT text FROM pages, (SELECT set_config('app.tenant_id', 'b', true)) s`},
	{``, `WITH s AS MATERIALIZED (SELECT set_config('app.tenant_id', 'b', true)) SELECT text FROM s, pages`},
	{``, `SELECT (xpath('//text/text()', query_to_xml('SELECT text FROM pages', true, true, '')))[1]::text FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s`},
	{``, `SELECT query_to_xml('SELECT text FROM pages', true, true, CASE WHEN set_config('app.tenant_id', 'b', true) = 'b' THEN '' END)::text`},
	{``, `SELECT table_to_xml('pages', true, true, CASE WHEN set_config('app.tenant_id', 'b', true) = 'b' THEN '' END)::text`},
	{``, `SELECT schema_to_xml('public', true, true, CASE WHEN set_config('app.tenant_id', 'b', true) = 'b' THEN '' END)::text`},
	{``, `SELECT text FROM (VALUES (set_config('app.tenant_id', 'b', true))) s (x), pages`},
	{``, `INSERT INTO pages (id, tenant_id, text) SELECT 99, set_config('app.tenant_id', 'b', true), 'planted' RETURNING text`},
	{``, `SELECT m.text FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s CROSS JOIN LATERAL (SELECT text FROM marks) m`},
	{``, `SELECT text FROM pages WHERE id = 0 UNION ALL SELECT p.text FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s, labels p`},
	{``, `SELECT database_to_xml(true, true, CASE WHEN set_config('app.tenant_id', 'b', true) = 'b' THEN '' END)::text`},
	{`DO $$ BEGIN PERFORM set_config('app.tenant_id', 'b', true); UPDATE pages SET text = 'changed'; END $$`, `SELECT 1::text`},
	{`DO $$ BEGIN PERFORM set_config('app.tenant_id', 'b', true); DELETE FROM marks; END $$`, `SELECT 1::text`},
	{`DO $$ BEGIN PERFORM set_config('app.tenant_id', 'b', true); PERFORM set_config('app.got', (SELECT string_agg(text, '') FROM pages), false); END $$`, `SELECT current_setting('app.got')`},
	{`DO $$ BEGIN SET LOCAL app.tenant_id = 'b'; INSERT INTO pages (id, tenant_id, text) VALUES (99, 'b', 'planted'); END $$`, `SELECT 1::text`},
	{`DO $$ DECLARE c refcursor; r text; BEGIN PERFORM set_config('app.tenant_id', 'b', true); OPEN c FOR SELECT text FROM pages; FETCH c INTO r; PERFORM set_config('app.got', r, false); END $$`, `SELECT current_setting('app.got')`},
	{`DO $$ BEGIN EXECUTE 'SET LOCAL app.tenant_id = ''b'''; PERFORM set_config('app.got', (SELECT string_agg(text, '') FROM pages), false); END $$`, `SELECT current_setting('app.got')`},
	{`DO $$ DECLARE r text; BEGIN FOR n IN 1..2 LOOP PERFORM set_config('app.tenant_id', chr(96 + n), true); SELECT string_agg(text, '') INTO r FROM pages; END LOOP; PERFORM set_config('app.got', r, false); END $$`, `SELECT current_setting('app.got')`},
	{`PREPARE p AS SELECT text FROM pages, (SELECT set_config('app.tenant_id', 'b', true)) s`, `EXECUTE p`},
	{``, `UPDATE pages SET text = 'changed' FROM (SELECT set_config('app.tenant_id', 'b', true)) s RETURNING pages.text`},
	{``, `DELETE FROM marks USING (SELECT set_config('app.tenant_id', 'b', true)) s RETURNING text`},
}

// attack sends a payload in a transaction of the tenant a and outside of one, and returns what came back.
func attack(t *testing.T, db *gorm.DB, payload [2]string) string {
	t.Helper()
	var seen strings.Builder
	send := func(db *gorm.DB) {
		if payload[0] != "" {
			_ = db.Exec(payload[0]).Error
		}
		rows, err := db.Raw(payload[1]).Rows()
		if err != nil {
			return
		}
		defer rows.Close()
		columns, err := rows.Columns()
		require.NoError(t, err)
		for rows.Next() {
			values := make([]any, len(columns))
			for n := range values {
				values[n] = new(any)
			}
			if rows.Scan(values...) == nil {
				for _, v := range values {
					fmt.Fprintf(&seen, "%v|", *v.(*any))
				}
			}
		}
		_ = rows.Err()
	}
	ctx := tenancy.WithTenant(context.Background(), "a")
	send(db.WithContext(ctx))
	require.NoError(t, db.WithContext(ctx).Connection(func(held *gorm.DB) error { send(held); return nil }))
	_ = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { send(tx); return nil })
	return seen.String()
}

// stolen reports whether an attack has shown or changed a row of the tenant b.
func (d walled) stolen(t *testing.T, seen string) bool {
	t.Helper()
	var rows string
	require.NoError(t, d.AdminDB.Raw(`SELECT (SELECT string_agg(text, ',' ORDER BY id) FROM pages WHERE tenant_id = 'b') || (SELECT count(*) FROM marks WHERE tenant_id = 'b')`).Scan(&rows).Error)
	shown := strings.Contains("|"+seen, "|b|") || strings.Contains(seen, "<text>b</text>")
	return rows != "b1" || shown
}

// TestInjectedSQL stays in its tenant with a key; without one each payload is a breach.
func TestInjectedSQL(t *testing.T) {
	t.Parallel()
	signed, unsigned := newWalled(t, true), newWalled(t, false)
	attacked, err := signed.open(t, signed.config(t))
	require.NoError(t, err)
	open, err := unsigned.open(t, tenancy.Config{Logger: testdb.Quiet})
	require.NoError(t, err)
	for _, payload := range payloads {
		seen := attack(t, attacked, payload)
		require.False(t, signed.stolen(t, seen), "%q saw %s", payload, seen)
		var texts []string
		require.NoError(t, attacked.WithContext(tenancy.WithTenant(context.Background(), "b")).Model(&Page{}).Pluck("text", &texts).Error)
		require.Equal(t, []string{"b"}, texts, "afterwards")

		seen = attack(t, open, payload)
		require.True(t, unsigned.stolen(t, seen), "no breach without a key: %q saw %s", payload, seen)
		for _, table := range []string{"page_labels", "marks", "pages", "labels", "members"} {
			require.NoError(t, unsigned.AdminDB.Exec(`DELETE FROM `+table).Error)
		}
		unsigned.fill(t)
	}
}

// TestRotationLosesNoStatement: the key is replaced while statements run, by the steps for operators: add the new key to the database, let
// it sign, retire the old one when its last proofs are over.
func TestRotationLosesNoStatement(t *testing.T) {
	t.Parallel()
	d := newWalled(t, true)
	var keys atomic.Pointer[[]tenancy.SigningKey]
	signWith := func(names ...string) {
		var now []tenancy.SigningKey
		for _, name := range names {
			key, err := tenancy.NewSigningKey(name, secretOf(name[0]), time.Time{})
			require.NoError(t, err)
			now = append(now, key)
		}
		keys.Store(&now)
	}
	d.add(t, "b", 'b')
	d.asSigner(t, func(conn *pgx.Conn) { // the fixture's key is called otherwise
		_, err := conn.Exec(t.Context(), `DELETE FROM tenancy_signed.keys WHERE id = 'one'`)
		require.NoError(t, err)
	})
	signWith("b")
	cfg := d.config(t)
	cfg.SigningKeys = func(context.Context) ([]tenancy.SigningKey, error) { return *keys.Load(), nil }
	db, err := d.open(t, cfg)
	require.NoError(t, err)

	after := readMeanwhile(t, db)
	for _, step := range [][2]string{{"b", "c"}, {"c", "d"}} {
		after(50)
		d.add(t, step[1], step[1][0])
		signWith(step[0], step[1])
		clock.Advance(2 * time.Minute) // the keys are read again
		require.Eventually(t, func() bool { return signedBy(t, db) == step[1] }, time.Minute, time.Millisecond)
		after(200)
		d.asSigner(t, func(conn *pgx.Conn) {
			_, err := conn.Exec(t.Context(), `DELETE FROM tenancy_signed.keys WHERE id = $1`, step[0])
			require.NoError(t, err)
		})
		signWith(step[1])
		after(50)
	}
}

// TestPluginRefusesWhatDoesNotFit: the wrong key, no key, the simple protocol, an unsigned database.
func TestPluginRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	d, unsigned := newWalled(t, true), newWalled(t, false)
	cfg := d.config(t)
	other, err := tenancy.NewSigningKey("one", secretOf('b'), time.Time{})
	require.NoError(t, err)
	cfg.SigningKeys = tenancy.FixedSigningKeys(other)
	_, err = d.open(t, cfg)
	require.ErrorContains(t, err, `refuses the signature by the key "one"`)
	cfg.SigningKeys = tenancy.FixedSigningKeys()
	_, err = d.open(t, cfg)
	require.ErrorContains(t, err, "no signing key")
	cfg = d.config(t)
	cfg.AdminRole = d.Admin.Role
	_, err = d.open(t, cfg)
	require.ErrorContains(t, err, "AdminDB")
	_, err = testdb.OpenGuarded(t, testdb.WithParam(d.login.DSN, "default_query_exec_mode", "simple_protocol"), d.config(t))
	require.ErrorContains(t, err, "simple_protocol")

	db, err := unsigned.open(t, unsigned.config(t))
	require.NoError(t, err, "the tables are asked about when they are used")
	var pages []Page
	require.ErrorIs(t, db.WithContext(tenancy.WithTenant(context.Background(), "a")).Find(&pages).Error, tenancy.ErrNotIsolated)
}

// TestPluginNamesClockThatIsBehind runs beside no other test, whose clock it would set back.
func TestPluginNamesClockThatIsBehind(t *testing.T) {
	d := newWalled(t, true)
	clock.Advance(-time.Hour)
	defer clock.Advance(time.Hour)
	_, err := d.open(t, d.config(t))
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
	require.ErrorContains(t, err, "the clock of the application is 1h0m0s behind that of PostgreSQL")
}
