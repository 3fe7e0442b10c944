package audit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Erasing an audited tenant says that the records stay, and they are the owner's to delete.
func TestAuditAndErase(t *testing.T) {
	d := attacked(t)
	l := lifecycle.Tenants{DB: testdb.OpenSQL(t, d.Owner.DSN), Actor: "a test", Logger: testdb.Quiet}
	_, err := l.Erase(t.Context(), "acme")
	require.ErrorContains(t, err, "public.tenancy_audit")
	require.ErrorContains(t, err, "leave the table out by Skip")
	require.Len(t, d.records(t, summary), 2)

	l.Skip = map[string]string{"public.tenancy_audit": "kept for two years"}
	report, err := l.Erase(t.Context(), "acme")
	require.NoError(t, err)
	require.EqualValues(t, 1, report.Rows())
	require.NotEmpty(t, report.Left)
	require.Equal(t, []string{"acme INSERT", "acme DELETE", "globex INSERT"}, d.records(t, "SELECT tenant_id || ' ' || operation FROM tenancy_audit ORDER BY tenant_id, id"))

	d.AsOwner(t, "BEGIN; SET LOCAL app.tenant_id = 'acme'; DELETE FROM tenancy_audit; COMMIT")
	require.Equal(t, []string{"globex INSERT"}, d.records(t, "SELECT tenant_id || ' ' || operation FROM tenancy_audit"))
}
