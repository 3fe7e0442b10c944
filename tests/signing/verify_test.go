package signing_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/signing"
)

// TestFunctionsTakeGoodProofs of each kind, and of claims at the edge of what is good.
func TestFunctionsTakeGoodProofs(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.add(t, "two", 'b')
	d.as(t, d.App, func(conn *pgx.Conn) {
		for name, c := range map[string]struct {
			change func(*signing.Claims)
			key    signing.Key
			want   answers
		}{
			"tenant":              {key: d.key, want: tenant},
			"second key":          {key: newKey(t, "two", 'b'), want: tenant},
			"lookup":              {key: d.key, want: lookup, change: func(c *signing.Claims) { c.Kind, c.Tenant = signing.Lookup, "" }},
			"any process":         {key: d.key, want: tenant, change: func(c *signing.Claims) { c.Process = 0 }},
			"our clock is behind": {key: d.key, want: tenant, change: func(c *signing.Claims) { c.Expires = time.Now().Add(10*time.Second - signing.Skew) }},
			"our clock is ahead":  {key: d.key, want: tenant, change: func(c *signing.Claims) { c.Issued, c.Expires = c.Issued.Add(signing.Skew), c.Expires.Add(signing.Skew) }},
		} {
			claimed := claims(conn)
			if c.change != nil {
				c.change(&claimed)
			}
			require.Equal(t, c.want, ask(t, conn, claimed.Tenant, c.key.Proof(claimed)), name)
		}
		for _, odd := range []string{"'", `\`, "|", "é", "🦊", strings.Repeat("x", 1024)} {
			claimed := claims(conn)
			claimed.Tenant = odd
			require.Equal(t, answers{odd, "NULL", odd, "NULL"}, ask(t, conn, odd, d.key.Proof(claimed)))
		}
	})
}

// TestFunctionsRefuseOtherProofs: of another tenant, session, time or key.
func TestFunctionsRefuseOtherProofs(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.add(t, "retired", 'c')
	d.asSigner(t, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), `DELETE FROM tenancy_signed.keys WHERE id = 'retired'`)
		require.NoError(t, err)
	})
	d.as(t, d.App, func(conn *pgx.Conn) {
		for name, change := range map[string]func(*signing.Claims){
			"another tenant":          func(c *signing.Claims) { c.Tenant = "b" },
			"a tenant with a space":   func(c *signing.Claims) { c.Tenant = "a " },
			"another setting":         func(c *signing.Claims) { c.Setting = "app.other_id" },
			"another login":           func(c *signing.Claims) { c.Login = d.Owner.Role },
			"another process":         func(c *signing.Claims) { c.Process++ },
			"expired":                 func(c *signing.Claims) { c.Expires = time.Now().Add(-signing.Skew - 2*time.Second) },
			"from before the server":  func(c *signing.Claims) { c.Issued = time.Now().Add(-24 * time.Hour) },
			"a lookup with a tenant":  func(c *signing.Claims) { c.Kind, c.Tenant = signing.Lookup, "" },
			"of a kind there is not":  func(c *signing.Claims) { c.Kind = 'x' },
			"of a kind in upper case": func(c *signing.Claims) { c.Kind = 'T' },
		} {
			claimed := claims(conn)
			change(&claimed)
			require.Equal(t, nothing, ask(t, conn, "a", d.key.Proof(claimed)), name)
		}
		for name, key := range map[string]signing.Key{
			"retired":                  newKey(t, "retired", 'c'),
			"unknown":                  newKey(t, "unknown", 'a'),
			"another secret":           newKey(t, "one", 'b'),
			"an id with another case":  newKey(t, "ONE", 'a'),
			"an id like a wildcard":    newKey(t, "...", 'a'),
			"an id that begins as one": newKey(t, "one1", 'a'),
		} {
			require.Equal(t, nothing, ask(t, conn, "a", key.Proof(claims(conn))), name)
		}
		require.Equal(t, unsigned, ask(t, conn, "a", nil))
		// What other functions would read as no digest.
		good := d.key.Proof(claims(conn))
		require.Equal(t, nothing, ask(t, conn, "a", bytes.ToUpper(good)), "upper case")
		require.Equal(t, nothing, ask(t, conn, "a", append([]byte(" "), good...)))
		require.Equal(t, nothing, ask(t, conn, "a", append(good, ' ')))
		require.Equal(t, tenant, ask(t, conn, "a", good))
	})
}

// TestFunctionsRefuseReplays: what one session has seen is worth nothing in another one, of the same login too.
func TestFunctionsRefuseReplays(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.as(t, d.App, func(one *pgx.Conn) {
		seen := d.key.Proof(claims(one))
		require.Equal(t, tenant, ask(t, one, "a", seen))
		d.as(t, d.App, func(two *pgx.Conn) {
			require.NotEqual(t, pid(one), pid(two))
			require.Equal(t, nothing, ask(t, two, "a", seen))
		})
		require.Equal(t, unsigned, ask(t, one, "a", nil), "and it ends with its transaction")
	})
}

// TestFunctionsTakeNoGarbage, and raise no error at it: each byte of a good proof changed, cut and lengthened, and texts of all kinds.
func TestFunctionsTakeNoGarbage(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.as(t, d.App, func(conn *pgx.Conn) {
		good := d.key.Proof(claims(conn))
		for n := range good {
			changed := bytes.Clone(good)
			if changed[n]++; n == 67 || n == 77 {
				changed[n] -= 2 // a time must have other digits, not other characters
			}
			require.Equal(t, nothing, ask(t, conn, "a", changed), n)
			if n > 0 {
				require.Equal(t, nothing, ask(t, conn, "a", good[:n]), n)
			}
		}
		const letters = "0123456789abcdefpt-|' é\\\t\n\x01"
		runes, random := []rune(letters), rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a seeded test
		for range 300 {
			var text strings.Builder
			for range 1 + random.IntN(400) {
				text.WriteRune(runes[random.IntN(len(runes))])
			}
			require.Equal(t, nothing, ask(t, conn, "a", []byte(text.String())), text.String())
		}
		require.Equal(t, nothing, ask(t, conn, "a", bytes.Repeat([]byte("x"), 1<<20)), "a megabyte")
		require.Equal(t, nothing, ask(t, conn, strings.Repeat("x", 1<<20), good), "a megabyte of tenant")
		for _, head := range []string{"1tp", "1tp9999999999infinity  one", "1tpNaN       NaN       one", "1t-\x7f"} {
			require.Equal(t, nothing, ask(t, conn, "a", append(bytes.Clone(good[:64]), head...)), head)
		}
	})
}

// TestFunctionsMeanPostgreSQLsOwnNames, whatever the session's search_path names first.
func TestFunctionsMeanPostgreSQLsOwnNames(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsSuperuser(
		t, `CREATE SCHEMA evil`,
		`CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'`,
		`CREATE FUNCTION evil.yes(bytea, bytea) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'`,
		`CREATE FUNCTION evil.yes(float8, float8) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'`,
		`CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = text, RIGHTARG = text)`,
		`CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = bytea, RIGHTARG = bytea)`,
		`CREATE OPERATOR evil.<= (FUNCTION = evil.yes, LEFTARG = float8, RIGHTARG = float8)`,
		`CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$SELECT '\x00'::bytea$$`,
		`CREATE FUNCTION evil.substr(text, int, int) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT '1t'$$`,
		`CREATE TABLE evil.keys AS SELECT * FROM tenancy_signed.keys`,
		`GRANT ALL ON SCHEMA evil TO PUBLIC`, `GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC`,
	)
	d.as(t, d.App, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), `SET search_path = evil, pg_catalog`)
		require.NoError(t, err)
		var fooled bool
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT 'x'::text = 'y'::text AND sha256('a') = '\x00'::bytea`).Scan(&fooled))
		require.True(t, fooled, "the attack works where names are not qualified")
		forged := append(bytes.Repeat([]byte("0"), 64), d.key.Proof(claims(conn))[64:]...)
		require.Equal(t, nothing, ask(t, conn, "a", forged))
		require.Equal(t, tenant, ask(t, conn, "a", d.key.Proof(claims(conn))))
	})
}

// TestFunctionsWorkInParallelQueries, and only in the process that the proof names.
func TestFunctionsWorkInParallelQueries(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `CREATE TABLE many AS SELECT CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END AS tenant_id FROM generate_series(1, 20000) n`,
		`GRANT SELECT ON many TO `+d.App.Role, `ALTER TABLE many ENABLE ROW LEVEL SECURITY`,
		`CREATE POLICY tenants ON many USING (tenant_id = (SELECT `+signing.Call(signing.FunctionTenant, setting)+`))`)
	d.as(t, d.App, func(conn *pgx.Conn) {
		for _, statement := range []string{
			`SET parallel_setup_cost = 0`, `SET parallel_tuple_cost = 0`, `SET min_parallel_table_scan_size = 0`, `SET max_parallel_workers_per_gather = 2`,
		} {
			_, err := conn.Exec(t.Context(), statement)
			require.NoError(t, err)
		}
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `SELECT set_config($1, 'a', true), set_config($2, $3, true)`,
			setting, setting+signing.ProofSuffix, string(d.key.Proof(claims(conn))))
		require.NoError(t, err)
		var count int
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT count(*) FROM many`).Scan(&count))
		require.Equal(t, 10000, count)
		rows, err := tx.Query(t.Context(), `EXPLAIN (COSTS OFF) SELECT count(*) FROM many`)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		plan := strings.Join(lines, "\n")
		require.Contains(t, plan, "InitPlan")
		require.NoError(t, tx.Rollback(t.Context()))
	})
}

