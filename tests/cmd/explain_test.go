package cmd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// filled has enough rows that PostgreSQL wants an index.
func filled(t *testing.T) database {
	t.Helper()
	d := newDatabase(t)
	d.AsOwner(t, `ALTER TABLE patients NO FORCE ROW LEVEL SECURITY;
		INSERT INTO patients (tenant_id, name) SELECT 'tenant ' || n % 500, 'x' FROM generate_series(1, 20000) n;
		ALTER TABLE patients FORCE ROW LEVEL SECURITY;
		ANALYZE patients`)
	return d
}

func TestExplain(t *testing.T) {
	d := filled(t)
	r := tenancy(t, "explain", "--dsn", d.App.DSN, "--tenant", "tenant 7", "SELECT * FROM patients")
	require.Equal(t, 0, r.exit, r.errors)
	require.Contains(t, r.out, "(tenant_id = ", "the plan has the policy")
	require.NotContains(t, r.out, "actual time")
	require.Contains(t, r.out, "Yes: public.patients is read through the index")
	require.NotContains(t, r.out, "Attention")

	r = command{args: []string{"explain", "--tenant", "tenant 7", "-"}, url: d.App.DSN, stdin: "-- a comment\nSELECT * FROM countries"}.run(t)
	require.Equal(t, 0, r.exit, r.errors)
	require.Contains(t, r.out, "The plan reads no table that has the column tenant_id.")

	r = tenancy(t, "explain", "--dsn", d.Owner.DSN, "--tenant", "tenant 7", "SELECT * FROM patients")
	require.Contains(t, r.out, "Yes: public.patients", "owners too, with FORCE")
	d.AsOwner(t, "ALTER TABLE patients NO FORCE ROW LEVEL SECURITY")
	r = tenancy(t, "explain", "--dsn", d.Owner.DSN, "--tenant", "tenant 7", "SELECT * FROM patients")
	require.Contains(t, r.out, "No: public.patients is read by Seq Scan, although")
	require.Contains(t, r.out, "Attention: no policy applies to role "+d.Owner.Role+" on public.patients")
}

func TestExplainAsAnotherRole(t *testing.T) {
	d := filled(t)
	r := tenancy(t, "explain", "--dsn", d.App.DSN, "--app-role", d.Admin.Role, "--tenant", "tenant 7", "SELECT * FROM patients")
	require.Equal(t, 0, r.exit, r.errors)
	require.Contains(t, r.out, "No: public.patients is read by Seq Scan, without a condition on tenant_id: the policies for role "+d.Admin.Role)
}

func TestExplainOfAnOpenPolicy(t *testing.T) {
	d := filled(t)
	d.AsOwner(t, "CREATE POLICY everyone ON patients FOR SELECT USING (true)")
	r := tenancy(t, "explain", "--dsn", d.App.DSN, "--tenant", "tenant 7", "SELECT * FROM patients WHERE name = 'x'")
	require.Contains(t, r.out, "without a condition on tenant_id: the policies for role "+d.App.Role+" let the rows of all tenants through.")
}

func TestExplainRunsNothingForGood(t *testing.T) {
	d := filled(t)
	for _, statement := range []string{
		"DELETE FROM patients",
		"INSERT INTO patients (name) VALUES ('new')",
		"UPDATE patients SET name = 'y'",
	} {
		r := tenancy(t, "explain", "--dsn", d.App.DSN, "--tenant", "tenant 7", statement)
		require.Equal(t, 0, r.exit, r.errors)
		require.NotContains(t, r.out, "actual time")
		r = tenancy(t, "explain", "--dsn", d.App.DSN, "--tenant", "tenant 7", "--analyze", statement)
		require.Equal(t, 0, r.exit, r.errors)
		require.Contains(t, r.out, "actual time")
	}
	r := tenancy(t, "explain", "--dsn", d.App.DSN, "--tenant", "tenant 7", "--analyze", "SELECT * FROM patients")
	require.Regexp(t, `actual time=\S+ rows=40`, r.out, "the tenant has what it had")
}

func TestExplainRefuses(t *testing.T) {
	d := filled(t)
	for statement, why := range map[string]string{
		"SELECT 1; COMMIT":                   "multiple commands",
		"COMMIT":                             "syntax error",
		"SELECT * FROM nowhere":              `"nowhere" does not exist`,
		"SELECT * FROM patients WHERE id=$1": "write values instead of parameters",
	} {
		tenancy(t, "explain", "--dsn", d.App.DSN, "--tenant", "tenant 7", statement).failed(t, why)
	}
}

// TestExplainOfASignedDatabase: the plan has the proof in an InitPlan, and words say so.
func TestExplainOfASignedDatabase(t *testing.T) {
	t.Parallel()
	d := testdb.NewSigned(t, &Patient{}, &Country{})
	d.AsSuperuser(t, `INSERT INTO patients (tenant_id, name) SELECT 'tenant ' || n % 500, 'x' FROM generate_series(1, 20000) n`, `ANALYZE patients`,
		`GRANT `+d.App.Role+` TO `+d.Owner.Role)
	const once = "It is verified once for the statement"
	explain := func(dsn string, more ...string) result {
		return tenancy(t, append([]string{"explain", "--dsn", dsn, "--tenant", "tenant 7"}, more...)...)
	}
	for _, role := range [][]string{{"--app-role", d.App.Role}, nil} {
		r := explain(d.Owner.DSN, append(role, "SELECT * FROM patients")...)
		require.Zero(t, r.exit, r.errors)
		require.Contains(t, r.out, "Yes: public.patients is read through the index")
		require.Contains(t, r.out, once)
		require.NotContains(t, r.out, "Attention")
		require.NotContains(t, r.out, "No signature")
		r = explain(d.Owner.DSN, append(role, "--analyze", "SELECT * FROM patients")...)
		require.Zero(t, r.exit, r.errors)
		require.Regexp(t, `actual time=\S+ rows=40`, r.out, "the tenant has what it had")
		require.Contains(t, r.out, once)
	}
	r := explain(d.Owner.DSN, "SELECT * FROM countries")
	require.NotContains(t, r.out, "signature", "which is for tenant tables")

	// A login that may not sign gets the plan, and no run that would find nothing.
	r = explain(d.App.DSN, "SELECT * FROM patients")
	require.Zero(t, r.exit, r.errors)
	require.Contains(t, r.out, once)
	require.Contains(t, r.out, "No signature was made")
	require.Contains(t, r.out, "log in as a member of the role")
	explain(d.App.DSN, "--analyze", "SELECT * FROM patients").failed(t, "the policies demand a signature", "log in as a member")
	d.RetireKey(t, "first")
	explain(d.Owner.DSN, "--analyze", "SELECT * FROM patients").failed(t, "the database has no key")

	// A policy by hand that verifies for each row.
	d.AsOwner(t, `DROP POLICY tenant_isolation ON patients`, `CREATE POLICY by_hand ON patients USING (tenant_id = tenancy_signed.tenant('app.tenant_id'))`)
	r = explain(d.App.DSN, "SELECT * FROM patients WHERE name || '' = 'x' AND tenant_id || '' = 'y'")
	require.Contains(t, r.out, "Attention: the policies verify a signature of the tenant (tenancy_signed), for each row")
}
