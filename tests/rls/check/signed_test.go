package check_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// letter is of a tenant table that asks for a signature.
type letter struct {
	ID       int64
	TenantID string
	Body     string
}

// signedWall takes from the application what statements of signed tenants do not need.
const signedWall = `
	REVOKE {admin} FROM {app};
	REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	REVOKE EXECUTE ON FUNCTION lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
	ALTER ROLE {app} SET track_activities = off`

// signedDatabase makes a database whose policies demand a signature, in which everything is right.
func signedDatabase(t *testing.T) database {
	t.Helper()
	d := newDatabase(t)
	d.run(t, d.super, `CREATE ROLE signer_of_{app}; GRANT signer_of_{app} TO {owner}; GRANT CREATE ON DATABASE {database} TO {owner};`+signedWall)
	_, err := d.signed().Migrate(t.Context(), open(t, d.Owner.DSN, &gorm.Config{}), &letter{})
	require.NoError(t, err)
	d.run(t, d.super, `SELECT tenancy_signed.add_key('one', decode(repeat('6b', 32), 'hex')); INSERT INTO letters (tenant_id, body) VALUES ('acme', 'of acme')`)
	return d
}

// signed is what the database is checked for.
func (d database) signed() rls.Isolation {
	i := d.isolation()
	i.Signed, i.SignerRole = true, "signer_of_"+d.role
	return i
}

// readsStatements is an attack that reads the text of the last statement of another session.
func readsStatements(victim login, before string) attack {
	return func(t *testing.T, d database) bool {
		conn, err := pgx.Connect(t.Context(), victim(d))
		require.NoError(t, err)
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), "SELECT 'of acme'")
		require.NoError(t, err)
		return leaks(ofAcme, fmt.Sprintf("%sSELECT query FROM pg_stat_activity WHERE pid = %d", before, conn.PgConn().PID()))(t, d)
	}
}

