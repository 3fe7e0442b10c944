package check_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/check"
)

// TestCheckNotesIncompleteBackups: in a database where no role can dump all rows, the report says so, and does not fail.
func TestCheckNotesIncompleteBackups(t *testing.T) {
	d := cleanDatabase(t)
	d.run(t, d.Owner.DSN, "DROP POLICY not_empty ON topics") // it is restrictive
	incomplete := func(where string, role string) (check.Finding, bool) {
		t.Helper()
		i := d.isolation()
		i.BackupRole = role
		report, err := i.Check(t.Context(), open(t, d.Owner.DSN, &gorm.Config{}), d.allowances()...)
		require.NoError(t, err)
		require.NoError(t, report.Err(), where)
		require.True(t, report.OK(), where)
		require.Empty(t, report.SQL(), where)
		n := slices.IndexFunc(report.Notes, func(f check.Finding) bool { return f.Code == check.BackupIncomplete })
		if n < 0 {
			return check.Finding{}, false
		}
		require.Equal(t, "backups", report.Notes[n].Object)
		return report.Notes[n], true
	}
	_, found := incomplete("the admin role has a policy on each table", "")
	require.False(t, found)

	backup := "backup_of_" + d.role
	d.run(t, d.Owner.DSN, "ALTER POLICY tenant_admin ON notes USING (body <> '')")
	finding, found := incomplete("the policy of the admin role hides rows", backup)
	require.True(t, found)
	d.run(t, d.super, finding.Fix)
	_, found = incomplete("after the fix", backup)
	require.False(t, found)

	d.run(t, d.super, "REVOKE pg_read_all_data FROM "+backup)
	_, found = incomplete("without a privilege to read", backup)
	require.True(t, found)
	d.run(t, d.super, "GRANT pg_read_all_data TO "+backup+"; ALTER ROLE "+backup+" NOBYPASSRLS")
	finding, found = incomplete("without the attribute", backup)
	require.True(t, found)
	d.run(t, d.super, finding.Fix)
	_, found = incomplete("after the second fix", backup)
	require.False(t, found)

	d.run(t, d.Owner.DSN, "ALTER POLICY tenant_admin ON notes USING (true)")
	d.run(t, d.super, "ALTER ROLE "+backup+" NOBYPASSRLS")
	_, found = incomplete("the policy shows all again", backup)
	require.False(t, found)
	d.run(t, d.Owner.DSN, "CREATE POLICY hides ON notes AS RESTRICTIVE USING (body <> '')")
	_, found = incomplete("a restrictive policy hides rows", backup)
	require.True(t, found)
}
