package check_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// An owner that policies bind is noted, and is no finding.
func TestCheckNotesABoundOwner(t *testing.T) {
	t.Parallel()
	d := cleanDatabase(t)
	owner, admin := "mover_of_"+d.role, "guide_of_"+d.role
	d.run(t, d.super, "CREATE ROLE "+owner+" LOGIN; CREATE ROLE "+admin+"; CREATE TABLE moves (id bigint, tenant_id text NOT NULL); "+
		"ALTER TABLE moves OWNER TO "+owner)
	notes := func(admin string) []string {
		t.Helper()
		isolation := rls.Isolation{AppRole: d.role, AdminRole: admin}
		report, err := isolation.Check(t.Context(), open(t, d.app, &gorm.Config{}), d.patched())
		require.NoError(t, err)
		fixes := []string{}
		for _, f := range report.Notes {
			if f.Code != check.OwnerBound {
				continue
			}
			require.Equal(t, check.Info, f.Severity)
			require.NotContains(t, report.SQL(), "GRANT "+admin)
			if f.Object == "role "+owner {
				fixes = append(fixes, f.Fix)
			}
		}
		require.NotContains(t, found(report), "owner-bound: role "+owner)
		return fixes
	}
	require.Empty(t, notes(admin), "policies are not forced")
	d.run(t, d.super, "ALTER TABLE moves ENABLE ROW LEVEL SECURITY; ALTER TABLE moves FORCE ROW LEVEL SECURITY")
	require.Equal(t, []string{""}, notes(""), "no admin role is known")
	fixes := notes(admin)
	require.Len(t, fixes, 1)
	d.run(t, d.super, fixes[0])
	require.Empty(t, notes(admin), "it can take the role")
	d.run(t, d.super, "REVOKE "+admin+" FROM "+owner+"; DROP ROLE IF EXISTS "+admin+"_for_"+owner+"; ALTER ROLE "+owner+" BYPASSRLS")
	require.Empty(t, notes(admin))
	d.run(t, d.super, "ALTER ROLE "+owner+" NOBYPASSRLS SUPERUSER")
	require.Empty(t, notes(admin))
}
