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
	report, err := l.Erase(t.Context(), "acme")
	require.NoError(t, err)
	require.EqualValues(t, 1, report.Rows())
	require.Len(t, report.Left, 1)
	require.Equal(t, "public.tenancy_audit", report.Left[0].Object)
	require.EqualValues(t, 2, report.Left[0].Rows, "that of the deletion as well")
	require.Equal(t, []string{"acme INSERT", "acme DELETE", "globex INSERT"}, d.records(t, "SELECT tenant_id || ' ' || operation FROM tenancy_audit ORDER BY tenant_id, id"))

	d.AsOwner(t, "BEGIN; SET LOCAL app.tenant_id = 'acme'; DELETE FROM tenancy_audit; COMMIT")
	require.Equal(t, []string{"globex INSERT"}, d.records(t, "SELECT tenant_id || ' ' || operation FROM tenancy_audit"))
}
