package docs

import (
	"go/token"
	"go/types"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// TestErrorsAreExplained: each error that a package exports has a heading, and each heading is of one, or an SQLSTATE.
func TestErrorsAreExplained(t *testing.T) {
	load := compiled(t).importer(token.NewFileSet())
	exported := map[string]bool{}
	for name, path := range packages {
		if !strings.HasPrefix(path, module) {
			continue
		}
		p, err := load.Import(path)
		require.NoError(t, err)
		for _, symbol := range p.Scope().Names() {
			if _, variable := p.Scope().Lookup(symbol).(*types.Var); variable && strings.HasPrefix(symbol, "Err") {
				exported[name+"."+symbol] = true
			}
		}
	}
	require.Greater(t, len(exported), 15)
	states := 0
	for _, heading := range regexp.MustCompile("(?m)^### (.*)$").FindAllStringSubmatch(readPage(t, "docs/troubleshooting.md").text, -1) {
		name := strings.Trim(heading[1], "`")
		if regexp.MustCompile(`^[0-9A-Z]{5}$`).MatchString(name) {
			states++
			continue
		}
		require.True(t, exported[name], "%s is no error", name)
		delete(exported, name)
	}
	require.Empty(t, exported, "these have no heading")
	require.Greater(t, states, 10)
}

// TestStatesAreRight makes the errors of PostgreSQL that are easily made, and looks at their codes.
func TestStatesAreRight(t *testing.T) {
	script, program := readPage(t, "README.md").program(t)
	s := newShop(t)
	s.execute(t, script)
	s.run(t, program)
	for state, attempt := range map[string][2]string{ // by role and statement
		"22P02": {"shop_app", "SET app.tenant_id = 'acme'; SELECT current_setting('app.tenant_id')::bigint"},
		"23502": {"shop_app", "SET ROLE shop_admin; INSERT INTO users (name) VALUES ('x')"},
		"23505": {"shop_app", "SET app.tenant_id = 'acme'; INSERT INTO users (id, name) SELECT id, name FROM users"},
		"25001": {"shop_owner", "BEGIN; CREATE INDEX CONCURRENTLY ON users (name)"},
		"25006": {"shop_app", "BEGIN READ ONLY; DELETE FROM users"},
		"26000": {"shop_app", "EXECUTE unknown"},
		"42P05": {"shop_app", "PREPARE twice AS SELECT 1; PREPARE twice AS SELECT 1"},
		"0A000": {"shop_app", "COPY users FROM STDIN"},
		"42501": {"shop_app", "SET app.tenant_id = 'acme'; INSERT INTO users (name, tenant_id) VALUES ('x', 'globex')"},
		"42704": {"shop_app", "SELECT current_setting('app.other')"},
		"42P10": {"shop_app", "INSERT INTO users (name) VALUES ('x') ON CONFLICT (name) DO NOTHING"},
	} {
		conn, err := pgx.Connect(t.Context(), s.dsnOf(t, attempt[0]))
		require.NoError(t, err)
		_, err = conn.PgConn().Exec(t.Context(), s.rename(attempt[1])).ReadAll()
		require.ErrorContains(t, err, "SQLSTATE "+state, attempt[1])
		require.NoError(t, conn.Close(t.Context()))
		require.Contains(t, readPage(t, "docs/troubleshooting.md").text, "\n### `"+state+"`\n")
	}
}
