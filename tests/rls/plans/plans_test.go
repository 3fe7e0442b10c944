package plans

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A page or two more may be read where a plan is made without knowing the tenant.
const slack = 2

func TestPlans(t *testing.T) {
	require.GreaterOrEqual(t, *rows, 100*tenants)
	var r findings
	if *report != "" {
		enlargeBuffers(t)
	}
	for _, c := range columns {
		t.Run(c.name, func(t *testing.T) {
			w := newFixture(t, c)
			plain, isolated := w.compared(t)
			r.compare(w, plain, isolated)
			t.Run("canonical", func(t *testing.T) { requireAsGood(t, w, plain, isolated) })
			t.Run("admin policy", func(t *testing.T) { requireAdminFree(t, w, isolated) })
			for _, form := range scans {
				if form.column != c.name {
					continue
				}
				t.Run(form.name, func(t *testing.T) {
					found := w.during(t, form)
					r.worse(form.name, w, plain, found)
					w.requireScans(t, found, plain)
				})
			}
			t.Run("no sub-select", func(t *testing.T) { requireSubSelect(t, w, plain, &r) })
			t.Run("no NULLIF", w.requireWithoutNullif)
			if c.name == "uuid" {
				t.Run("not leakproof", func(t *testing.T) { requireRemedies(t, w, &r) })
			}
		})
	}
	if *report != "" && !t.Failed() {
		r.write(t, *report)
	}
}

// requireAsGood requires of the canonical policy the index and the pages of a plain WHERE.
func requireAsGood(t *testing.T, w *fixture, plain, isolated measurements) {
	t.Helper()
	for _, q := range w.queries() {
		m, p := isolated[q.name], plain[q.name]
		t.Logf("%-22s plain %5d, policy %5d: %s", q.name, p.buffers, m.buffers, m.plan)
		require.InDelta(t, p.buffers, m.buffers, slack, "%s: %s, plain: %s", q.name, m.plan, p.plan)
		require.Equal(t, p.plan.Rows, m.plan.Rows, q.name)
		require.False(t, m.plan.has(scansAll), "%s: %s", q.name, m.plan)
		if q.name != "by primary key" { // which may be looked up by itself
			require.True(t, m.plan.has(seeks), "%s: %s", q.name, m.plan)
		}
		require.False(t, m.plan.has(readsSetting), q.name)
		require.True(t, m.plan.has(initPlan), q.name)
		for _, n := range m.plan.nodes() {
			if initPlan(n) {
				require.EqualValues(t, 1, n.Loops, "the setting is read once for each table")
			}
		}
	}
	require.Less(t, isolated["all rows"].buffers, w.pages(t)/5, "of all pages; else an index proves nothing")
	require.EqualValues(t, *rows/tenants, isolated["all rows"].plan.Rows)
}

// requireAdminFree requires that the application's plans are the same without the admin's policy, and that the admin has
// one.
func requireAdminFree(t *testing.T, w *fixture, isolated measurements) {
	t.Helper()
	var all int
	require.NoError(t, w.admin.QueryRow(t.Context(), "SELECT count(*) FROM documents").Scan(&all))
	require.Equal(t, *rows, all)

	w.both(t, "DROP POLICY tenant_admin ON %s")
	defer w.isolate(t)
	for name, m := range w.isolated(t) {
		require.Equal(t, isolated[name].plan.shape(), m.plan.shape(), name)
		require.Equal(t, isolated[name].buffers, m.buffers, name)
	}
	require.NoError(t, w.admin.QueryRow(t.Context(), "SELECT count(*) FROM documents").Scan(&all))
	require.Zero(t, all, "it is that policy that lets the admin")
}

// requireSubSelect requires that the sub-select makes no difference to what an index is searched for, and that it spares
// a call for each row that is filtered.
func requireSubSelect(t *testing.T, w *fixture, plain measurements, r *findings) {
	t.Helper()
	form := withoutSubSelect(w.name)
	found := w.during(t, form)
	for name, m := range found {
		require.InDelta(t, plain[name].buffers, m.buffers, slack, "%s: %s", name, m.plan)
		require.False(t, m.plan.has(initPlan), name)
	}
	require.True(t, found["by primary key"].plan.has(func(n node) bool { return readsSetting(n) || seeks(n) }))

	once, each := w.perRow(t)
	for _, m := range []measured{once, each} {
		require.True(t, m.plan.has(func(n node) bool {
			return scansAll(n) && int(n.Rows+n.Removed) == *rows
		}), "every row is filtered")
	}
	require.True(t, once.plan.has(initPlan))
	require.False(t, once.plan.has(readsSetting))
	require.False(t, each.plan.has(initPlan))
	require.True(t, each.plan.has(readsSetting))
	require.Equal(t, once.buffers, each.buffers, "it is no page that it costs, but time")
	if w.name == "uuid" {
		r.worse(form.name, w, plain, found)
		r.perRow(once, each)
	}
}
