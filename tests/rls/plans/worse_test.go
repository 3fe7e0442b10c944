package plans

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// worse is a policy that people write, and what becomes of the plans.
type worse struct {
	name   string
	column string   // the type of tenant column it is shown with
	before []string // what it needs
	using  string   // instead of the canonical predicate; empty keeps that
	beside string   // the predicate of another permissive policy, if there is one
}

const (
	setting   = "current_setting('app.tenant_id', true)"
	bypass    = "current_setting('app.bypass', true) = 'on'"
	canonical = "tenant_id = (SELECT NULLIF(" + setting + ", '')::uuid)"
)

// scans are the forms that keep the index from being used.
var scans = []worse{
	{
		name: "VOLATILE function", column: "uuid",
		before: []string{`CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE plpgsql AS
			$$ BEGIN RETURN NULLIF(` + setting + `, '')::uuid; END $$`},
		using: "tenant_id = current_tenant()",
	},
	{name: "function of the column", column: "text", using: "lower(tenant_id) = (SELECT lower(" + setting + "))"},
	{name: "cast of the column", column: "uuid", using: "tenant_id::text = (SELECT " + setting + ")"},
	{name: "cast of the column", column: "bigint", using: "tenant_id::text = (SELECT " + setting + ")"},
	{name: "bypass OR tenant", column: "uuid", using: bypass + " OR " + canonical},
	{name: "bypass in a second policy", column: "uuid", beside: bypass},
}

// apply puts the form in the place of what Migrate made, on both tables.
func (f worse) apply(t *testing.T, w *fixture) {
	t.Helper()
	w.run(t, f.before...)
	if f.using != "" {
		w.both(t, fmt.Sprintf("ALTER POLICY tenant_isolation ON %%s USING (%s) WITH CHECK (%[1]s)", f.using))
	}
	if f.beside != "" {
		w.both(t, fmt.Sprintf("CREATE POLICY bypass ON %%s USING (%s)", f.beside))
	}
}

// restore makes the policies canonical again.
func (w *fixture) restore(t *testing.T) {
	t.Helper()
	w.both(t, "DROP POLICY IF EXISTS bypass ON %s")
	w.isolate(t)
}

// during measures the queries under a form.
func (w *fixture) during(t *testing.T, f worse) measurements {
	t.Helper()
	f.apply(t, w)
	defer w.restore(t)
	return w.isolated(t)
}

// requireScans requires that nothing is found by the tenant, and what that costs.
func (w *fixture) requireScans(t *testing.T, found, plain measurements) {
	t.Helper()
	for name, m := range found {
		require.False(t, m.plan.has(seeks), "%s: %s", name, m.plan)
		require.Equal(t, plain[name].plan.Rows, m.plan.Rows, name)
		switch name {
		case "by primary key": // a filter on a single row costs nothing, whatever it is
			require.InDelta(t, plain[name].buffers, m.buffers, 2, name)
		case "all rows":
			require.True(t, m.plan.has(scansAll), m.plan.String())
			require.GreaterOrEqual(t, m.buffers, w.pages(t), name)
		case "join":
			require.True(t, m.plan.has(scansAll), m.plan.String())
			require.Greater(t, m.buffers, 3*plain[name].buffers, name)
		default:
			require.Greater(t, m.buffers, 5*plain[name].buffers, name)
		}
	}
}

// requireWithoutNullif requires that a setting which ended with its transaction is no tenant to the canonical policy, and
// something else to a policy without NULLIF.
func (w *fixture) requireWithoutNullif(t *testing.T) {
	t.Helper()
	const count = "SELECT count(*) FROM documents"
	var found int
	w.setTenant(t, "") // as it reads then
	defer w.setTenant(t, w.tenant)
	require.NoError(t, w.app.QueryRow(t.Context(), count).Scan(&found))
	require.Zero(t, found)

	worse{using: "tenant_id = (SELECT " + setting + "::" + w.name + ")"}.apply(t, w)
	defer w.restore(t)
	err := w.app.QueryRow(t.Context(), count).Scan(&found)
	if w.name == "text" {
		require.NoError(t, err)
		_, err = w.app.Exec(t.Context(), "INSERT INTO documents (id, tenant_id, title, body) VALUES (-1, '', 'Nobody''s', '{}')")
		require.NoError(t, err, "a row that belongs to no tenant")
		require.NoError(t, w.app.QueryRow(t.Context(), count).Scan(&found))
		require.Equal(t, 1, found)
		_, err = w.admin.Exec(t.Context(), "DELETE FROM documents WHERE id = -1")
		require.NoError(t, err)
		return
	}
	require.ErrorContains(t, err, "SQLSTATE 22P02", "invalid input syntax")
}

// fullScan keeps PostgreSQL from using an index, as it does by itself where there is none, or for a tenant that owns most
// of a table.
var fullScan = []string{"SET enable_indexscan = off", "SET enable_indexonlyscan = off", "SET enable_bitmapscan = off"}

const sum = "SELECT sum(length(title)) FROM documents"

// perRow measures, with and without the sub-select, a scan that filters every row of the table.
func (w *fixture) perRow(t *testing.T) (once, each measured) {
	t.Helper()
	for _, sql := range fullScan {
		_, err := w.app.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	defer func() {
		_, err := w.app.Exec(t.Context(), "RESET enable_indexscan; RESET enable_indexonlyscan; RESET enable_bitmapscan")
		require.NoError(t, err)
	}()
	once = explain(t, w.app, runs(), sum)
	withoutSubSelect(w.name).apply(t, w)
	defer w.restore(t)
	each = explain(t, w.app, runs(), sum)
	return once, each
}

func withoutSubSelect(columnType string) worse {
	return worse{
		name: "no sub-select", column: columnType,
		using: "tenant_id = NULLIF(" + setting + ", '')::" + columnType,
	}
}
