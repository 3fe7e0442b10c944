// Package backup tests backups of isolated databases with PostgreSQL's own programs.
package backup

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// programs is the folder with pg_dump, pg_restore and psql.
var programs string

// TestMain takes the server that belongs to the programs: pg_dump reads no server newer than itself, and not all
// distributions of PostgreSQL's binaries have it.
func TestMain(m *testing.M) {
	programs = findPrograms()
	if _, err := os.Stat(filepath.Join(programs, "initdb")); err == nil && os.Getenv("TENANCY_DSN") == "" {
		os.Unsetenv("TENANCY_PG")
		os.Unsetenv("TENANCY_PG_VERSION")
		os.Setenv("TENANCY_PG_BINDIR", programs)
	}
	pgserver.Main(m)
}

// findPrograms prefers the folder of the server's binaries. It is empty where there is no pg_dump.
func findPrograms() string {
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(installed)
	folders := append([]string{os.Getenv("TENANCY_PG_BINDIR")}, installed...)
	if path, err := exec.LookPath("pg_dump"); err == nil {
		folders = append(folders, filepath.Dir(path))
	}
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "pg_dump")); folder != "" && err == nil {
			return folder
		}
	}
	return ""
}

// call is a call of one of the programs.
type call struct {
	login  string   // a DSN
	tenant string   // set for the session, if any
	args   []string // beside the login
	input  string
}

// try runs a program, and returns what it prints, and its errors as text.
func (c call) try(t *testing.T, program string) (output, problem string, err error) {
	t.Helper()
	require.NotEmpty(t, programs, "pg_dump, pg_restore and psql are needed: apt-get install postgresql-client")
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, program), append(c.args, "--dbname="+c.login)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.input), &out, &problems
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if c.tenant != "" {
		cmd.Env = append(cmd.Env, "PGOPTIONS=-c app.tenant_id="+c.tenant)
	}
	err = cmd.Run()
	return out.String(), problems.String(), err
}

// run runs a program that must succeed.
func (c call) run(t *testing.T, program string) string {
	t.Helper()
	out, problem, err := c.try(t, program)
	require.NoError(t, err, "%s: %s", program, problem)
	return out
}

// query returns the rows of a query.
func query(t *testing.T, login, sql string) string {
	t.Helper()
	return call{login: login, args: []string{"-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql}}.run(t, "psql")
}

// psql runs a script in one transaction.
func psql(login, tenant, script string) call {
	return call{login: login, tenant: tenant, input: script, args: []string{"-X", "-q", "-1", "-v", "ON_ERROR_STOP=1"}}
}

// loginOf is the DSN of another role with a password, in the database of the DSN.
func loginOf(t *testing.T, dsn, role, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(role, password)
	return u.String()
}

// sums are the number and a checksum of the rows of each table, as a role that sees all.
func sums(t *testing.T, login string) string {
	t.Helper()
	var queries []string
	for _, table := range tables {
		queries = append(queries, fmt.Sprintf("SELECT '%s', count(*), md5(string_agg(r::text, ',' ORDER BY r::text)) FROM %[1]s r", table))
	}
	return query(t, login, strings.Join(queries, " UNION ALL ")+" ORDER BY 1")
}
