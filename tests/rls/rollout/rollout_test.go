package rollout_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// catalogSQL describes what is in the schema, apart from the order of columns.
const catalogSQL = `SELECT x FROM (
	SELECT format('%s.%s %s null=%s default=%s', attrelid::regclass, attname, format_type(atttypid, atttypmod), NOT attnotnull,
		(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
	FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
	UNION ALL SELECT format('%s %s enabled=%s forced=%s', relname, relkind, relrowsecurity, relforcerowsecurity) FROM pg_class WHERE relnamespace = 'public'::regnamespace
	UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
	UNION ALL SELECT format('%s %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
	UNION ALL SELECT format('%s %s %s %s %s', tablename, policyname, cmd, qual, with_check) FROM pg_policies
	UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
	UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace) c (x) ORDER BY x`

func (d database) catalog(t *testing.T) (lines []string) {
	t.Helper()
	require.NoError(t, d.OwnerDB.Raw(catalogSQL).Scan(&lines).Error)
	return lines
}

// orphans counts the rows of a table without a tenant, as the superuser.
func (d database) orphans(t *testing.T) (n int) {
	t.Helper()
	super := testdb.OpenSQL(t, d.SuperuserDSN(t))
	for _, table := range tables {
		var more int
		require.NoError(t, super.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table+" WHERE tenant_id IS NULL").Scan(&more))
		n += more
	}
	return n
}

// oldVersion writes a row to each table as plain GORM does, and reads them.
func oldVersion(db *gorm.DB, n int64, code string) error {
	project := map[string]any{"account_id": 1 + n%accounts, "code": code}
	return db.Transaction(func(tx *gorm.DB) error {
		for _, step := range []func() error{
			func() error { return tx.Table("projects").Create(project).Error },
			func() error {
				return tx.Exec("INSERT INTO projects (account_id, code) VALUES (?, ?) ON CONFLICT (code) DO UPDATE SET account_id = excluded.account_id",
					1+n%accounts, code).Error
			},
			func() error {
				return tx.Exec("INSERT INTO tasks (project_id, title) SELECT id, 'old' FROM projects WHERE code = ?", code).Error
			},
			func() error {
				return tx.Exec("INSERT INTO comments (task_id, body) SELECT t.id, 'old' FROM tasks t JOIN projects p ON p.id = project_id WHERE code = ?", code).Error
			},
			func() error {
				return tx.Exec("INSERT INTO files (project_id, name) SELECT id, 'old' FROM projects WHERE code = ?", code).Error
			},
			func() error {
				return tx.Exec("INSERT INTO events (task_id, kind) SELECT t.id, 'old' FROM tasks t JOIN projects p ON p.id = project_id WHERE code = ?", code).Error
			},
			func() error { return tx.Exec("UPDATE tasks SET title = 'new' WHERE id = ?", 1+n).Error },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		var found int64
		if err := tx.Raw("SELECT count(*) FROM events e JOIN tasks t ON t.id = task_id JOIN projects p ON p.id = project_id WHERE code = ?", code).
			Scan(&found).Error; err != nil {
			return err
		}
		if found != 1 {
			return fmt.Errorf("the older version finds %d of its rows", found)
		}
		return nil
	})
}

// newVersion does the same for a tenant.
func newVersion(db *gorm.DB, n int64, code string) error {
	id := 1 + n%accounts
	tx := db.WithContext(testdb.As(fmt.Sprint(id)))
	project := Project{AccountID: id, Code: code}
	if err := tx.Create(&project).Error; err != nil {
		return err
	}
	task := Task{ProjectID: project.ID, Title: "new"}
	if err := tx.Create(&task).Error; err != nil {
		return err
	}
	for _, row := range []any{&Comment{TaskID: task.ID}, &File{ProjectID: project.ID}, &Event{TaskID: task.ID}} {
		if err := tx.Create(row).Error; err != nil {
			return err
		}
	}
	var found []Event
	if err := tx.Find(&found, "task_id = ?", task.ID).Error; err != nil || len(found) != 1 {
		return fmt.Errorf("the new version finds %d of its rows: %w", len(found), err)
	}
	return nil
}

// After a rollout the database is as if it had been migrated at once, and after each way back and forth as well.
func TestRolloutEndsAsMigrateDoes(t *testing.T) {
	direct := newDatabase(t, 30)
	i := direct.isolation(rls.StageEnforce)
	direct.Migrate(t, i, models...)

	d := newDatabase(t, 30)
	for _, stages := range [][]rls.Stage{
		{rls.StageObserve, rls.StageShadow, rls.StageEnforce},
		{rls.StageShadow, rls.StageObserve, rls.StageEnforce},
		{rls.StageObserve, rls.StageEnforce},
	} {
		for _, stage := range stages {
			d.to(t, stage)
			require.Zero(t, d.orphans(t))
		}
		require.Equal(t, direct.catalog(t), d.catalog(t))
	}
}

// What the older version writes, and what the two see of each other, at each stage and on the way back.
func TestRolloutServesBothVersions(t *testing.T) {
	d := newDatabase(t, 30)
	old := testdb.OpenPlain(t, d.oldDSN())
	require.NoError(t, oldVersion(old, 1, "before"))
	var n int64
	for _, stage := range []rls.Stage{rls.StageObserve, rls.StageShadow, rls.StageEnforce, rls.StageShadow, rls.StageObserve} {
		d.to(t, stage)
		n++
		newer := d.Open(t, tenancy.Config{DangerouslySkipProof: stage == rls.StageObserve})
		require.NoError(t, newVersion(newer, 2, fmt.Sprint("new", n)), stage)
		err := oldVersion(old, 2, fmt.Sprint("old", n))
		if stage == rls.StageEnforce {
			require.ErrorContains(t, err, "42501")
			continue
		}
		require.NoError(t, err, stage)
		require.Zero(t, d.orphans(t), "the trigger gives each row of the older version its tenant")
		var seen []Project
		require.NoError(t, newer.WithContext(testdb.As("3")).Find(&seen, "code = ?", fmt.Sprint("old", n)).Error)
		require.Len(t, seen, 1, "the new version sees what the older one has written")
		require.NoError(t, newer.WithContext(testdb.As("4")).Find(&seen, "code = ?", fmt.Sprint("old", n)).Error)
		require.Equal(t, stage == rls.StageShadow, len(seen) == 0, "policies bind the new version from the shadow on")
	}
}

// The dry run names what a stage does, and changes nothing.
func TestRolloutIsPlanned(t *testing.T) {
	d := newDatabase(t, 3)
	before := d.catalog(t)
	plan, err := d.isolation(rls.StageObserve).Plan(t.Context(), d.OwnerDB, models...)
	require.NoError(t, err)
	require.Contains(t, plan.String(), "columns: public.tasks: give new rows their tenant by a trigger")
	require.NotContains(t, plan.String(), "policy")
	require.Equal(t, before, d.catalog(t))

	plan, err = d.isolation(rls.StageShadow).Plan(t.Context(), d.OwnerDB, models...)
	require.NoError(t, err)
	require.Contains(t, plan.String(), "create policy tenant_rollout")
	require.NotContains(t, plan.String(), "public.tasks: force row level security")
}

// Rows that the new version would not see are an error before it is.
func TestShadowRefusesRowsThatWouldBeHidden(t *testing.T) {
	d := newDatabase(t, 3)
	i := d.isolation(rls.StageShadow)
	i.Fills = nil
	_, err := i.Migrate(t.Context(), d.OwnerDB, models...)
	require.ErrorContains(t, err, "public.accounts: rows that the older version writes would have no tenant")

	i = d.isolation(rls.StageShadow)
	i.Fills[0].Tenant = "CASE WHEN id > 1 THEN id::text END"
	_, err = i.Migrate(t.Context(), d.OwnerDB, models...)
	require.ErrorContains(t, err, `SELECT * FROM "public"."accounts" WHERE "tenant_id" IS NULL`)
	require.NotContains(t, strings.Join(d.catalog(t), "\n"), "tenant_isolation")
}

// A new version that has the rights of the older one's role would see all rows.
func TestShadowRefusesMembersOfTheOldRole(t *testing.T) {
	d := newDatabase(t, 3)
	d.AsSuperuser(t, "ALTER ROLE "+d.App.Role+" INHERIT", "GRANT "+d.old+" TO "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "ALTER ROLE "+d.App.Role+" NOINHERIT") })
	_, err := d.isolation(rls.StageShadow).Migrate(t.Context(), d.OwnerDB, models...)
	require.ErrorContains(t, err, "it would see the rows of all tenants")

	i := d.isolation(rls.StageShadow)
	i.OldRole = i.AppRole
	_, err = i.Migrate(t.Context(), d.OwnerDB, models...)
	require.ErrorContains(t, err, "OldRole and AppRole")
}

