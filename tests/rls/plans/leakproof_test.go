package plans

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// search is a condition whose function is not leakproof, and what to do instead.
type search struct {
	name   string
	where  string // %d is a number that one row of the tenant has
	own    string // the index it uses without a policy
	remedy []remedy
}

type remedy struct {
	name  string
	sql   string // the statement, as where above
	index string // that it finds the tenant's row in
	cond  bool   // the index is searched for the row, and not only for the tenant
}

// searches need the indexes of searchIndexes.
var searches = []search{
	{
		name: "LIKE", where: "title LIKE 'Title %d%%'", own: "title",
		remedy: []remedy{
			{"remedy: `^@` (PostgreSQL 15 or newer)", "SELECT * FROM documents WHERE title ^@ 'Title %d'", "tenant_title", true},
			{
				"remedy: a range, `~>=~` and `~<~`", "SELECT * FROM documents WHERE title ~>=~ 'Title %[1]d' AND title ~<~ 'Title %[1]d~'",
				"tenant_title", true,
			},
			{"remedy: `LIKE '%infix%'` answered from the index alone", "SELECT id, title FROM documents WHERE title LIKE '%%e %d%%'", "tenant_title", false},
		},
	},
	{
		name: "lower(x) =", where: "lower(title) = 'title %d'", own: "lower_title",
		remedy: []remedy{{"remedy: a generated column for `lower(x)`", "SELECT * FROM documents WHERE title_lower = 'title %d'", "tenant_title_lower", true}},
	},
	{
		name: "jsonb @>", where: `body @> '{"ref": %d}'`, own: "body",
		remedy: []remedy{{"remedy: a generated column for the member", "SELECT * FROM documents WHERE ref = %d", "tenant_ref", true}},
	},
}

// ownIndexes are those that people make.
var ownIndexes = []string{
	"CREATE INDEX title ON documents (title text_pattern_ops)",
	"CREATE INDEX lower_title ON documents (lower(title))",
	"CREATE INDEX body ON documents USING gin (body jsonb_path_ops)",
}

// expressionIndex leads with the tenant, and can still not be searched for what comes after.
const expressionIndex = "CREATE INDEX tenant_lower_title ON documents (tenant_id, lower(title))"

// remedyIndexes lead with the tenant, and what they hold is compared by leakproof operators.
var remedyIndexes = []string{
	`ALTER TABLE documents ADD COLUMN title_lower text GENERATED ALWAYS AS (lower(title)) STORED,
		ADD COLUMN ref bigint GENERATED ALWAYS AS ((body ->> 'ref')::bigint) STORED`,
	"CREATE INDEX tenant_title ON documents (tenant_id, title text_pattern_ops) INCLUDE (id)",
	"CREATE INDEX tenant_title_lower ON documents (tenant_id, title_lower)",
	"CREATE INDEX tenant_ref ON documents (tenant_id, ref)",
}

// requireRemedies requires that a search which is not leakproof loses its index under a policy and reads the tenant's rows,
// never more, and that each remedy reads as little as the search did without a policy.
func requireRemedies(t *testing.T, w *fixture, r *findings) {
	t.Helper()
	w.run(t, ownIndexes...)
	w.vacuum(t)
	tenantRows := explain(t, w.app, 1, "SELECT * FROM documents").buffers
	plain := map[string]measured{}
	w.without(t, func() {
		for _, s := range searches {
			sql := "SELECT * FROM documents WHERE tenant_id = $1 AND " + fmt.Sprintf(s.where, w.id)
			plain[s.name] = explain(t, w.app, runs(), sql, w.tenant)
			require.True(t, plain[s.name].plan.has(uses(s.own)), "%s: %s", s.name, plain[s.name].plan)
		}
	})
	for _, s := range searches {
		m := explain(t, w.app, runs(), "SELECT * FROM documents WHERE "+fmt.Sprintf(s.where, w.id))
		r.search("`"+s.name+"`, without a policy", plain[s.name], plain[s.name])
		r.search("`"+s.name+"`, under the policy", plain[s.name], m)
		require.False(t, m.plan.has(uses(s.own)), "%s: %s", s.name, m.plan)
		require.True(t, m.plan.has(seeks), "%s: %s", s.name, m.plan)
		require.InDelta(t, tenantRows, m.buffers, slack, "%s reads the tenant's rows, and no others", s.name)
		require.Greater(t, m.buffers, 5*plain[s.name].buffers, s.name)
	}
	requireExpressionIndexIsNotSearched(t, w, tenantRows)

	w.run(t, remedyIndexes...)
	w.vacuum(t)
	for _, s := range searches {
		for _, remedy := range s.remedy {
			if strings.Contains(remedy.sql, "^@") && pgserver.Shared(t).Version() < 150000 {
				continue // it finds no B-tree there
			}
			m := explain(t, w.app, runs(), fmt.Sprintf(remedy.sql, w.id))
			r.search(remedy.name, plain[s.name], m)
			requireRemedy(t, remedy, m, plain[s.name])
		}
	}
}

// requireExpressionIndexIsNotSearched shows that it is not enough for an index to lead with the tenant.
func requireExpressionIndexIsNotSearched(t *testing.T, w *fixture, tenantRows int) {
	t.Helper()
	w.run(t, expressionIndex, "ANALYZE documents")
	m := explain(t, w.app, 1, fmt.Sprintf("SELECT * FROM documents WHERE lower(title) = 'title %d'", w.id))
	require.False(t, m.plan.has(func(n node) bool { return strings.Contains(n.Cond, "lower(") }), m.plan.String())
	require.InDelta(t, tenantRows, m.buffers, 2*slack)
	w.run(t, "DROP INDEX tenant_lower_title")
}

func requireRemedy(t *testing.T, remedy remedy, m, plain measured) {
	t.Helper()
	require.EqualValues(t, 1, m.plan.Rows, remedy.name)
	require.True(t, m.plan.has(uses(remedy.index)), "%s: %s", remedy.name, m.plan)
	require.True(t, m.plan.has(seeks), "%s: %s", remedy.name, m.plan)
	searched := m.plan.has(func(n node) bool { return strings.Contains(n.Cond, " AND ") })
	require.Equal(t, remedy.cond, searched, "%s: %s", remedy.name, m.plan)
	if remedy.cond {
		require.LessOrEqual(t, m.buffers, plain.buffers+slack, "%s: %s", remedy.name, m.plan)
		return
	}
	// All of the tenant's entries in the index are read, some hundred to a page.
	require.Less(t, m.buffers, *rows/tenants/10, "%s: %s", remedy.name, m.plan)
	require.True(t, m.plan.has(func(n node) bool { return n.Type == "Index Only Scan" }))
}
