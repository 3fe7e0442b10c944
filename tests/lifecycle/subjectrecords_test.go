package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestSubjectIsMaskedInRecordsOfChanges(t *testing.T) {
	testdb.InBothForms(t, testSubjectIsMaskedInRecordsOfChanges)
}

func testSubjectIsMaskedInRecordsOfChanges(t *testing.T) {
	var audits []rls.Audit
	for _, model := range personal {
		audits = append(audits, rls.Audit{Model: model})
	}
	d := people(t, audits...)
	// What was there earlier: another name, and a comment and an order that are gone.
	d.AsSuperuser(t, "UPDATE users SET name = 'Newer Name' WHERE name = 'Secret Name'",
		"INSERT INTO comments (id, tenant_id, author_id, body) VALUES (7, 'acme', 1, 'secret and deleted'), (17, 'acme', 11, 'of eve')", "DELETE FROM comments WHERE id IN (7, 17)",
		"INSERT INTO orders (id, tenant_id, user_id, note) VALUES (7, 'acme', 1, 'secret and deleted')",
		"INSERT INTO items (id, tenant_id, order_id, gift) VALUES (7, 'acme', 7, 'secret and deleted')", "DELETE FROM items WHERE id = 7", "DELETE FROM orders WHERE id = 7")
	const (
		others = `SELECT md5(string_agg(a::text, ' ' ORDER BY id)) FROM tenancy_audit a WHERE tenant_id = 'globex' OR table_name IN ('comments', 'users') AND key ->> 'id' IN ('12', '17')`
		bobs   = `SELECT a::text FROM tenancy_audit a WHERE tenant_id = 'acme' AND table_name <> 'invoices' AND (key ->> 'id')::int < 10
			AND concat(before, after) ~* 'bob|secret|Newer|555'`
	)
	before, records := rowsOf(t, d, others), rowsOf(t, d, "SELECT count(*)::text FROM tenancy_audit")
	require.NotEmpty(t, rowsOf(t, d, bobs))

	s := subjects(t, d)
	s.Tenants.BatchSize = 1
	report, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.Positive(t, report.Records)
	require.Equal(t, before, rowsOf(t, d, others))
	require.Empty(t, rowsOf(t, d, bobs))
	require.NotEqual(t, records, rowsOf(t, d, "SELECT count(*)::text FROM tenancy_audit"), "the erase itself is recorded")
	require.NotEmpty(t, rowsOf(t, d, `SELECT a::text FROM tenancy_audit a WHERE tenant_id = 'acme' AND concat(before, after) ~ 'eve@'`))

	again, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.Zero(t, again.Records)

	t.Run("by who may", func(t *testing.T) {
		s := subjects(t, d)
		s.Tenants.DB = testdb.OpenSQL(t, d.App.DSN)
		_, err := s.Erase(t.Context(), testdb.Acme, eve)
		if d.Signed() {
			require.ErrorContains(t, err, "log in as a member of the role", "the application's login must not be able to make proofs")
			return
		}
		require.ErrorContains(t, err, "cannot change public.tenancy_audit")
		s.Tenants.Skip = map[string]string{"public.tenancy_audit": "records are kept for two years"}
		report, err := s.Erase(t.Context(), testdb.Acme, eve)
		require.NoError(t, err)
		require.Zero(t, report.Records)
		require.Contains(t, report.Left, lifecycle.Left{Object: "public.tenancy_audit", Reason: "records are kept for two years"})
	})
}
