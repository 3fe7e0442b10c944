package signing_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// wallHoles are a way, and for some rights several, to have each right that the plugin refuses.
var wallHoles = []struct{ code, make, undo, words string }{
	{"signed-keys-reachable", `GRANT SELECT ON tenancy_signed.keys TO @app`, `REVOKE SELECT ON tenancy_signed.keys FROM @app`, "signing keys"},
	{"signed-keys-reachable", `GRANT SELECT (inner_pad) ON tenancy_signed.keys TO @app`, `REVOKE SELECT (inner_pad) ON tenancy_signed.keys FROM @app`, "signing keys"},
	{"signed-keys-reachable", `GRANT INSERT ON tenancy_signed.keys TO PUBLIC`, `REVOKE INSERT ON tenancy_signed.keys FROM PUBLIC`, "signing keys"},
	{"signed-keys-reachable", `GRANT @signer TO @app`, `REVOKE @signer FROM @app`, "signing keys"},
	{"signed-keys-reachable", `GRANT pg_read_all_data TO @app`, `REVOKE pg_read_all_data FROM @app`, "signing keys"},
	{"signed-role-predefined", `GRANT pg_monitor TO @app`, `REVOKE pg_monitor FROM @app`, "PostgreSQL itself"},
	{"signed-role-predefined", `GRANT pg_read_all_stats TO @app`, `REVOKE pg_read_all_stats FROM @app`, "PostgreSQL itself"},
	{"signed-role-exempt", `GRANT @admin TO @app`, `REVOKE @admin FROM @app`, "AdminDB"},
	{"signed-temporary", `GRANT TEMPORARY ON DATABASE @db TO PUBLIC`, `REVOKE TEMPORARY ON DATABASE @db FROM PUBLIC`, "temporary"},
	{"signed-create", `GRANT CREATE ON DATABASE @db TO @app`, `REVOKE CREATE ON DATABASE @db FROM @app`, "create schemas"},
	{"signed-create", `GRANT CREATE ON SCHEMA public TO PUBLIC`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`, "create objects"},
	{"signed-create", `GRANT CREATE ON SCHEMA tenancy_signed TO @app`, `REVOKE CREATE ON SCHEMA tenancy_signed FROM @app`, "create objects"},
	{"signed-owns", `CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION mine() OWNER TO @app`, `DROP FUNCTION mine()`, "owns function mine()"},
	{"signed-owns", `SELECT lo_from_bytea(4711, 'x'); ALTER LARGE OBJECT 4711 OWNER TO @app`, `SELECT lo_unlink(4711)`, "large objects"},
	{"signed-owns", `ALTER DATABASE @db OWNER TO @app`, `ALTER DATABASE @db OWNER TO @owner; REVOKE TEMPORARY, CREATE ON DATABASE @db FROM @app; GRANT CREATE ON DATABASE @db TO @owner`, "owns database"},
	{"signed-large-objects", `SELECT lo_from_bytea(4712, 'x'); GRANT SELECT ON LARGE OBJECT 4712 TO @app`, `SELECT lo_unlink(4712)`, "large objects"},
	{"signed-statements-visible", `ALTER ROLE @app RESET track_activities`, `ALTER ROLE @app SET track_activities = off`, "pg_stat_activity"},
	{"signed-statements-visible", `ALTER ROLE @app IN DATABASE @db SET track_activities = on`, `ALTER ROLE @app IN DATABASE @db RESET track_activities`, "pg_stat_activity"},
	{"signed-statements-recorded", `CREATE EXTENSION pg_stat_statements`, `DROP EXTENSION pg_stat_statements`, "pg_stat_statements"},
	{"signed-statements-recorded", `CREATE EXTENSION pg_stat_statements; REVOKE ALL ON pg_stat_statements FROM PUBLIC`, `DROP EXTENSION pg_stat_statements`, "pg_stat_statements"},
	{"signed-statements-recorded", `CREATE VIEW pg_stat_monitor AS SELECT 'x'::text AS query; GRANT SELECT ON pg_stat_monitor TO PUBLIC`, `DROP VIEW pg_stat_monitor`, "pg_stat_monitor"},
	{"signed-role-unbound", `ALTER ROLE @app CREATEROLE`, `ALTER ROLE @app NOCREATEROLE`, "policies do not bind"},
	{"signed-role-unbound", `ALTER ROLE @admin BYPASSRLS; GRANT @admin TO @app`, `ALTER ROLE @admin NOBYPASSRLS; REVOKE @admin FROM @app`, "policies do not bind"},
	{"signed-role-unbound", `ALTER ROLE @app REPLICATION`, `ALTER ROLE @app NOREPLICATION`, "has REPLICATION"},
	{"signed-rights-without-policy", `GRANT TRUNCATE ON pages TO @app`, `REVOKE TRUNCATE ON pages FROM @app`, "has TRUNCATE on the table"},
	{"signed-rights-without-policy", `GRANT TRIGGER ON pages TO PUBLIC`, `REVOKE TRIGGER ON pages FROM PUBLIC`, "has TRIGGER on the table"},
	{"signed-rights-without-policy", `GRANT REFERENCES (id) ON pages TO @app`, `REVOKE REFERENCES (id) ON pages FROM @app`, "has REFERENCES on the table"},
	{"signed-rights-without-policy", `CREATE SEQUENCE counter; GRANT ALL ON SEQUENCE counter TO @app`, `DROP SEQUENCE counter`, "has UPDATE on the sequence"},
	{"signed-functions-differ", `ALTER FUNCTION tenancy_signed.lookup(text) SECURITY INVOKER`, `ALTER FUNCTION tenancy_signed.lookup(text) SECURITY DEFINER`, "functions that verify"},
	{"signed-functions-differ", `ALTER FUNCTION tenancy_signed.tenant(text) OWNER TO @admin`, `ALTER FUNCTION tenancy_signed.tenant(text) OWNER TO @signer`, "functions that verify"},
	{
		"signed-functions-differ", `CREATE ROLE @db_other; ALTER FUNCTION tenancy_signed.tenant(text) OWNER TO @db_other`,
		`ALTER FUNCTION tenancy_signed.tenant(text) OWNER TO @signer; DROP ROLE @db_other`, "functions that verify",
	},
	{"signed-functions-differ", `ALTER FUNCTION tenancy_signed.tenant(text) SET search_path = public`, `ALTER FUNCTION tenancy_signed.tenant(text) RESET ALL`, "functions that verify"},
	{"signed-functions-differ", `ALTER ROLE @signer LOGIN`, `ALTER ROLE @signer NOLOGIN`, "functions that verify"},
}

// TestWall: each right that SQL of the login could use against other tenants keeps the application from starting, and the check names it, with
// SQL that ends it.
func TestWall(t *testing.T) {
	t.Parallel()
	d := newWalled(t, true)
	d.closeLargeObjects(t)
	_, err := d.open(t, d.config(t))
	require.NoError(t, err)
	require.Empty(t, d.codes(t))
	shown := map[string]bool{}
	holes := slices.Clone(wallHoles)
	if pgserver.Shared(t).Version() >= sqltext.PostgreSQL15 { // has rights on parameters
		hole := wallHoles[0]
		hole.code, hole.words = "signed-rights-without-policy", "session_replication_role"
		hole.make, hole.undo = `GRANT SET ON PARAMETER session_replication_role TO @app`, `REVOKE ALL ON PARAMETER session_replication_role FROM @app`
		holes = append(holes, hole)
	}
	if pgserver.Shared(t).Version() >= sqltext.PostgreSQL17 { // has MAINTAIN
		hole := wallHoles[0]
		hole.code, hole.words = "signed-rights-without-policy", "has MAINTAIN on the table"
		hole.make, hole.undo = `GRANT MAINTAIN ON pages TO @app`, `REVOKE MAINTAIN ON pages FROM @app`
		holes = append(holes, hole)
	}
	for _, hole := range holes {
		named := strings.NewReplacer("@app", d.login.Role, "@admin", d.Admin.Role, "@owner", d.Owner.Role, "@signer", d.signer, "@db", d.Name)
		d.AsSuperuser(t, named.Replace(hole.make))
		_, err := d.open(t, d.config(t))
		require.ErrorContains(t, err, hole.words, hole.make)
		require.Contains(t, d.codes(t), hole.code, hole.make)
		d.AsSuperuser(t, named.Replace(hole.undo))
		_, err = d.open(t, d.config(t))
		require.NoError(t, err, hole.undo)
		shown[hole.code] = true
	}
	require.Empty(t, d.codes(t))
	require.Empty(t, d.codesFor(t, d.login.DSN), "whichever role asks")
	d.AsSuperuser(t, `ALTER ROLE `+d.login.Role+` RESET track_activities`)
	require.Equal(t, []string{"signed-statements-visible"}, d.codesFor(t, d.login.DSN))
	for _, right := range signing.Wall {
		require.True(t, shown[right.Code] || !right.Refused, "no database shows %s", right.Code)
	}
}

// TestWallIsAskedWithPostgreSQLsOperators: an operator of a schema before pg_catalog would answer that the login has no right at all.
func TestWallIsAskedWithPostgreSQLsOperators(t *testing.T) {
	t.Parallel()
	d := newWalled(t, true)
	d.AsSuperuser(t, `GRANT pg_read_all_data TO `+d.login.Role, `CREATE SCHEMA fake`, `GRANT USAGE ON SCHEMA fake TO PUBLIC`,
		`CREATE FUNCTION fake.never(name, name) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false'`,
		`CREATE OPERATOR fake.= (leftarg = name, rightarg = name, function = fake.never)`)
	for path, want := range map[string]error{
		`fake, pg_catalog, public`: tenancy.ErrUnsafeSettings,
		`public, fake, pg_catalog`: tenancy.ErrUnsafeSettings,
		`fake, public`:             tenancy.ErrUnsafeRole, // pg_catalog comes first
		`pg_catalog, fake, public`: tenancy.ErrUnsafeRole,
	} {
		d.AsSuperuser(t, `ALTER ROLE `+d.login.Role+` SET search_path = `+path)
		_, err := d.open(t, d.config(t))
		require.ErrorIs(t, err, want, path)
	}
}

