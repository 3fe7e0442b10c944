// Package cmd_test runs the command tenancy, as the go command builds it, against a real PostgreSQL.
package cmd_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// binary is the command under test.
var binary string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tenancy-cmd")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "tenancy")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = filepath.FromSlash("../../cmd/tenancy") // a module of its own
	out, err := build.CombinedOutput()
	if err != nil {
		panic(string(out))
	}
	return pgserver.Run(m)
}

// result is what a run of the command left.
type result struct {
	exit        int
	out, errors string
}

// command describes a run. DATABASE_URL is only there if it is given.
type command struct {
	args  []string
	url   string
	stdin string
}

func (c command) run(t *testing.T) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, c.args...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "DATABASE_URL=") && !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	if c.url != "" {
		cmd.Env = append(cmd.Env, "DATABASE_URL="+c.url)
	}
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &out, &errOut
	err := cmd.Run()
	if exited := new(exec.ExitError); !errors.As(err, &exited) {
		require.NoError(t, err)
	}
	return result{exit: cmd.ProcessState.ExitCode(), out: out.String(), errors: errOut.String()}
}

func tenancy(t *testing.T, args ...string) result {
	t.Helper()
	return command{args: args}.run(t)
}

// failed requires that a run could not do its work, and says why on the standard error only.
func (r result) failed(t *testing.T, why ...string) {
	t.Helper()
	require.Equal(t, 2, r.exit, r.errors)
	require.Empty(t, r.out)
	for _, part := range why {
		require.Contains(t, r.errors, part)
	}
}

type Patient struct {
	ID       int64
	TenantID string
	Name     string
}

type Invoice struct {
	ID       int64
	TenantID string
	Total    int64
}

type Country struct {
	ID   int64
	Name string
}

// database has been made by Migrate.
type database struct{ *testdb.Database }

func newDatabase(t *testing.T) database {
	t.Helper()
	return database{testdb.New(t, &Patient{}, &Invoice{}, &Country{})}
}

// spoil opens two holes, one critical and one of medium severity.
func (d database) spoil(t *testing.T) {
	t.Helper()
	d.AsOwner(t, "ALTER TABLE patients DISABLE ROW LEVEL SECURITY; ALTER TABLE invoices ALTER COLUMN tenant_id DROP NOT NULL")
}

// options names the database and its roles, and allows what is wrong with the server that the tests happen to run on.
func (d database) options(t *testing.T, command string, more ...string) []string {
	t.Helper()
	options := []string{command, "--dsn", d.Owner.DSN, "--app-role", d.App.Role, "--admin-role", d.Admin.Role}
	report, err := d.Isolation().Check(t.Context(), d.OwnerDB)
	require.NoError(t, err)
	for _, f := range report.Findings {
		if strings.HasPrefix(string(f.Code), "server-") {
			options = append(options, "--allow", string(f.Code)+"="+f.Object+"=the server of the tests")
		}
	}
	return append(options, more...)
}
