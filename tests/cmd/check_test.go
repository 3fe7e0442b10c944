package cmd_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestCheckOfACleanDatabase(t *testing.T) {
	d := newDatabase(t)
	r := tenancy(t, d.options(t, "check")...)
	require.Equal(t, 0, r.exit, r.out+r.errors)
	require.Empty(t, r.errors)
	require.Contains(t, r.out, "No findings in 2 tenant tables, for the role "+d.App.Role)

	options := d.options(t, "check")
	options = append(options[:1], options[3:]...)
	r = command{args: options, url: d.App.DSN}.run(t)
	require.Equal(t, 0, r.exit, "DATABASE_URL, and the application's own login: %s", r.errors)
}

func TestCheckFindsHoles(t *testing.T) {
	d := newDatabase(t)
	d.spoil(t)
	r := tenancy(t, d.options(t, "check")...)
	require.Equal(t, 1, r.exit, r.errors)
	require.Empty(t, r.errors)
	require.NotContains(t, r.out, "\x1b", "no colours where there is no terminal")
	critical, medium := strings.Index(r.out, "CRITICAL (1)"), strings.Index(r.out, "MEDIUM (1)")
	require.GreaterOrEqual(t, critical, 0, r.out)
	require.Greater(t, medium, critical, "the worst first")
	require.Contains(t, r.out[:medium], "table-not-enabled: public.patients")
	require.Contains(t, r.out[medium:], "tenant-column-nullable: public.invoices")
	require.Contains(t, r.out, "ENABLE ROW LEVEL SECURITY")

	for severity, exit := range map[string]int{"low": 1, "medium": 1, "high": 1, "critical": 1} {
		require.Equal(t, exit, tenancy(t, d.options(t, "check", "--fail-on", severity)...).exit, severity)
	}
	allowed := d.options(t, "check", "--allow", "table-not-enabled=public.patients=it is empty, a=b")
	r = tenancy(t, allowed...)
	require.Equal(t, 1, r.exit)
	require.NotContains(t, r.out, "CRITICAL")
	require.Contains(t, r.out, "table-not-enabled: public.patients: it is empty, a=b")
	for severity, exit := range map[string]int{"low": 1, "medium": 1, "high": 0, "critical": 0} {
		require.Equal(t, exit, tenancy(t, append(allowed, "--fail-on", severity)...).exit, severity)
	}
}

func TestCheckNarrowed(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE SCHEMA extra; CREATE TABLE extra.notes (org_id text, body text)")
	r := tenancy(t, d.options(t, "check", "--schema", "public")...)
	require.Equal(t, 0, r.exit, r.out+r.errors)
	r = tenancy(t, d.options(t, "check", "--schema", "extra", "--schema", "public", "--column", "org_id")...)
	require.Equal(t, 1, r.exit, r.errors)
	require.Contains(t, r.out, "extra.notes")
	r = tenancy(t, d.options(t, "check", "--setting", "app.other")...)
	require.Equal(t, 1, r.exit, r.errors)
	require.Contains(t, r.out, "policy-wrong-setting")
}