// closeLargeObjects takes away the functions that make them.
func (d walled) closeLargeObjects(t *testing.T) {
	t.Helper()
	d.AsSuperuser(t, `REVOKE EXECUTE ON FUNCTION lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC`)
}

// codes are what the check finds about the login and the keys.
func (d walled) codes(t *testing.T) []string { return d.codesFor(t, d.SuperuserDSN(t)) }

func (d walled) codesFor(t *testing.T, dsn string) []string {
	t.Helper()
	report, err := rls.Isolation{AppRole: d.login.Role, AdminRole: d.Admin.Role, Signed: true, SignerRole: d.signer}.
		Check(t.Context(), testdb.OpenPlain(t, dsn))
	require.NoError(t, err)
	codes := []string{}
	for _, f := range report.Findings {
		if strings.HasPrefix(string(f.Code), "signed-") {
			codes = append(codes, string(f.Code))
		}
	}
	unseen := slices.ContainsFunc(report.NotChecked, func(s string) bool { return strings.Contains(s, "signing keys") })
	require.Equal(t, dsn == d.login.DSN, unseen)
	return codes
}

// TestCheckCountsSigningKeys, where the role that asks may.
func TestCheckCountsSigningKeys(t *testing.T) {
	t.Parallel()
	d := newWalled(t, true)
	codes := func() []check.Code {
		report, err := rls.Isolation{AppRole: d.login.Role, Signed: true}.Check(t.Context(), d.OwnerDB)
		require.NoError(t, err)
		var found []check.Code
		for _, f := range report.Findings {
			if strings.HasPrefix(string(f.Code), "signed-key") {
				found = append(found, f.Code)
			}
		}
		return found
	}
	require.Empty(t, codes())
	d.asSigner(t, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), `INSERT INTO tenancy_signed.keys SELECT 'old ' || n, '', '' FROM generate_series(1, 2) n`)
		require.NoError(t, err)
		require.Equal(t, []check.Code{check.SignedKeysMany}, codes())
		_, err = conn.Exec(t.Context(), `DELETE FROM tenancy_signed.keys`)
		require.NoError(t, err)
	})
	require.Equal(t, []check.Code{check.SignedKeyMissing}, codes())
}

