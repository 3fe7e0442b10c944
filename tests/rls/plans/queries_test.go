package plans

import (
	"fmt"
	"testing"
)

// query is a statement of the application, as it is written under a policy and as it is without one.
type query struct {
	name, isolated, plain string
}

// queries are the statements to compare.
func (w *fixture) queries() []query {
	one := fmt.Sprintf("SELECT * FROM documents WHERE id = %d", w.id)
	const join = "SELECT d.title, c.text FROM documents d JOIN comments c ON c.document_id = d.id"
	return []query{
		{"all rows", "SELECT * FROM documents", "SELECT * FROM documents WHERE tenant_id = $1"},
		{"by primary key", one, one + " AND tenant_id = $1"},
		{
			"ORDER BY id LIMIT 20", "SELECT * FROM documents ORDER BY id LIMIT 20",
			"SELECT * FROM documents WHERE tenant_id = $1 ORDER BY id LIMIT 20",
		},
		{"count", "SELECT count(*) FROM documents", "SELECT count(*) FROM documents WHERE tenant_id = $1"},
		{"join", join, join + " WHERE d.tenant_id = $1 AND c.tenant_id = $1"},
	}
}

// measurements are those of queries, by their names.
type measurements map[string]measured

// runs is how often a statement is measured: once is enough for a plan.
func runs() int {
	if *report == "" {
		return 1
	}
	return 5
}

// isolated measures the queries as the application, with what row-level security there is.
func (w *fixture) isolated(t *testing.T) measurements {
	t.Helper()
	found := measurements{}
	for _, q := range w.queries() {
		found[q.name] = explain(t, w.app, runs(), q.isolated)
	}
	return found
}

// plain measures the queries as the application, without row-level security.
func (w *fixture) plain(t *testing.T) measurements {
	t.Helper()
	found := measurements{}
	w.without(t, func() {
		for _, q := range w.queries() {
			found[q.name] = explain(t, w.app, runs(), q.plain, w.tenant)
		}
	})
	return found
}

// compared measures both in turns, so that what else the machine does meets them alike.
func (w *fixture) compared(t *testing.T) (plain, isolated measurements) {
	t.Helper()
	plain, isolated = w.plain(t), w.isolated(t)
	if *report == "" {
		return plain, isolated
	}
	for range 30 {
		plain.add(w.plain(t))
		isolated.add(w.isolated(t))
	}
	return plain, isolated
}

func (m measurements) add(more measurements) {
	for name, one := range more {
		one.times = append(one.times, m[name].times...)
		m[name] = one
	}
}