// The check finds a login that became a member after the migration, and a database that was left in a stage.
func TestCheckFindsUnfinishedRollout(t *testing.T) {
	d := newDatabase(t, 3)
	d.to(t, rls.StageShadow)
	codes := func() (found []check.Code) {
		report, err := d.Isolation().Check(t.Context(), d.OwnerDB)
		require.NoError(t, err)
		for _, f := range report.Findings {
			found = append(found, f.Code)
		}
		return found
	}
	require.Contains(t, codes(), check.TableNotForced)
	require.NotContains(t, codes(), check.PolicyAlwaysTrue)
	d.AsSuperuser(t, "ALTER ROLE "+d.App.Role+" INHERIT", "GRANT "+d.old+" TO "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "ALTER ROLE "+d.App.Role+" NOINHERIT") })
	require.Contains(t, codes(), check.PolicyAlwaysTrue)
	d.AsSuperuser(t, "REVOKE "+d.old+" FROM "+d.App.Role, "ALTER ROLE "+d.App.Role+" NOINHERIT")
	d.to(t, rls.StageObserve)
	require.Contains(t, codes(), check.TableNotEnabled)
}

// A tenant's SQL cannot use the trigger to write a row of another tenant.
func TestShadowTriggerDoesNotServeTenants(t *testing.T) {
	d := newDatabase(t, 30)
	d.to(t, rls.StageShadow)
	db := d.Open(t, tenancy.Config{})
	err := db.WithContext(testdb.As("3")).Exec("INSERT INTO projects (account_id, code, tenant_id) VALUES (4, 'x', NULL)").Error
	require.ErrorContains(t, err, "42501")
	require.NoError(t, db.WithContext(testdb.As("3")).Exec("INSERT INTO projects (account_id, code, tenant_id) VALUES (3, 'x', NULL)").Error)
	require.ErrorContains(t, db.WithContext(testdb.As("3")).Exec("INSERT INTO accounts (name, tenant_id) VALUES ('x', NULL)").Error, "42501")
}