// TestCheckRefusesMissingLogin, of which it would know nothing.
func TestCheckRefusesMissingLogin(t *testing.T) {
	t.Parallel()
	d := newWalled(t, true)
	_, err := rls.Isolation{AppRole: d.login.Role, Signed: true}.Check(t.Context(), d.OwnerDB, check.Login("nobody_of_"+d.Name))
	require.ErrorContains(t, err, "does not exist")
}

// TestLargeObjectsKeepTheApplicationFromStarting: where SQL of a tenant can make one, no instance starts until an operator has removed it.
func TestLargeObjectsKeepTheApplicationFromStarting(t *testing.T) {
	t.Parallel()
	d := newWalled(t, true)
	require.Equal(t, []string{"signed-large-objects-created"}, d.codes(t))
	db, err := d.open(t, d.config(t))
	require.NoError(t, err)
	attack := func() error {
		return db.WithContext(tenancy.WithTenant(context.Background(), "a")).Exec(`SELECT lo_from_bytea(0, 'x')`).Error
	}
	require.NoError(t, attack())
	_, err = d.open(t, d.config(t))
	require.ErrorContains(t, err, "large objects")
	d.AsSuperuser(t, `SELECT lo_unlink(oid) FROM pg_largeobject_metadata`)
	d.closeLargeObjects(t)
	require.ErrorContains(t, attack(), "42501")
	require.Empty(t, d.codes(t))
}

