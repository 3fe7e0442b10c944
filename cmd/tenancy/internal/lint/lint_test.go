package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var options = Options{Column: "tenant_id", Setting: "app.tenant_id", AppRole: "shop_app", AdminRole: "shop_admin"}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// folder makes a folder of migrations.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// found returns the findings as "line code", without what the base has.
func found(t *testing.T, dir string, o Options) []string {
	t.Helper()
	report, err := Run(dir, o)
	require.NoError(t, err)
	lines := []string{}
	for _, f := range report.Findings {
		lines = append(lines, fmt.Sprintf("%s:%d %s", filepath.Base(f.File), f.Line, f.Code))
	}
	slices.Sort(lines)
	return lines
}

// want matches a comment that says which findings its line has, or a line before it.
var want = regexp.MustCompile(`-- want (-\d+ )?([a-z -]+)$`)

func wanted(t *testing.T, name, text string) []string {
	t.Helper()
	lines := []string{}
	for n, line := range strings.Split(text, "\n") {
		m := want.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		before, _ := strconv.Atoi(strings.TrimSpace(m[1]))
		for _, code := range strings.Fields(m[2]) {
			lines = append(lines, fmt.Sprintf("%s:%d %s", name, n+1+before, code))
		}
	}
	slices.Sort(lines)
	return lines
}

// Each case says in comments what is found at which line, and nothing else is. Each code is found in some case.
func TestRunFindsWhatCasesSay(t *testing.T) {
	base := read(t, "testdata/base.sql")
	require.Empty(t, found(t, folder(t, map[string]string{"1_base.sql": base}), options))
	cases, err := filepath.Glob("testdata/cases/*.sql")
	require.NoError(t, err)
	require.Greater(t, len(cases), 50)
	codes := map[string]bool{}
	for _, path := range cases {
		text := read(t, path)
		expected := wanted(t, "2_case.sql", text)
		for _, line := range expected {
			codes[strings.Fields(line)[1]] = true
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".sql"), func(t *testing.T) {
			require.Equal(t, strings.HasSuffix(path, "-good.sql"), len(expected) == 0)
			require.Equal(t, expected, found(t, folder(t, map[string]string{"1_base.sql": base, "2_case.sql": text}), options))
		})
	}
	for _, rule := range Rules() {
		require.True(t, codes[rule.Code], "no case for %s", rule.Code)
	}
}

func TestRunKnowsTheToolsOfMigrations(t *testing.T) {
	base := read(t, "testdata/base.sql")
	update := "UPDATE patients SET name = '';\n"
	for name, files := range map[string]map[string]string{
		"goose":          {"1_base.sql": "-- +goose Up\n" + base, "2_data.sql": "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;\n-- +goose StatementEnd\n\n-- +goose Down\n" + update},
		"golang-migrate": {"1_base.up.sql": base, "1_base.down.sql": "DROP TABLE patients;\n", "2_data.down.sql": "\n\n\n\n\n\n" + update, "2_data.up.sql": "SELECT 1;"},
		"atlas":          {"atlas.sum": "h1:x", "1_base.sql": base, "20240101_data.sql": "\n\n\n\n\n\n" + update},
		"dbmate":         {"1_base.sql": "-- migrate:up\n" + base, "2_data.sql": "-- migrate:up\n\n\n\n\n\n" + update + "-- migrate:down\nSELECT 1;\n"},
		"numbers":        {"9_base.sql": base, "10_data.sql": "\n\n\n\n\n\n" + update},
	} {
		t.Run(name, func(t *testing.T) {
			lines := found(t, folder(t, files), options)
			require.Len(t, lines, 1)
			require.Regexp(t, `_data(\.down)?\.sql:7 data-without-role$`, lines[0])
		})
	}
}

func TestRunSeesThatSetLocalNeedsATransaction(t *testing.T) {
	base := read(t, "testdata/base.sql")
	const change = "SET LOCAL ROLE shop_admin;\nUPDATE patients SET name = '';\n"
	for head, findings := range map[string]int{
		"-- +goose Up\n": 0,
		"-- +goose NO TRANSACTION\n-- +goose Up\n":   1,
		"-- atlas:txmode none\n":                     1,
		"-- atlas:txmode none\nBEGIN;\n":             0,
		"-- migrate:up transaction:false\nSELECT 1;": 1,
	} {
		require.Len(t, found(t, folder(t, map[string]string{"1.sql": base, "2.sql": head + change}), options), findings, head)
	}
}

