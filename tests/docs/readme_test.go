package docs

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// maxWords is how long README may be.
const maxWords = 1800

// TestReadmeProgramRuns creates the roles and the database as README's SQL does, runs its program as it stands there, and
// looks what it prints. Only the names of roles and database, and the place of the server, are others.
func TestReadmeProgramRuns(t *testing.T) {
	server := pgserver.Shared(t)
	name := pgserver.New(t).Name + "_shop"
	readme := readPage(t, "README.md")
	var script, program string
	for _, s := range readme.snippets() {
		switch {
		case s.language == "sql" && script == "":
			script = s.code
		case s.language == "go" && program == "":
			require.NotEmpty(t, script, "the SQL of the roles stands before the program that needs them")
			program = s.code
		}
	}
	script, program = strings.ReplaceAll(script, "shop", name), strings.ReplaceAll(program, "shop", name)

	superuser, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	exec1 := func(ctx context.Context, sql string) {
		_, err := superuser.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		exec1(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		exec1(ctx, "DROP ROLE IF EXISTS "+name+"_owner, "+name+"_app, "+name+"_admin")
		require.NoError(t, superuser.Close(ctx))
	})
	for statement := range strings.SplitSeq(regexp.MustCompile(`--.*`).ReplaceAllString(script, ""), ";") {
		exec1(t.Context(), statement)
	}

	for _, login := range []string{"owner", "app"} {
		shown := "postgres://" + name + "_" + login + ":change-me@localhost:5432/" + name
		require.Equal(t, 1, strings.Count(program, shown), "the DSN of the %s", login)
		dsn, err := url.Parse(server.DSN())
		require.NoError(t, err)
		dsn.User, dsn.Path = url.UserPassword(name+"_"+login, "change-me"), "/"+name
		program = strings.ReplaceAll(program, shown, dsn.String())
	}
	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	for run, admin := range []string{"the admin sees 1 users", "the admin sees 2 users"} {
		out, err := exec.CommandContext(t.Context(), "go", "run", file).CombinedOutput()
		require.NoError(t, err, "run %d: %s", run, out)
		for _, line := range []string{"globex sees 0 users", "no tenant: true", admin} {
			require.Contains(t, string(out), line+"\n")
		}
	}
}

func TestReadmeIsShort(t *testing.T) {
	require.LessOrEqual(t, len(strings.Fields(readPage(t, "README.md").text)), maxWords, "words in README.md: move detail to docs")
}

// TestReadmeNamesCommands: the workflow takes them from there.
func TestReadmeNamesCommands(t *testing.T) {
	for _, command := range []string{"go run ./examples/quickstart", "make test", "go get github.com/gormtenancy/tenancy"} {
		require.Regexp(t, `(?m)^ *`+regexp.QuoteMeta(command)+`$`, readPage(t, "README.md").text)
	}
}

// TestRulesAreCounted: wherever a page says how many kinds of holes Check finds, the number is right.
func TestRulesAreCounted(t *testing.T) {
	claims := 0
	for _, p := range pages(t) {
		for _, claim := range regexp.MustCompile(`(\d+)\s+kinds\s+of\s+holes`).FindAllStringSubmatch(p.text, -1) {
			require.Equal(t, strconv.Itoa(len(rls.Rules())), claim[1], "%s: %s", p.name, claim[0])
			claims++
		}
	}
	require.GreaterOrEqual(t, claims, 2, "the guide and the changelog say it")
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	for _, p := range pages(t) {
		if p.name == name {
			return p
		}
	}
	require.Fail(t, "no page "+name)
	return page{}
}

// TestVersionsAreTested: README names the versions that the workflow runs.
func TestVersionsAreTested(t *testing.T) {
	workflow, err := os.ReadFile(filepath.Join(root, ".github/workflows/ci.yml"))
	require.NoError(t, err)
	for key, says := range map[string]string{"go": "Go %s to %s", "postgres": "PostgreSQL %s to %s"} {
		list := regexp.MustCompile(`(?m)^ *` + key + `: \["([^"]+)".*"([^"]+)"\]$`).FindStringSubmatch(string(workflow))
		require.NotNil(t, list, key)
		text := strings.Join(strings.Fields(readPage(t, "README.md").text), " ")
		require.Contains(t, text, fmt.Sprintf(says, list[1], list[2]))
	}
}

// TestFindingsExist: where a page names the code of a finding, Check has it.
func TestFindingsExist(t *testing.T) {
	codes, prefixes := map[string]bool{}, map[string]bool{}
	for _, rule := range rls.Rules() {
		prefix, _, _ := strings.Cut(string(rule.Code), "-")
		codes[string(rule.Code)], prefixes[prefix] = true, true
	}
	named := 0
	for _, p := range pages(t) {
		for _, found := range regexp.MustCompile("`(([a-z]+)-[a-z0-9-]+)`").FindAllStringSubmatch(p.text, -1) {
			if prefixes[found[2]] {
				require.True(t, codes[found[1]], "%s names the finding %s", p.name, found[1])
				named++
			}
		}
	}
	require.Positive(t, named)
}
