package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSeverities(t *testing.T) {
	require.Equal(t, "low medium high critical severity(7)",
		strings.Join([]string{Low.String(), Medium.String(), High.String(), Critical.String(), Severity(7).String()}, " "))
	require.Less(t, Low, Critical)
}

func TestReport(t *testing.T) {
	require.True(t, Report{}.OK())
	require.NoError(t, Report{}.Err())
	require.Empty(t, Report{}.SQL())

	r := Report{Findings: []Finding{
		{Code: TableNotEnabled, Severity: Critical, Object: "public.a", Problem: "All is open.", Fix: "ALTER TABLE a ENABLE;"},
		{Code: ServerCVE20232455, Severity: High, Object: "server", Problem: "Upgrade it."},
		{Code: PolicyVolatile, Severity: Medium, Object: "policy a\nb on public.a", Problem: "It is slow.", Fix: "DROP POLICY x;\nCREATE POLICY y;"},
	}}
	require.False(t, r.OK())
	require.EqualError(t, r.Err(),
		"tenancy: 3 findings: table-not-enabled (public.a), server-cve-2023-2455 (server), policy-volatile (policy a\nb on public.a)")
	require.Equal(t, `-- policy-volatile: policy a b on public.a
DROP POLICY x;
CREATE POLICY y;

-- table-not-enabled: public.a
ALTER TABLE a ENABLE;
`, r.SQL())
	require.Equal(t, "critical: table-not-enabled: public.a: All is open.", r.Findings[0].String())
}

func TestRules(t *testing.T) {
	seen := map[Code]bool{}
	for _, r := range Rules() {
		require.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)+$`, string(r.Code))
		require.False(t, seen[r.Code], "%s is found twice", r.Code)
		seen[r.Code] = true
	}
	require.False(t, seen[SharedTable])
}

func TestServerReleases(t *testing.T) {
	for version, want := range map[int][]Code{
		90624:  {ServerCVE202410976, ServerCVE20232455, ServerCVE20258713},
		130022: {ServerCVE202410976, ServerCVE20232455, ServerCVE20258713}, // maintained no more
		140007: {ServerCVE202410976, ServerCVE20232455, ServerCVE20258713},
		140008: {ServerCVE202410976, ServerCVE20258713},
		140014: {ServerCVE20258713},
		140019: nil,
		150002: {ServerCVE202410976, ServerCVE20232455, ServerCVE20258713},
		150009: {ServerCVE20258713},
		150014: nil,
		160000: {ServerCVE202410976, ServerCVE20258713},
		160005: {ServerCVE20258713},
		160010: nil,
		170000: {ServerCVE202410976, ServerCVE20258713},
		170005: {ServerCVE20258713},
		170006: nil,
		180000: nil,
	} {
		c := &checker{}
		judge(c, serverRules, []server{{version: version}})
		var got []Code
		for _, f := range c.findings {
			got = append(got, f.Code)
		}
		require.Equal(t, want, got, version)
	}
	c := &checker{}
	judge(c, serverRules, []server{{version: 170005}, {version: 130022}})
	require.Contains(t, c.findings[0].Problem, "upgrade PostgreSQL 17.5 to 17.6 or later.")
	require.Contains(t, c.findings[1].Problem, "upgrade PostgreSQL 13 to a release that is maintained.")
}