// TestStatementsThatAreVisible: what SQL of the login reads of the other sessions of the login, where the server does not hide it. Values in
// texts are shown, arguments and proofs are not.
func TestStatementsThatAreVisible(t *testing.T) {
	t.Parallel()
	d := newWalled(t, true)
	open := func(cfg tenancy.Config) *gorm.DB {
		db, err := d.open(t, cfg)
		require.NoError(t, err)
		return db
	}
	seen := func(victim, attacker *gorm.DB) string {
		var texts []string
		require.NoError(t, victim.WithContext(tenancy.WithTenant(context.Background(), "b")).Transaction(func(tx *gorm.DB) error {
			for _, statement := range []func() error{
				func() error { return tx.Exec(`UPDATE pages SET text = text WHERE text = ?`, "an argument").Error },
				func() error { return tx.Exec(`UPDATE pages SET text = text WHERE text = 'a literal'`).Error },
			} {
				require.NoError(t, statement())
				var now []string
				require.NoError(t, attacker.WithContext(tenancy.WithTenant(context.Background(), "a")).
					Raw(`SELECT coalesce(query, '') FROM pg_stat_activity WHERE usename = session_user AND pid <> pg_backend_pid()`).Scan(&now).Error)
				texts = append(texts, now...)
			}
			return nil
		}))
		return strings.Join(texts, "\n")
	}
	hidden := seen(open(d.config(t)), open(d.config(t)))
	require.NotContains(t, hidden, "UPDATE")

	d.AsSuperuser(t, `ALTER ROLE `+d.login.Role+` RESET track_activities`)
	_, err := d.open(t, d.config(t))
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "docs/injection.md")
	var log bytes.Buffer
	cfg := d.config(t)
	cfg.DangerouslyShowStatements, cfg.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
	victim := open(cfg)
	require.Contains(t, log.String(), "DangerouslyShowStatements")
	shown := seen(victim, open(cfg))
	require.Contains(t, shown, "a literal")
	require.Contains(t, shown, "text = $1")
	require.NotContains(t, shown, "an argument")
	require.NotContains(t, shown, "1tp", "a proof")

	// Nothing else is excused by it.
	d.AsSuperuser(t, `GRANT pg_read_all_stats TO `+d.login.Role)
	_, err = d.open(t, cfg)
	require.ErrorContains(t, err, "signed-role-predefined")
	d.AsSuperuser(t, `REVOKE pg_read_all_stats FROM `+d.login.Role)

	// The functions can be taken away instead, and monitoring goes on.
	d.AsSuperuser(t, `REVOKE EXECUTE ON FUNCTION pg_stat_get_activity(int), pg_stat_get_backend_activity(int) FROM PUBLIC`)
	db := open(d.config(t))
	require.NotContains(t, d.codes(t), "signed-statements-visible")
	require.ErrorContains(t, db.WithContext(tenancy.WithTenant(context.Background(), "a")).Exec(`SELECT query FROM pg_stat_activity`).Error, "42501")
}