// signedHoles are all that can be found of signed databases alone, by name.
var signedHoles = map[string]hole{
	"the keys are readable": {
		code: check.SignedKeysReachable, object: "table tenancy_signed.keys", says: "{app} can read or change the signing keys",
		open:   `GRANT SELECT ON tenancy_signed.keys TO PUBLIC; GRANT UPDATE (id) ON tenancy_signed.keys TO {app}`,
		attack: leaks("one", "SELECT id, inner_pad, outer_pad FROM tenancy_signed.keys"),
	},
	"the signer role can be taken": {
		code: check.SignedKeysReachable, object: "table tenancy_signed.keys",
		open:   `GRANT signer_of_{app} TO {app}`,
		attack: leaks("one", "SET LOCAL ROLE signer_of_{app}; SELECT id, inner_pad, outer_pad FROM tenancy_signed.keys"),
	},
	"a role without policies can be taken": {
		code: check.SignedRoleUnbound, object: "role reports_of_{app}", says: "has BYPASSRLS",
		open:   `CREATE ROLE reports_of_{app} BYPASSRLS; GRANT SELECT ON letters TO reports_of_{app}; GRANT reports_of_{app} TO {app}`,
		attack: leaks(ofAcme, "SET LOCAL ROLE reports_of_{app}; SELECT body FROM letters"),
	},
	"it makes roles itself": {
		code: check.SignedRoleUnbound, object: "role {app}", says: "has CREATEROLE",
		open:   `ALTER ROLE {app} CREATEROLE`,
		attack: does("CREATE ROLE more_of_{app}"),
	},
	"a role of PostgreSQL's own": {
		code: check.SignedRolePredefined, object: "role pg_read_all_stats", says: "{app} is a member of pg_read_all_stats",
		open:   `GRANT pg_read_all_stats TO {app}`,
		attack: readsStatements(owner, "SET LOCAL ROLE pg_read_all_stats; "),
	},
	"the admin role can be taken": {
		code: check.SignedRoleExempt, object: "role {admin}", says: "Config.AdminDB",
		open:   `GRANT {admin} TO {app}`,
		attack: leaks(ofAcme, "SET LOCAL ROLE {admin}; SELECT body FROM letters"),
	},
	"a function is its own": {
		code: check.SignedOwns, object: "role {app}", says: "owns function public.greeting()",
		open: `CREATE FUNCTION greeting() RETURNS text LANGUAGE sql AS 'SELECT ''hello'''; ALTER FUNCTION greeting() OWNER TO {app};
			GRANT CREATE ON SCHEMA public TO {app}`,
		attack: does("CREATE OR REPLACE FUNCTION greeting() RETURNS text LANGUAGE sql AS 'SELECT ''mine'''"),
	},
	"it makes schemas": {
		code: check.SignedCreate, object: "database {database}", says: "schemas",
		open:   `GRANT CREATE ON DATABASE {database} TO {app}`,
		attack: does("CREATE SCHEMA mine"),
	},
	"it makes objects": {
		code: check.SignedCreate, object: "schema public", says: "objects",
		open:   `GRANT CREATE ON SCHEMA public TO PUBLIC`,
		attack: does("CREATE FUNCTION public.length(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
	},
	"the right to empty a table": {
		code: check.SignedRightsWithoutPolicy, object: "table public.letters", says: "has TRUNCATE on the table public.letters",
		open:   `GRANT TRUNCATE ON letters TO {app}`,
		attack: does("TRUNCATE letters"),
	},
	"the right to set back a sequence": {
		code: check.SignedRightsWithoutPolicy, object: "sequence public.letters_id_seq", says: "has UPDATE on the sequence",
		open:   `GRANT UPDATE ON SEQUENCE letters_id_seq TO PUBLIC`,
		attack: does("SELECT setval('letters_id_seq', 1)"),
	},
	"temporary tables": {
		code: check.SignedTemporary, object: "database {database}",
		open:   `GRANT TEMPORARY ON DATABASE {database} TO PUBLIC`,
		attack: does("CREATE TEMPORARY TABLE letters (body text)"),
	},
	"statements are recorded": {
		code: check.SignedStatementsRecorded, object: "FUNCTION public.pg_stat_statements(boolean)",
		open:   `CREATE EXTENSION pg_stat_statements; REVOKE ALL ON pg_stat_statements FROM PUBLIC`,
		attack: fails("55000", "SELECT query FROM pg_stat_statements(true)"), // it may, where the module is loaded
	},
	"a large object is open": {
		code: check.SignedLargeObjects, object: "large objects",
		open:   `SELECT lo_from_bytea(4714, 'of acme'); GRANT SELECT ON LARGE OBJECT 4714 TO {app}`,
		attack: leaks(ofAcme, "SELECT convert_from(lo_get(4714), 'UTF8')"),
	},
	"large objects can be made": {
		code: check.SignedLargeObjectsCreated, object: "role {app}",
		open:   `GRANT EXECUTE ON FUNCTION lo_from_bytea(oid, bytea) TO PUBLIC`,
		attack: does("SELECT lo_from_bytea(0, 'x')"),
	},
	"statements are visible": {
		code: check.SignedStatementsVisible, object: "role {app}", says: "pg_stat_activity",
		open:   `ALTER ROLE {app} RESET track_activities`,
		attack: readsStatements(application, ""),
	},
	"a function verifies nothing": {
		code: check.SignedFunctionsDiffer, object: "schema tenancy_signed", says: "Run Migrate.",
		open: `CREATE OR REPLACE FUNCTION tenancy_signed.tenant(setting text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS
			'SELECT current_setting(setting, true)'`,
		attack: leaks(ofAcme, "SELECT set_config('app.tenant_id', 'acme', true); SELECT body FROM letters"),
	},
	"statements without a signature are taken": {
		code: check.SignedNotDemanded, object: "policy tenant_isolation on public.letters", says: "without a key is left",
		open: `ALTER POLICY tenant_isolation ON letters USING (tenant_id = (SELECT tenancy_signed.tenant_or_unsigned('app.tenant_id')))
			WITH CHECK (tenant_id = (SELECT tenancy_signed.tenant_or_unsigned('app.tenant_id')))`,
		attack: leaks(ofAcme, "SELECT set_config('app.tenant_id', 'acme', true); SELECT body FROM letters"),
	},
	"no key": {
		code: check.SignedKeyMissing, object: "table tenancy_signed.keys",
		open: `DELETE FROM tenancy_signed.keys`,
	},
	"old keys": {
		code: check.SignedKeysMany, object: "table tenancy_signed.keys", says: "There are 3 signing keys",
		open: `INSERT INTO tenancy_signed.keys VALUES ('two', '', ''), ('three', '', '')`,
	},
}

func TestCheckFindsHolesOfSignedDatabases(t *testing.T) {
	for name, hole := range signedHoles {
		t.Run(name, hole.testSigned)
	}
}

// testSigned opens the hole, attacks, checks, fixes, and attacks and checks again.
func (hole hole) testSigned(t *testing.T) {
	t.Parallel()
	d := signedDatabase(t)
	run := func() check.Report {
		report, err := d.signed().Check(t.Context(), open(t, d.super, &gorm.Config{}), d.patched())
		require.NoError(t, err)
		return report
	}
	require.Empty(t, found(run()))
	if hole.attack != nil {
		require.False(t, hole.attack(t, d), "the attack must fail in the clean database")
	}
	d.run(t, d.super, hole.open)
	if hole.attack != nil {
		require.True(t, hole.attack(t, d), "the attack must succeed while the hole is open")
	}
	report := run()
	var finding check.Finding
	for _, f := range report.Findings {
		if f.Code == hole.code && f.Object == d.fill(hole.object) {
			finding = f
		}
	}
	require.NotEmpty(t, finding.Code, found(report))
	require.Regexp(t, `^[A-Z].*\.$`, finding.Problem)
	require.NotContains(t, finding.Problem, "%")
	require.Contains(t, finding.Problem, d.fill(hole.says))
	switch hole.code {
	case check.SignedFunctionsDiffer:
		_, err := d.signed().Migrate(t.Context(), open(t, d.Owner.DSN, &gorm.Config{}), &letter{})
		require.NoError(t, err)
	case check.SignedKeyMissing, check.SignedKeysMany:
		require.Empty(t, finding.Fix)
		d.run(t, d.super, `DELETE FROM tenancy_signed.keys; SELECT tenancy_signed.add_key('one', decode(repeat('6b', 32), 'hex'))`)
	default:
		if hole.code == check.SignedNotDemanded {
			require.True(t, strings.HasPrefix(finding.Fix, "-- when no instance"), finding.Fix)
		} else {
			require.True(t, strings.HasPrefix(finding.Fix, superuser), finding.Fix)
		}
		require.Contains(t, report.SQL(), finding.Fix)
		d.run(t, d.super, report.SQL())
	}
	if hole.attack != nil {
		require.False(t, hole.attack(t, d), "the attack must fail once the hole is fixed")
	}
	require.Empty(t, found(run()))
}

// TestCheckOfSignedRightsIsForSignedDatabases: where nothing is signed, the application may have them.
func TestCheckOfSignedRightsIsForSignedDatabases(t *testing.T) {
	d := cleanDatabase(t)
	require.Empty(t, found(d.check(t, d.allowances()...)))
	for _, r := range signing.Wall {
		require.True(t, strings.HasPrefix(r.Code, "signed-"), r.Code)
	}
}

// TestCheckWithoutSignedShowsNoSQLForSignedDatabases: a policy that it makes would take the signature away.
func TestCheckWithoutSignedShowsNoSQLForSignedDatabases(t *testing.T) {
	d := signedDatabase(t)
	d.run(t, d.super, `CREATE TABLE bare (id bigint PRIMARY KEY, tenant_id text NOT NULL); GRANT SELECT ON bare TO {app};
		CREATE POLICY everything ON letters TO {app} USING (true)`)
	report, err := d.isolation().Check(t.Context(), open(t, d.super, &gorm.Config{}), d.patched())
	require.NoError(t, err)
	codes := map[check.Code]string{}
	for _, f := range report.Findings {
		codes[f.Code] = f.Object
		require.Empty(t, f.Fix)
	}
	require.Equal(t, "policy tenant_isolation on public.letters", codes[check.SignedNotExpected])
	require.Equal(t, "policy everything on public.letters", codes[check.PolicyAlwaysTrue])
	require.Equal(t, "public.bare", codes[check.TableNotEnabled])
	require.NotContains(t, codes, check.PolicyNotCanonical)
	require.NotContains(t, report.SQL(), "current_setting")
}