// TestKeysAreOutOfReach of the application's login.
func TestKeysAreOutOfReach(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.as(t, d.App, func(conn *pgx.Conn) {
		for _, attack := range []string{
			`SELECT * FROM tenancy_signed.keys`,
			`SELECT count(*) FROM tenancy_signed.keys`,
			`COPY tenancy_signed.keys TO STDOUT`,
			`INSERT INTO tenancy_signed.keys VALUES ('mine', repeat('a', 64)::bytea, repeat('a', 64)::bytea)`,
			`UPDATE tenancy_signed.keys SET inner_pad = outer_pad`,
			`DELETE FROM tenancy_signed.keys`,
			`TRUNCATE tenancy_signed.keys`,
			`DO $$ BEGIN LOCK TABLE tenancy_signed.keys; END $$`,
			`SELECT tenancy_signed.add_key('mine', repeat('a', 32)::bytea)`,
			`CREATE OR REPLACE FUNCTION tenancy_signed.tenant(setting text) RETURNS text LANGUAGE sql AS 'SELECT current_setting(setting)'`,
			`CREATE FUNCTION tenancy_signed.mine() RETURNS text LANGUAGE sql AS 'SELECT 1::text'`,
			`ALTER FUNCTION tenancy_signed.tenant(text) SET search_path = evil`,
			`ALTER TABLE tenancy_signed.keys OWNER TO CURRENT_USER`,
			`DROP SCHEMA tenancy_signed CASCADE`,
			`SET ROLE ` + d.signer,
			`SET SESSION AUTHORIZATION ` + d.signer,
		} {
			_, err := conn.Exec(t.Context(), attack)
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused, attack)
			require.Equal(t, "42501", refused.Code, "%s: %v", attack, err)
		}
	})
}

