package docs

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// TestReadmeProgramRuns creates the roles and the database as README's SQL does, runs its program as it stands there, and
// looks at what it prints. Then it lets the admin role log in, as the guide does, and runs the program with that login.
func TestReadmeProgramRuns(t *testing.T) {
	script, program := readPage(t, "README.md").program(t)
	s := newShop(t)
	s.execute(t, script)
	s.run(t, program, "globex sees 0 users", "no tenant: true", "the admin sees 1 users")
	s.run(t, program, "globex sees 0 users", "no tenant: true", "the admin sees 2 users") // migrates again

	guide := readPage(t, "docs/guide.md").snippets()
	for n := range guide {
		if strings.Contains(guide[n].code, "ALTER ROLE shop_admin LOGIN") {
			s.execute(t, guide[n].code)
			opened, use, ok := strings.Cut(guide[n+1].code, "err = db.Use")
			require.True(t, ok)
			opened = strings.Replace(opened, "if err != nil {\n\tlog.Fatal(err)\n}", "check(err)", 1)
			program = strings.Replace(program, "check(db.Use(tenancy.New(tenancy.Config{AdminRole: \"shop_admin\"})))",
				opened+"check(db.Use"+strings.TrimSpace(use)+")", 1)
			program = strings.Replace(program, `"context"`, `"context"; "database/sql"`, 1)
			require.Contains(t, program, "AdminDB: adminDB")
			s.run(t, program, "the admin sees 3 users")
			return
		}
	}
	require.Fail(t, "the guide does not say how the admin role can log in")
}

// program returns the first SQL of a page, and the Go program behind it.
func (p page) program(t *testing.T) (script, program string) {
	t.Helper()
	for _, s := range p.snippets() {
		switch {
		case s.language == "sql" && script == "":
			script = s.code
		case s.language == "go" && program == "":
			require.NotEmpty(t, script, "the SQL of the roles stands before the program that needs them")
			program = s.code
		}
	}
	return script, program
}

// shop runs what pages say of a database named shop. Only the names of roles and database, and the place of the server, are
// others.
type shop struct {
	name      string // in place of "shop"
	dsn       string // of the superuser
	superuser *pgx.Conn
}

func newShop(t *testing.T) shop {
	t.Helper()
	s := shop{name: pgserver.New(t).Name + "_shop", dsn: pgserver.Shared(t).DSN()}
	var err error
	s.superuser, err = pgx.Connect(t.Context(), s.dsn)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.Background()
		for _, sql := range []string{
			"DROP DATABASE IF EXISTS shop WITH (FORCE)",
			"DROP ROLE IF EXISTS shop_owner, shop_app, shop_worker, shop_admin, shop_admin_for_shop_owner",
		} {
			_, err := s.superuser.Exec(ctx, s.rename(sql))
			require.NoError(t, err)
		}
		require.NoError(t, s.superuser.Close(ctx))
	})
	return s
}

func (s shop) rename(text string) string { return strings.ReplaceAll(text, "shop", s.name) }

// execute runs a script as the superuser.
func (s shop) execute(t *testing.T, script string) {
	t.Helper()
	script = regexp.MustCompile(`--.*`).ReplaceAllString(s.rename(script), "")
	for statement := range strings.SplitSeq(script, ";") {
		_, err := s.superuser.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// run runs a program, which must print the lines.
func (s shop) run(t *testing.T, program string, lines ...string) {
	t.Helper()
	shown := regexp.MustCompile(`postgres://(\w+):([\w-]+)@localhost:5432/(\w+)`)
	program = shown.ReplaceAllStringFunc(s.rename(program), func(dsn string) string {
		parts := shown.FindStringSubmatch(dsn)
		server, err := url.Parse(s.dsn)
		require.NoError(t, err)
		server.User, server.Path = url.UserPassword(parts[1], parts[2]), "/"+parts[3]
		return server.String()
	})
	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	out, err := exec.CommandContext(t.Context(), "go", "run", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, line := range lines {
		require.Contains(t, string(out), line+"\n")
	}
}

// dsnOf is the login of a role of README, with its password.
func (s shop) dsnOf(t *testing.T, role string) string {
	t.Helper()
	server, err := url.Parse(s.dsn)
	require.NoError(t, err)
	server.User, server.Path = url.UserPassword(s.rename(role), "change-me"), "/"+s.name
	return server.String()
}

// value returns what the last statement selects, as a role of README.
func (s shop) value(t *testing.T, role, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.dsnOf(t, role))
	require.NoError(t, err)
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
	require.NoError(t, conn.Close(t.Context()))
	return string(results[len(results)-1].Rows[0][0])
}
