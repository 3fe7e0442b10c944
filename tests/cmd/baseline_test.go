package cmd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBaselineHidesWhatIsKnown(t *testing.T) {
	d := newDatabase(t)
	d.spoil(t)
	file := filepath.Join(t.TempDir(), "known.json")
	r := tenancy(t, d.options(t, "check", "--baseline", file, "--write-baseline")...)
	require.Equal(t, 0, r.exit, r.errors)
	require.Equal(t, file+": 2 known findings. 2 new, 0 removed.\n", r.out)
	require.Equal(t, `{
  "version": 1,
  "findings": [
    {
      "code": "table-not-enabled",
      "object": "public.patients",
      "reason": ""
    },
    {
      "code": "tenant-column-nullable",
      "object": "public.invoices",
      "reason": ""
    }
  ]
}
`, read(t, file))

	r = tenancy(t, d.options(t, "check", "--baseline", file)...)
	require.Equal(t, 0, r.exit, r.out+r.errors)
	require.Contains(t, r.out, "KNOWN (2)\n  table-not-enabled: public.patients\n  tenant-column-nullable: public.invoices\n")
	require.Contains(t, r.out, "No new findings in 2 tenant tables")

	d.AsOwner(t, "ALTER TABLE invoices NO FORCE ROW LEVEL SECURITY")
	r = tenancy(t, d.options(t, "check", "--baseline", file)...)
	require.Equal(t, 1, r.exit, "only what is new fails")
	require.Contains(t, r.out, "HIGH (1)\n  table-not-forced: public.invoices")
	require.NotContains(t, r.out, "CRITICAL")
	require.Contains(t, r.out, "1 new finding in")
	require.Equal(t, 0, tenancy(t, d.options(t, "check", "--baseline", file, "--fail-on", "critical")...).exit)
}

func TestBaselineThatIsStale(t *testing.T) {
	d := newDatabase(t)
	d.spoil(t)
	file := filepath.Join(t.TempDir(), "known.json")
	write(t, file, `{"version": 1, "findings": [
		{"code": "tenant-column-nullable", "object": "public.invoices", "reason": "until the old rows <have> a tenant"},
		{"code": "table-not-enabled", "object": "public.patients", "reason": "loading"}]}`)
	require.Equal(t, 0, tenancy(t, d.options(t, "check", "--baseline", file)...).exit)

	d.AsOwner(t, "ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
	r := tenancy(t, d.options(t, "check", "--baseline", file)...)
	require.Equal(t, 0, r.exit, "a hole that is fixed fails no pipeline")
	require.Contains(t, r.out, "NOT FOUND ANY MORE (1)\n  table-not-enabled: public.patients\n")
	require.Contains(t, r.out, "tenant-column-nullable: public.invoices: until the old rows <have> a tenant")
	require.Equal(t, 1, tenancy(t, d.options(t, "check", "--baseline", file, "--fail-on-stale")...).exit)

	r = tenancy(t, d.options(t, "check", "--baseline", file, "--write-baseline")...)
	require.Equal(t, file+": 1 known finding. 0 new, 1 removed.\n", r.out)
	require.Contains(t, read(t, file), `"reason": "until the old rows <have> a tenant"`, "what people wrote is kept")
	require.NotContains(t, read(t, file), "patients")
	before := read(t, file)
	tenancy(t, d.options(t, "check", "--baseline", file, "--write-baseline")...)
	require.Equal(t, before, read(t, file))
}

func TestBaselineInOtherFormats(t *testing.T) {
	d := newDatabase(t)
	d.spoil(t)
	file := filepath.Join(t.TempDir(), "known.json")
	write(t, file, `{"version": 1, "findings": [
		{"code": "tenant-column-nullable", "object": "public.invoices", "reason": "old rows"},
		{"code": "table-not-forced", "object": "public.invoices", "reason": ""}]}`)
	type finding struct{ Code, Object, URL, Reason string }
	var report struct{ Findings, Known, Stale []finding }
	r := tenancy(t, d.options(t, "check", "--baseline", file, "--format", "json")...)
	require.Equal(t, 1, r.exit, r.errors)
	parse(t, r.out, &report)
	const page = "https://github.com/gormtenancy/tenancy/blob/main/docs/findings.md#"
	require.Equal(t, []finding{{Code: "table-not-enabled", Object: "public.patients", URL: page + "table-not-enabled"}}, report.Findings)
	require.Equal(t, []finding{{"tenant-column-nullable", "public.invoices", page + "tenant-column-nullable", "old rows"}}, report.Known)
	require.Equal(t, []finding{{Code: "table-not-forced", Object: "public.invoices"}}, report.Stale)

	var log struct {
		Runs []struct {
			Results []struct {
				RuleID, BaselineState string
				Suppressions          []struct{ Kind, Justification string }
			}
			Tool struct {
				Driver struct {
					Rules []struct{ ID, HelpURI string }
				}
			}
		}
	}
	parse(t, tenancy(t, d.options(t, "check", "--baseline", file, "--format", "sarif")...).out, &log)
	states := map[string]string{}
	for _, result := range log.Runs[0].Results {
		states[result.RuleID] = result.BaselineState
		require.Equal(t, result.BaselineState == "unchanged", len(result.Suppressions) > 0)
	}
	require.Equal(t, "new", states["table-not-enabled"])
	require.Equal(t, "unchanged", states["tenant-column-nullable"])
	for _, rule := range log.Runs[0].Tool.Driver.Rules {
		require.Equal(t, page+rule.ID, rule.HelpURI)
	}
}

func TestBaselineThatCannotBeRead(t *testing.T) {
	d := newDatabase(t)
	dir := t.TempDir()
	for text, why := range map[string]string{
		``:                                     "it is no baseline: the document is not complete",
		`{"version": 1,`:                       "it is no baseline: the document is not complete",
		"{\n\"version\": 1,\n\"findngs\": []}": `line 3: unknown field "findngs"`,
		`[]`:                                   "it is no baseline: line 1: cannot unmarshal array",
		`{"findings": []}`:                     "it has the version 0, and this command reads version 1",
		`{"version": 2}`:                       "it has the version 2, and this command reads version 1",
		`{"version": 1} {}`:                    "text follows the document",
		`{"version": 1, "findings": [{}]}`:     "finding 1 needs a code and an object",
		`{"version": 1, "findings": [{"code": "no-such", "object": "x"}]}`:                                                            `finding 1: there is no code "no-such"`,
		`{"version": 1, "findings": [{"code": "allow-stale", "object": "x"}, {"code": "allow-stale", "object": "x", "reason": "y"}]}`: "finding 2 is there twice",
	} {
		file := filepath.Join(dir, "known.json")
		write(t, file, text)
		for _, more := range [][]string{nil, {"--write-baseline"}} {
			r := tenancy(t, d.options(t, "check", append(more, "--baseline", file)...)...)
			r.failed(t, "tenancy check: --baseline: "+file+": ", why)
			require.Equal(t, text, read(t, file), "what people wrote is not lost")
		}
	}
	missing := filepath.Join(dir, "missing.json")
	tenancy(t, d.options(t, "check", "--baseline", missing)...).failed(t, missing, "--write-baseline makes it")
	tenancy(t, d.options(t, "check", "--baseline", filepath.Join(dir, "no", "such.json"), "--write-baseline")...).failed(t, "--baseline: ")
	tenancy(t, "check", "--baseline", "postgres://u:hunter2@h/db").failed(t, "not shown")
	tenancy(t, "check", "--write-baseline").failed(t, "need --baseline")
	tenancy(t, "check", "--fail-on-stale").failed(t, "need --baseline")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}
