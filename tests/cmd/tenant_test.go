package cmd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Letter is a tenant table.
type Letter struct {
	ID       int64
	TenantID string
	Text     string
}

func TestTenantIsMovedByTheCommand(t *testing.T) { moveTenant(t, testdb.New(t, &Letter{})) }

// TestSignedTenantIsMovedByTheCommand: the command needs no key, and no other option.
func TestSignedTenantIsMovedByTheCommand(t *testing.T) { moveTenant(t, testdb.NewSigned(t, &Letter{})) }

func moveTenant(t *testing.T, d *testdb.Database) {
	t.Helper()
	d.AsSuperuser(t, "INSERT INTO letters (id, tenant_id, text) SELECT i, CASE WHEN i > 5 THEN 'acme' ELSE 'globex' END, 'a secret' FROM generate_series(1, 12) i")
	file := filepath.Join(t.TempDir(), "acme.tar.gz")
	run := func(args ...string) result {
		return command{args: append([]string{"tenant"}, args...), url: d.Owner.DSN}.run(t)
	}
	succeeds := func(out string, args ...string) {
		r := run(args...)
		require.Zero(t, r.exit, r.errors)
		require.Contains(t, r.out, out)
		require.Contains(t, r.errors, "operation=")
		require.NotContains(t, r.out+r.errors, "secret")
		require.NotContains(t, r.errors, "warning")
	}
	for _, args := range [][]string{{"count"}, {"export", "--file", file + ".empty"}, {"erase"}, {"erase", "--yes"}} {
		r := run(append(args, "--tenant", "acmee")...)
		require.Zero(t, r.exit, r.errors)
		require.Contains(t, r.errors, "warning: the tenant has no rows: is --tenant right?", args)
	}
	require.NoError(t, os.Remove(file+".empty"))
	succeeds("There are 7 rows in 1 table.", "count", "--tenant", "acme")
	succeeds("Exported 7 rows", "export", "--tenant", "acme", "--file", file, "--actor", "alice")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm(), "it holds all data of the tenant")
	run("export", "--tenant", "acme", "--file", file).failed(t, "not overwritten")
	succeeds("No differences.", "diff", "--file", file)
	succeeds("Nothing was deleted.", "erase", "--tenant", "acme")
	succeeds("There are 7 rows", "count", "--tenant", "acme")
	run("import", "--file", file).failed(t, "rows are in the way")
	succeeds("kept by law", "erase", "--tenant", "acme", "--skip", "public.letters=kept by law")
	succeeds("Deleted 7 rows", "erase", "--tenant", "acme", "--yes")
	r := run("diff", "--file", file)
	require.Equal(t, 1, r.exit)
	require.Contains(t, r.out, "public.letters: the counts differ (file: 7 rows, database: no rows)")
	r = run("diff", "--file", file, "--format", "json")
	require.JSONEq(t, `[{"table": "public.letters", "file": 7, "database": 0, "reason": "the counts differ"}]`, r.out)
	succeeds("Imported 7 rows", "import", "--file", file, "--tenant", "new")
	run("import", "--file", file, "--tenant", "third").failed(t, "a key is taken", "--new-keys")
	succeeds("There are 5 rows", "count", "--tenant", "globex")
	d.AsSuperuser(t, "SELECT setval('letters_id_seq', 50)")
	succeeds("Imported 7 rows", "import", "--file", file, "--tenant", "beside", "--new-keys")
	succeeds("No differences.", "diff", "--file", file, "--tenant", "beside", "--new-keys")
	succeeds(`"rows": 7`, "count", "--tenant", "new", "--format", "json")

	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no partial file stays")
}

func TestTenantRefusesMisuse(t *testing.T) {
	for _, args := range [][]string{
		{}, {"drop"}, {"count"}, {"export", "--tenant", "acme"}, {"import"}, {"count", "--tenant", "acme", "--file", "x"},
		{"count", "--tenant", "acme", "--yes"}, {"count", "--tenant", "acme", "--new-keys"}, {"erase", "--tenant", "acme", "--skip", "public.letters"}, {"erase", "--tenant", "acme", "please"},
	} {
		tenancy(t, append([]string{"tenant"}, args...)...).failed(t, "tenancy help tenant")
	}
}

// A process that is killed leaves no file that could be taken for an export.
func TestTenantExportThatIsKilledLeavesNoFile(t *testing.T) {
	d := testdb.New(t, &Letter{})
	d.AsSuperuser(t, "INSERT INTO letters (tenant_id, text) SELECT 'acme', repeat('x', 1000) FROM generate_series(1, 20000) i")
	folder := t.TempDir()
	file := filepath.Join(folder, "acme.tar")
	for range 3 {
		cmd := exec.CommandContext(t.Context(), binary, "tenant", "export", "--tenant", "acme", "--file", file, "--dsn", d.Owner.DSN)
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { // until some rows are written
			partial, err := filepath.Glob(filepath.Join(folder, "*.partial"))
			require.NoError(t, err)
			for _, name := range partial {
				if info, err := os.Stat(name); err == nil && info.Size() > 0 {
					return true
				}
			}
			return false
		}, time.Minute, time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		require.NoFileExists(t, file)
		partial, err := filepath.Glob(filepath.Join(folder, "*.partial"))
		require.NoError(t, err)
		for _, name := range partial {
			command{args: []string{"tenant", "diff", "--file", name}, url: d.Owner.DSN}.run(t).failed(t, "damaged")
			require.NoError(t, os.Remove(name))
		}
	}
	require.Zero(t, command{args: []string{"tenant", "export", "--tenant", "acme", "--file", file}, url: d.Owner.DSN}.run(t).exit)
	require.Contains(t, command{args: []string{"tenant", "diff", "--file", file}, url: d.Owner.DSN}.run(t).out, "No differences.")
}