// TestAddKeyRefuses what is no key, a third one and one that is there, and says nothing of the secret.
func TestAddKeyRefuses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.asSigner(t, func(conn *pgx.Conn) {
		secret := []byte("this-secret-must-not-be-in-errors")
		refused := func(id any, secret []byte, words string) {
			t.Helper()
			_, err := conn.Exec(t.Context(), `SELECT tenancy_signed.add_key($1, $2)`, id, secret)
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg)
			text := pg.Message + pg.Detail + pg.Hint + pg.Where + pg.InternalQuery
			require.Contains(t, text, words)
			require.NotContains(t, text, "this-secret")
			require.NotContains(t, text, `\x`)
		}
		for _, id := range []any{nil, "", "a b", "a|b", "é", strings.Repeat("a", 33), "a\n"} {
			refused(id, secret, "tenancy: the id of a signing key")
		}
		for _, short := range [][]byte{nil, {}, make([]byte, 31), make([]byte, 65)} {
			refused("two", short, "tenancy: the secret of a signing key")
		}
		refused("one", secret, "keys_pkey")
		_, err := conn.Exec(t.Context(), `SELECT tenancy_signed.add_key('two', $1)`, secret)
		require.NoError(t, err)
		refused("three", secret, "retire one first")
	})
}

// TestSetupMakesTheFunctionsAsListed, can be repeated, and keeps the keys.
func TestSetupMakesTheFunctionsAsListed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.setUp(t)
	d.as(t, d.App, func(conn *pgx.Conn) {
		require.Equal(t, tenant, ask(t, conn, "a", d.key.Proof(claims(conn))))
		for _, f := range signing.Functions {
			var returns, digest string
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT format_type(prorettype, NULL), encode(sha256(convert_to(prosrc, 'UTF8')), 'hex')
				FROM pg_proc WHERE oid = $1::text::regprocedure AND prosecdef AND provolatile = 's' AND proparallel = 'r' AND proconfig IS NULL
				AND pg_get_userbyid(proowner) = $2`, signing.Schema+"."+f.Name+"(text)", d.signer).Scan(&returns, &digest), f.Name)
			require.Equal(t, []string{f.Returns, f.Digest()}, []string{returns, digest})
		}
	})
}