func TestRunWherePoliciesAreMadeByMigrate(t *testing.T) {
	dir := folder(t, map[string]string{
		"1.sql": "CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id text NOT NULL);",
		"2.sql": "UPDATE notes SET id = id + 1;",
	})
	require.Equal(t, []string{"1.sql:1 table-not-isolated"}, found(t, dir, options))
	o := options
	o.MigrateMakesPolicies = true
	require.Equal(t, []string{"2.sql:1 data-without-role"}, found(t, dir, o))
	o.Column = "org_id"
	require.Empty(t, found(t, dir, o))
}

func TestRunKnowsTheTablesThatMigrateIsolates(t *testing.T) {
	dir := folder(t, map[string]string{
		"1.sql": "CREATE TABLE accounts (id bigint PRIMARY KEY);\nCREATE TABLE tasks (id bigint PRIMARY KEY, account bigint REFERENCES accounts);\n" +
			"CREATE TABLE comments (id bigint PRIMARY KEY, task bigint);\nALTER TABLE comments ADD FOREIGN KEY (task) REFERENCES tasks;\nCREATE TABLE plans (id bigint);",
		"2.sql": "UPDATE plans SET id = 1;\nUPDATE accounts SET id = 1;\nUPDATE tasks SET id = 1;\nDELETE FROM comments;\nDELETE FROM invoices;",
	})
	require.Empty(t, found(t, dir, options))
	o := options
	o.MigrateMakesPolicies, o.TenantTables = true, []string{"accounts", "public.invoices"}
	require.Equal(t, []string{"2.sql:2 data-without-role", "2.sql:3 data-without-role", "2.sql:4 data-without-role", "2.sql:5 data-without-role"}, found(t, dir, o))
}

func TestRunReportsWhatItDoesNotRead(t *testing.T) {
	dir := folder(t, map[string]string{
		"1.sql":   "DO $$ BEGIN EXECUTE 'ALTER TABLE x DISABLE ROW LEVEL SECURITY'; END $$;",
		"2_do.go": "package m\n\nimport \"github.com/pressly/goose/v3\"\n\nvar _ = goose.AddMigrationContext\n",
		"help.go": "package m\n",
	})
	report, err := Run(dir, options)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Len(t, report.NotChecked, 2)
	_, err = Run(t.TempDir(), options)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What split takes for statements is what PostgreSQL's parser takes for statements, in all cases that it can read.
func TestSplitAgreesWithTheParser(t *testing.T) {
	cases, err := filepath.Glob("testdata/cases/*.sql")
	require.NoError(t, err)
	compared := 0
	for _, path := range append(cases, "testdata/base.sql") {
		text, _ := blankForeign(read(t, path))
		whole, err := parseText(text, 0)
		if err != nil {
			continue
		}
		var cut []int
		for _, p := range split(text) {
			if at := skipSpace(text, p.from, p.to); at < p.to {
				cut = append(cut, at)
			}
		}
		var parsed []int
		for _, s := range whole {
			parsed = append(parsed, s.at)
		}
		require.Equal(t, parsed, cut, path)
		compared++
	}
	require.Greater(t, compared, 50)
}

// However a text is broken, nothing of it is lost, and lines stay where they are.
func FuzzParse(f *testing.F) {
	cases, err := filepath.Glob("testdata/cases/*.sql")
	require.NoError(f, err)
	for _, path := range cases {
		text, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, p := range split(text) {
			require.GreaterOrEqual(t, p.from, end)
			require.GreaterOrEqual(t, p.to, p.from)
			end = p.to
		}
		blanked, commands := blankForeign(text)
		require.Len(t, blanked, len(text))
		require.Equal(t, strings.Count(text, "\n"), strings.Count(blanked, "\n"))
		for _, at := range commands {
			require.Equal(t, byte('\\'), text[at])
		}
		statements, _ := parse(text)
		for _, s := range statements {
			require.LessOrEqual(t, s.from, s.at)
			require.LessOrEqual(t, s.at, s.to)
			require.LessOrEqual(t, s.to, len(text))
		}
	})
}
