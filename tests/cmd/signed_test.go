package cmd_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Doctor is looked up before the tenant is known.
type Doctor struct {
	ID       int64
	TenantID string
	Email    string
}

func signedDatabase(t *testing.T) database {
	t.Helper()
	d := database{testdb.NewSigned(t)}
	d.Migrate(t, signedIsolation(d), &Patient{}, &Doctor{})
	return d
}

func signedIsolation(d database) rls.Isolation {
	isolation := d.Isolation()
	isolation.LookupRole = d.Lookup.Role
	isolation.Lookups = []rls.Lookup{{Model: &Doctor{}, Columns: []string{"email"}}}
	return isolation
}

// TestDiffOfSignatures: a signature that a policy demands no more, or one for lookups, is dangerous whether an option says that it is to be
// there or not; one that it demands from now on is safe.
func TestDiffOfSignatures(t *testing.T) {
	t.Parallel()
	d := signedDatabase(t)
	take := func(options ...string) string {
		t.Helper()
		r := tenancy(t, append(d.roles("snapshot", "--dsn", d.Owner.DSN, "--lookup-role", d.Lookup.Role), options...)...)
		require.Zero(t, r.exit, r.errors)
		file := filepath.Join(t.TempDir(), "snapshot.json")
		write(t, file, r.out)
		return file
	}
	verdictsOf := func(before, after string, options ...string) map[string]string {
		t.Helper()
		verdicts := map[string]string{}
		for _, found := range differences(t, before, after, options...) {
			verdicts[found.Object+": "+found.Subject] = found.Verdict + ": " + found.Reason
		}
		return verdicts
	}
	const policyOfPatients, lookup = "table public.patients: policy tenant_isolation", "table public.doctors: policy tenant_lookup"
	demanded := take()
	require.Empty(t, differences(t, demanded, d.Owner.DSN, "--lookup-role", d.Lookup.Role), "a database in place of a file")

	isolation := signedIsolation(d)
	isolation.DangerouslyAcceptUnsigned = true
	d.Migrate(t, isolation, &Patient{}, &Doctor{})
	either := take()
	found := verdictsOf(demanded, either)
	require.Contains(t, found[policyOfPatients], "dangerous: It demands no signature of the tenant")
	require.Contains(t, found[lookup], "dangerous: ")
	found = verdictsOf(either, demanded, "--signed")
	require.Contains(t, found[policyOfPatients], "safe: It demands a signature")
	require.Contains(t, found[lookup], "safe: ")

	isolation.Signed, isolation.DangerouslyAcceptUnsigned = false, false
	d.Migrate(t, isolation, &Patient{}, &Doctor{})
	unsigned := take()
	require.Contains(t, verdictsOf(demanded, unsigned)[policyOfPatients], "dangerous: ")
	require.Contains(t, verdictsOf(unsigned, demanded)[policyOfPatients], "safe: ")

	// A new table: how it is judged depends on what is demanded.
	d.Migrate(t, isolation, &Patient{}, &Doctor{}, &Invoice{})
	const invoices = "table public.invoices: table"
	require.Contains(t, verdictsOf(unsigned, take())[invoices], "neutral: ")
	require.Contains(t, verdictsOf(unsigned, take(), "--signed")[invoices], "dangerous: ")
	require.Contains(t, verdictsOf(unsigned, take("--signed"))[invoices], "dangerous: ", "the file says so")
	isolation.Signed = true
	d.Migrate(t, isolation, &Patient{}, &Doctor{}, &Invoice{})
	require.Contains(t, verdictsOf(demanded, take())[invoices], "neutral: ")

	// What verifies is trusted as this version makes it, and only so.
	plain := database{testdb.New(t, &Patient{})}.record(t)
	const function = "function tenancy_signed.tenant(text)"
	require.Contains(t, verdictsOf(plain, demanded)[function+": function"], "neutral: It verifies signatures")
	d.AsSuperuser(t, `CREATE OR REPLACE FUNCTION tenancy_signed.tenant(setting text) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS 'BEGIN RETURN ''x''; END'`)
	found = verdictsOf(demanded, take())
	require.Contains(t, found[function+": verifies signatures"], "dangerous: ")
	require.Contains(t, found[policyOfPatients], "dangerous: ")
}

// TestAdoptOfSignatures: --signed says for each table what its policy does with signatures, and what the next step is.
func TestAdoptOfSignatures(t *testing.T) {
	t.Parallel()
	d := signedDatabase(t)
	report := func(exit int, options ...string) (signatures, needs map[string]string) {
		t.Helper()
		ran := tenancy(t, append([]string{"adopt", "--dsn", d.Owner.DSN, "--format", "json"}, options...)...)
		require.Equal(t, exit, ran.exit, ran.out+ran.errors)
		var out struct {
			Tables []struct {
				Table, Signature string
				Needs            []struct{ Problem, Step string }
			}
		}
		parse(t, ran.out, &out)
		signatures, needs = map[string]string{}, map[string]string{}
		for _, table := range out.Tables {
			signatures[table.Table] = table.Signature
			for _, n := range table.Needs {
				needs[table.Table] += n.Problem + ": " + n.Step + "; "
			}
		}
		return signatures, needs
	}
	signatures, needs := report(0, "--signed")
	require.Equal(t, "demanded", signatures["patients"])
	require.Empty(t, needs["patients"])
	signatures, _ = report(0)
	require.Empty(t, signatures["patients"], "not asked for")

	isolation := signedIsolation(d)
	isolation.DangerouslyAcceptUnsigned = true
	d.Migrate(t, isolation, &Patient{}, &Doctor{})
	signatures, needs = report(1, "--signed")
	require.Equal(t, "accepted", signatures["patients"])
	require.Contains(t, needs["patients"], "takes statements without a signature of the tenant as well: rls.Isolation.Signed without DangerouslyAcceptUnsigned")
	_, needs = report(0, "--signed", "--dangerously-accept-unsigned")
	require.Empty(t, needs["patients"])

	isolation.Signed, isolation.DangerouslyAcceptUnsigned = false, false
	d.Migrate(t, isolation, &Patient{}, &Doctor{})
	signatures, needs = report(1, "--signed", "--dangerously-accept-unsigned")
	require.Equal(t, "none", signatures["patients"])
	require.Contains(t, needs["patients"], "asks for no signature of the tenant: rls.Isolation.Signed")
	report(0)
	tenancy(t, "adopt", "--dsn", d.Owner.DSN, "--dangerously-accept-unsigned").failed(t, "is for --signed")
}
