package rollout_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
)

// notNull reports whether projects.account_id is NOT NULL, as the older version's migration has made it and its model does not say.
func (d database) notNull(t *testing.T) (is bool) {
	t.Helper()
	require.NoError(t, d.OwnerDB.Raw("SELECT attnotnull FROM pg_attribute WHERE attrelid = 'projects'::regclass AND attname = 'account_id'").Scan(&is).Error)
	return is
}

func TestEnforceKeepsTheSchemaOfAnotherTool(t *testing.T) {
	d := newDatabase(t, 10)
	d.AsOwner(t, "ALTER TABLE projects ALTER account_id SET NOT NULL")
	d.to(t, rls.StageShadow)
	const drops = `public.projects: AutoMigrate: ALTER TABLE "projects" ALTER COLUMN "account_id" DROP NOT NULL (ACCESS EXCLUSIVE)`
	plan, err := d.isolation(rls.StageEnforce).Plan(t.Context(), d.OwnerDB, models...)
	require.NoError(t, err)
	require.Contains(t, plan.String(), drops, "the plan says what AutoMigrate would do")

	kept := d.isolation(rls.StageEnforce)
	kept.KeepSchema = true
	plan, err = kept.Plan(t.Context(), d.OwnerDB, models...)
	require.NoError(t, err)
	require.NotContains(t, plan.String(), "AutoMigrate")
	d.Migrate(t, kept, models...)
	require.True(t, d.notNull(t))

	d.to(t, rls.StageEnforce)
	require.False(t, d.notNull(t))
}