// What the login may do counts as well, where the application works in another role.
func TestCheckOfALogin(t *testing.T) {
	d := newDatabase(t)
	login := d.App.Role + "_login"
	d.AsSuperuser(t, "CREATE ROLE "+login+" LOGIN SUPERUSER IN ROLE "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE "+login) })
	require.Equal(t, 0, tenancy(t, d.options(t, "check")...).exit)
	r := tenancy(t, d.options(t, "check", "--login-role", login)...)
	require.Equal(t, 1, r.exit, r.errors)
	require.Contains(t, r.out, "role-becomes-superuser: role "+login)
	tenancy(t, d.options(t, "check", "--login-role", "nobody_here")...).failed(t, `--login-role: role "nobody_here" does not exist`)
}

func TestCheckAsJSON(t *testing.T) {
	d := newDatabase(t)
	d.spoil(t)
	type finding struct{ Code, Severity, Object, Problem, Fix, Reason string }
	var report struct {
		Role              string
		Tables            int
		Findings, Allowed []finding
		NotChecked        []string `json:"not_checked"`
	}
	r := tenancy(t, d.options(t, "check", "--format", "json", "--allow", "tenant-column-nullable=public.invoices=old rows")...)
	require.Equal(t, 1, r.exit, r.errors)
	parse(t, r.out, &report)
	require.Equal(t, d.App.Role, report.Role)
	require.Equal(t, 2, report.Tables)
	require.NotNil(t, report.NotChecked)
	require.Len(t, report.Findings, 1)
	f := report.Findings[0]
	require.NotEmpty(t, f.Problem)
	require.Contains(t, f.Fix, "ENABLE ROW LEVEL SECURITY")
	f.Problem, f.Fix = "", ""
	require.Equal(t, finding{Code: "table-not-enabled", Severity: "critical", Object: "public.patients"}, f)
	last := report.Allowed[len(report.Allowed)-1]
	for _, a := range report.Allowed {
		if a.Code == "tenant-column-nullable" {
			last = a
		}
	}
	require.Equal(t, "old rows", last.Reason)
	require.Equal(t, "public.invoices", last.Object)
}

// sarifLog is what the tests read of a log in SARIF 2.1.0.
type sarifLog struct {
	Schema  string `json:"$schema"`
	Version string
	Runs    []sarifRun
}

type sarifRun struct {
	Tool struct {
		Driver struct {
			Name, Version, InformationURI string
			Rules                         []struct {
				ID                   string
				ShortDescription     struct{ Text string }
				DefaultConfiguration struct{ Level string }
			}
		}
	}
	Invocations []struct{ ExecutionSuccessful bool }
	Results     []sarifResult
}

type sarifResult struct {
	RuleID, Level string
	RuleIndex     int
	Message       struct{ Text string }
	Locations     []struct {
		PhysicalLocation struct {
			ArtifactLocation struct{ URI string }
			Region           struct{ StartLine int }
		}
		LogicalLocations []struct{ FullyQualifiedName string }
	}
	PartialFingerprints map[string]string
	Suppressions        []struct{ Kind, Justification string }
}

// What SARIF 2.1.0 demands of a log, and what refers to what in it.
func TestCheckAsSARIF(t *testing.T) {
	d := newDatabase(t)
	d.spoil(t)
	var log sarifLog
	r := tenancy(t, d.options(t, "check", "--format", "sarif", "--location", "models.go", "--allow", "tenant-column-nullable=public.invoices=old rows")...)
	require.Equal(t, 1, r.exit, r.errors)
	parse(t, r.out, &log)
	require.Equal(t, "2.1.0", log.Version)
	require.Contains(t, log.Schema, "sarif-schema-2.1.0.json")
	require.Len(t, log.Runs, 1)
	run := log.Runs[0]
	require.Equal(t, "tenancy", run.Tool.Driver.Name)
	require.True(t, run.Invocations[0].ExecutionSuccessful)
	run.requireRules(t)
	suppressed, hashes := map[string]string{}, map[string]bool{}
	for _, result := range run.Results {
		require.Equal(t, result.RuleID, run.Tool.Driver.Rules[result.RuleIndex].ID)
		hash := result.requireComplete(t)
		require.False(t, hashes[hash], "GitHub would take two results for one")
		hashes[hash] = true
		name := result.RuleID + " " + result.Locations[0].LogicalLocations[0].FullyQualifiedName + " " + result.Level
		suppressed[name] = ""
		for _, s := range result.Suppressions {
			suppressed[name] = s.Kind + ": " + s.Justification
		}
	}
	require.Equal(t, "", suppressed["table-not-enabled public.patients error"])
	require.Equal(t, "external: old rows", suppressed["tenant-column-nullable public.invoices warning"])
}

// requireRules requires that each rule is there once, with a description and a level.
func (run sarifRun) requireRules(t *testing.T) {
	t.Helper()
	ids := map[string]bool{}
	for _, rule := range run.Tool.Driver.Rules {
		require.False(t, ids[rule.ID], "%s twice", rule.ID)
		ids[rule.ID] = true
		require.NotEmpty(t, rule.ShortDescription.Text)
		require.Contains(t, []string{"error", "warning", "note"}, rule.DefaultConfiguration.Level)
	}
}

// requireComplete requires all that GitHub reads of a result, and returns the hash by which it tells results apart.
func (result sarifResult) requireComplete(t *testing.T) (hash string) {
	t.Helper()
	require.NotEmpty(t, result.Message.Text)
	require.NotEmpty(t, result.PartialFingerprints["codeAndObject/v1"])
	hash = result.PartialFingerprints["primaryLocationLineHash"]
	require.Regexp(t, "^[0-9a-f]{16}:1$", hash)
	require.Equal(t, "models.go", result.Locations[0].PhysicalLocation.ArtifactLocation.URI)
	require.Equal(t, 1, result.Locations[0].PhysicalLocation.Region.StartLine)
	require.NotNil(t, result.Suppressions)
	return hash
}

// parse reads the one JSON document that a text is.
func parse(t *testing.T, text string, into any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	require.NoError(t, decoder.Decode(into), text)
	require.False(t, decoder.More())
}

// TestCheckOfASignedDatabase: what is right is silent with --signed alone, and what the login may do too much is found.
func TestCheckOfASignedDatabase(t *testing.T) {
	t.Parallel()
	d := database{testdb.NewSigned(t, &Patient{})}
	options := d.options(t, "check", "--lookup-role", d.Lookup.Role)
	r := tenancy(t, append(options, "--signed")...)
	require.Zero(t, r.exit, r.out+r.errors)
	require.Equal(t, 1, tenancy(t, options...).exit, "the policies are not those of a database without keys")
	d.AsSuperuser(t, "GRANT SELECT ON tenancy_signed.keys TO "+d.App.Role)
	r = tenancy(t, append(options, "--signed")...)
	require.Equal(t, 1, r.exit)
	require.Contains(t, r.out, "signed-keys-reachable: table tenancy_signed.keys")
	require.Contains(t, r.out, "REVOKE ALL ON TABLE tenancy_signed.keys FROM "+d.App.Role)
	tenancy(t, append(options, "--dangerously-accept-unsigned")...).failed(t, "is for --signed")
}
