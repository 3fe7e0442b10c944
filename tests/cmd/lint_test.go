package cmd_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const isolatedTable = `CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenancy ON notes USING (tenant_id = current_setting('app.tenant_id'));
CREATE POLICY admin ON notes TO shop_admin USING (true);
`

// migrations makes a folder of migrations for goose, of which the second may do harm.
func migrations(t *testing.T, second string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "1_notes.sql"), "-- +goose Up\n"+isolatedTable)
	write(t, filepath.Join(dir, "2_more.sql"), "-- +goose Up\n"+second)
	return dir
}

func TestLint(t *testing.T) {
	r := tenancy(t, "lint", "--admin-role", "shop_admin", migrations(t, "SET LOCAL ROLE shop_admin;\nUPDATE notes SET id = id + 1;\n"))
	require.Equal(t, 0, r.exit, r.out+r.errors)
	require.Equal(t, "No findings in 2 files, with 1 tenant table.\n", r.out)

	dir := migrations(t, "UPDATE notes SET id = id + 1;\n-- tenancy:ignore policy-shows-all support reads all\nCREATE POLICY p ON notes USING (true);\n")
	r = tenancy(t, "lint", "--admin-role", "shop_admin", dir)
	require.Equal(t, 1, r.exit, r.errors)
	require.Contains(t, r.out, "2_more.sql:2: high data-without-role: notes\n")
	require.Contains(t, r.out, "docs/lint.md#data-without-role\n")
	require.Contains(t, r.out, "2_more.sql:4: policy-shows-all: notes: support reads all\n")
	require.Equal(t, 0, tenancy(t, "lint", "--admin-role", "shop_admin", "--fail-on", "critical", dir).exit)
	require.Contains(t, tenancy(t, "lint", dir).out, "1_notes.sql:5: critical policy-shows-all", "the role is not known to be the admin role")
}

func TestLintForMachines(t *testing.T) {
	dir := migrations(t, "UPDATE notes SET id = id + 1;\n-- tenancy:ignore policy-shows-all support reads all\nCREATE POLICY p ON notes USING (true);\n")
	var report struct {
		Files, Tables     int
		Findings, Ignored []struct {
			File, Code, Object, Reason string
			Line                       int
		}
	}
	r := tenancy(t, "lint", "--admin-role", "shop_admin", "--format", "json", dir)
	require.Equal(t, 1, r.exit, r.errors)
	parse(t, r.out, &report)
	require.Len(t, report.Findings, 1)
	require.Equal(t, "notes", report.Findings[0].Object)
	require.Len(t, report.Ignored, 1)

	var log sarifLog
	r = tenancy(t, "lint", "--admin-role", "shop_admin", "--format", "sarif", dir)
	require.Equal(t, 1, r.exit, r.errors)
	parse(t, r.out, &log)
	log.Runs[0].requireRules(t)
	require.Len(t, log.Runs[0].Results, 2)
	first, second := log.Runs[0].Results[0], log.Runs[0].Results[1]
	require.Equal(t, 2, first.Locations[0].PhysicalLocation.Region.StartLine)
	require.Empty(t, first.Suppressions)
	require.Equal(t, "support reads all", second.Suppressions[0].Justification)
}

func TestLintRefusesWhatItCannotRead(t *testing.T) {
	tenancy(t, "lint").failed(t, "name the folder")
	tenancy(t, "lint", t.TempDir()).failed(t, "there are no migrations")
	tenancy(t, "lint", filepath.Join(t.TempDir(), "none")).failed(t, "none")
	r := tenancy(t, "lint", "postgres://owner:secret@localhost/shop")
	r.failed(t, "looks like a DSN")
	require.NotContains(t, r.errors, "secret")
}

// What tenancy sql --data prints is what lint wants to see, and what the tools run: see the package rls/data of these tests.
func TestLintAcceptsWhatSQLPrints(t *testing.T) {
	const update = "UPDATE notes SET id = id + 1;\n"
	header := func(t *testing.T, options ...string) (before, after string) {
		t.Helper()
		r := tenancy(t, append([]string{"sql", "--data"}, options...)...)
		require.Equal(t, 0, r.exit, r.errors)
		before, after, found := strings.Cut(r.out, "-- Here the statements that change rows.\n")
		require.True(t, found, r.out)
		return before, after
	}
	block := func(sql string) string {
		return "-- +goose StatementBegin\n" + sql + "\n-- +goose StatementEnd\n"
	}
	layouts := map[string]func(t *testing.T, before, change, after string) string{
		"goose": func(t *testing.T, before, change, after string) string {
			t.Helper()
			return migrations(t, block(before)+change+block(after))
		},
		"golang-migrate": func(t *testing.T, before, change, after string) string {
			t.Helper()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "1_notes.up.sql"), isolatedTable)
			write(t, filepath.Join(dir, "2_more.up.sql"), before+change+after)
			return dir
		},
		"Atlas": func(t *testing.T, before, change, after string) string {
			t.Helper()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "atlas.sum"), "h1:x\n")
			write(t, filepath.Join(dir, "20260101000000_notes.sql"), isolatedTable)
			write(t, filepath.Join(dir, "20260102000000_more.sql"), before+change+after)
			return dir
		},
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			lint := func(before, after string) result {
				return tenancy(t, "lint", "--admin-role", "shop_admin", layout(t, before, update, after))
			}
			r := lint("", "")
			require.Equal(t, 1, r.exit, r.errors)
			require.Contains(t, r.out, "high data-without-role: notes\n")

			before, after := header(t, "--admin-role", "shop_admin")
			r = lint(before, after)
			require.Equal(t, 0, r.exit, r.out)

			before, after = header(t, "--as-owner", "notes")
			r = lint(before, after)
			require.Equal(t, 0, r.exit, r.out)
		})
	}

	before, _ := header(t, "--as-owner", "notes")
	r := tenancy(t, "lint", layouts["Atlas"](t, before, update, ""))
	require.Equal(t, 1, r.exit, "without the end, the policies are not forced on the owner any more")
	require.Contains(t, r.out, "critical isolation-switched-off: notes\n")
}

// The tenant column of an application that existed before is made by Migrate, not by the migrations.
func TestLintIsToldWhichTablesMigrateIsolates(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "1_init.sql"), "-- +goose Up\nCREATE TABLE accounts (id bigint PRIMARY KEY);\n"+
		"CREATE TABLE notes (id bigint PRIMARY KEY, account_id bigint REFERENCES accounts);\n")
	write(t, filepath.Join(dir, "2_naive.sql"), "-- +goose Up\nUPDATE notes SET id = id + 1;\n")
	r := tenancy(t, "lint", dir)
	require.Equal(t, 1, r.exit, "what was not checked is not clean")
	require.Contains(t, r.out, "data migrations were not checked")
	require.Contains(t, r.out, "--tenant-table")

	r = tenancy(t, "lint", "--tenant-table", "accounts", dir)
	require.Equal(t, 1, r.exit, r.errors)
	require.Contains(t, r.out, "2_naive.sql:2: high data-without-role: notes\n")
	require.Contains(t, r.out, "1 finding in 2 files, with 2 tenant tables.\n")
}
