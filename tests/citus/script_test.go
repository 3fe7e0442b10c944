package citus

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// standIns are the functions of Citus that the script calls. They refuse what Citus 13.2 was seen to refuse, and distribute nothing.
var standIns = []string{
	`SET allow_system_table_mods = on; CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY, partkey text, colocation text)`,
	`GRANT SELECT, INSERT ON pg_catalog.pg_dist_partition TO PUBLIC`,
	`CREATE FUNCTION refuse_as_citus(t regclass, column_name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		IF current_setting('citus.multi_shard_modify_mode', true) IS DISTINCT FROM 'sequential' THEN
			RAISE 'cannot execute parallel DDL on table %', t;
		ELSIF EXISTS (SELECT FROM pg_policy WHERE polrelid = t AND (polqual::text LIKE '%SUBLINK%' OR polwithcheck::text LIKE '%SUBLINK%')) THEN
			RAISE 'Subqueries are not supported in policies on distributed tables';
		ELSIF (SELECT relforcerowsecurity FROM pg_class WHERE oid = t) THEN
			RAISE 'COPY FROM not supported with row-level security';
		ELSIF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND (conrelid = t OR confrelid = t)) THEN
			RAISE 'cannot create foreign key constraint since foreign keys from reference tables and local tables to distributed tables are not supported';
		ELSIF column_name IS NOT NULL AND EXISTS (SELECT FROM pg_index i WHERE indrelid = t AND indisunique AND NOT EXISTS (
				SELECT FROM pg_attribute WHERE attrelid = t AND attname = column_name AND attnum = ANY (i.indkey))) THEN
			RAISE 'cannot create constraint on %: PRIMARY KEY constraints that do not include the partition column', t;
		END IF;
	END $$`,
	`CREATE FUNCTION refuse_alter() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE t regclass; BEGIN
		FOR t IN SELECT objid FROM pg_event_trigger_ddl_commands() JOIN pg_catalog.pg_dist_partition ON logicalrelid = objid LOOP
			IF current_query() ~ '^\s*(--[^\n]*\s*)*ALTER TABLE .*;' THEN
				RAISE 'cannot insert multiple commands into a prepared statement';
			ELSIF current_query() ~ 'ALTER TABLE .* ALTER COLUMN "?tenant_id' AND current_query() !~ '^\s*(--[^\n]*\s*)*DO' THEN
				RAISE 'cannot execute ALTER TABLE command involving partition column';
			END IF;
		END LOOP;
	END $$`,
	`CREATE EVENT TRIGGER refuse_alter ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION refuse_alter()`,
	`CREATE FUNCTION create_reference_table(t regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		PERFORM refuse_as_citus(t, NULL); INSERT INTO pg_catalog.pg_dist_partition VALUES (t, NULL, NULL); END $$`,
	`CREATE FUNCTION pg_catalog.column_to_column_name(t regclass, partkey text) RETURNS text LANGUAGE sql AS 'SELECT partkey'`,
	`CREATE FUNCTION create_distributed_table(t regclass, column_name text, colocate_with text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		PERFORM refuse_as_citus(t, column_name);
		IF colocate_with <> 'default' AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = colocate_with::regclass) THEN
			RAISE 'relation % is not distributed', colocate_with;
		END IF;
		INSERT INTO pg_catalog.pg_dist_partition VALUES (t, column_name, colocate_with); END $$`,
}

// isolation is that of an application on Citus.
func isolation(d *testdb.Database) rls.Isolation {
	return rls.Isolation{Engine: rls.Citus, TenantKeys: true, AppRole: d.App.Role, AdminRole: d.Admin.Role}
}

// script returns that of SQL for the models.
func script(t testing.TB, i rls.Isolation, models ...any) string {
	t.Helper()
	dry := testdb.OpenPlain(t, "", testdb.GORM(func(c *gorm.Config) { c.DryRun, c.DisableAutomaticPing = true, true }))
	up, _, err := i.SQL(dry, models...)
	require.NoError(t, err)
	return up
}

// newDistributed is a fake whose tables the script has made, with stand-ins for what Citus does.
func newDistributed(t testing.TB, models ...any) *fake {
	t.Helper()
	f := newFake(t)
	f.AsSuperuser(t, standIns...)
	up := script(t, isolation(f.Database), models...)
	for range 2 { // it can be repeated
		testdb.RunScript(t, f.Owner.DSN, up)
	}
	return f
}

// What Citus takes: keys with the tenant, distribution before foreign keys and before FORCE, and policies without a sub-select.
func TestScriptDistributes(t *testing.T) {
	f := newDistributed(t, models...)
	var distributed []string
	require.NoError(t, f.OwnerDB.Raw(`SELECT logicalrelid || coalesce(' ' || partkey || ' ' || colocation, '')
		FROM pg_dist_partition ORDER BY 1`).Scan(&distributed).Error)
	require.Equal(t, []string{"countries", "projects tenant_id default", `tasks tenant_id "projects"`}, distributed)

	_, down, err := isolation(f.Database).SQL(f.OwnerDB, models...)
	require.NoError(t, err)
	require.Contains(t, down, "SET LOCAL citus.multi_shard_modify_mode = 'sequential';", "otherwise Citus refuses the second table")

	var sublinks, unforced, foreign int
	require.NoError(t, f.OwnerDB.Raw(`SELECT count(*) FROM pg_policy WHERE polqual::text LIKE '%SUBLINK%'`).Scan(&sublinks).Error)
	require.Zero(t, sublinks)
	require.NoError(t, f.OwnerDB.Raw(`SELECT count(*) FROM pg_dist_partition JOIN pg_class c ON c.oid = logicalrelid
		WHERE partkey <> '' AND NOT (relrowsecurity AND relforcerowsecurity)`).Scan(&unforced).Error)
	require.Zero(t, unforced)
	require.NoError(t, f.OwnerDB.Raw(`SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'tasks'::regclass AND cardinality(conkey) = 2`).
		Scan(&foreign).Error)
	require.Equal(t, 1, foreign)

	report, err := isolation(f.Database).Check(t.Context(), f.OwnerDB, check.Models(models...))
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}

type (
	// ByString and the next have tenant columns of other types.
	ByString struct {
		ID       int64
		TenantID string `gorm:"size:64"`
	}
	ByNumber struct {
		ID       int64
		TenantID int64
	}
	BySmall struct {
		ID       int64
		TenantID int16
	}
	ByUUID struct {
		ID       int64
		TenantID string `gorm:"type:uuid"`
	}
)

// PostgreSQL writes the policies of each type in another way. On Citus that is what package rls makes, and elsewhere what people write.
func TestPoliciesAreCanonicalOnCitus(t *testing.T) {
	f := newDistributed(t, &ByString{}, &ByNumber{}, &BySmall{}, &ByUUID{}, &Task{})
	var made []struct{ Type, Expression string }
	require.NoError(t, f.OwnerDB.Raw(`SELECT CASE WHEN atttypid = 'varchar'::regtype THEN 'character varying' ELSE format_type(atttypid, NULL) END AS type,
		pg_get_expr(polqual, polrelid) AS expression FROM pg_policy JOIN pg_attribute ON attrelid = polrelid AND attname = 'tenant_id'
		WHERE polname = 'tenant_isolation'`).Scan(&made).Error)
	require.Len(t, made, 6, "and the projects of tasks")
	inline := policy.Config{Inline: true}.WithDefaults()
	for _, p := range made {
		e := &policy.Expression{Text: p.Expression}
		require.Equal(t, policy.Canonical, inline.Judge(e, p.Type), p)
		require.Equal(t, policy.Isolates, policy.Config{}.WithDefaults().Judge(e, p.Type), p)
	}
	require.Equal(t, policy.Unproved, inline.Judge(&policy.Expression{Text: `(tenant_id = tenant_id)`}, "text"))
}

// Migrate and Plan make the same of new tables as the script, and afterwards what models have become.
func TestMigrateDistributes(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		f := newFake(t)
		f.AsSuperuser(t, standIns...)
		i := isolation(f.Database)
		migrateCluster(t, i, f.OwnerDB)
		for _, column := range []string{"id", ""} {
			f.AsSuperuser(t, "UPDATE pg_catalog.pg_dist_partition SET partkey = nullif('"+column+"', '') WHERE logicalrelid = 'projects'::regclass")
			for _, do := range []func() error{
				func() error { _, err := i.Migrate(t.Context(), f.OwnerDB, models...); return err },
				func() error { _, err := i.Plan(t.Context(), f.OwnerDB, models...); return err },
			} {
				require.ErrorContains(t, do(), "in another way than by tenant_id")
			}
		}
	})
	if testdb.HasCluster() {
		t.Run("cluster", func(t *testing.T) {
			c := testdb.NewCluster(t, everyModel)
			migrateCluster(t, c.Isolation, c.OwnerDB)
		})
	}
}

// grownProject is Project with one more column.
type grownProject struct {
	ID       int64
	TenantID string
	Name     string `gorm:"uniqueIndex"`
	Note     string
}

// TableName is that of Project.
func (grownProject) TableName() string { return "projects" }

// Comment refers to a tenant's row and to a shared one.
type Comment struct {
	ID          int64
	TenantID    string
	ProjectID   int64
	Project     *grownProject
	CountryCode string
	Country     *Country
}

// everyModel are those of all tests.
var everyModel = append([]any{&Comment{}}, models...)

// migrateCluster migrates new tables, the same ones again, and models that have grown.
func migrateCluster(t *testing.T, i rls.Isolation, owner *gorm.DB) {
	t.Helper()
	steps, err := i.Plan(t.Context(), owner, models...)
	require.NoError(t, err)
	result, err := i.Migrate(t.Context(), owner, models...)
	require.NoError(t, err)
	require.Empty(t, result.Findings)
	require.Contains(t, steps.String(), "copy to all workers")
	require.Equal(t, 2, strings.Count(steps.String(), "distribute by tenant_id"))
	requireDistributed(t, owner, "countries", "projects tenant_id", "tasks tenant_id")

	again, err := i.Migrate(t.Context(), owner, models...)
	require.NoError(t, err)
	require.Empty(t, again.Changes)
	steps, err = i.Plan(t.Context(), owner, models...)
	require.NoError(t, err)
	require.Empty(t, steps.Steps)

	grown := []any{&Country{}, &grownProject{}, &Comment{}}
	result, err = i.Migrate(t.Context(), owner, grown...)
	require.NoError(t, err)
	require.Empty(t, result.Findings)
	requireDistributed(t, owner, "comments tenant_id", "countries", "projects tenant_id", "tasks tenant_id")
	require.NoError(t, owner.Exec("DROP POLICY tenant_isolation ON comments").Error)
	result, err = i.Migrate(t.Context(), owner, grown...)
	require.NoError(t, err)
	require.Len(t, result.Changes, 1, "what is missing and nothing else")
	require.Empty(t, result.Findings)

	plain := i
	plain.Engine = rls.PostgreSQL
	_, err = plain.Migrate(t.Context(), owner, models...)
	require.ErrorContains(t, err, "set Engine to rls.Citus")
	i.ConcurrentIndexes = true
	_, err = i.Migrate(t.Context(), owner, models...)
	require.ErrorContains(t, err, "ConcurrentIndexes")
}

// requireDistributed compares the distributed tables with those that are wanted.
func requireDistributed(t *testing.T, owner *gorm.DB, want ...string) {
	t.Helper()
	var distributed []string
	require.NoError(t, owner.Raw(`SELECT logicalrelid || coalesce(' ' || column_to_column_name(logicalrelid, partkey), '')
		FROM pg_dist_partition WHERE logicalrelid::text IN ('comments', 'countries', 'projects', 'tasks') ORDER BY 1`).Scan(&distributed).Error)
	require.Equal(t, want, distributed)
}

func TestApplicationWorksOnScript(t *testing.T) {
	f := newDistributed(t, models...)
	db := f.client(t)
	seed(t, db)
	for _, op := range operations {
		all := f.recorded(func() { require.NoError(t, op.do(db.WithContext(as(acme))), op.name) })
		checkAll(t, all, acme)
	}
	require.NoError(t, found(db.WithContext(as(globex)).Find(&[]Task{}), 2))
	require.NoError(t, found(db.WithContext(as(globex)).Create(&Project{ID: 1, Name: "the same key"}), 1), "keys are the tenant's own")
}

func TestIsolationOnCitusRefuses(t *testing.T) {
	d := testdb.New(t)
	good := rls.Isolation{Engine: rls.Citus, TenantKeys: true}
	_, err := good.Migrate(t.Context(), d.OwnerDB, models...)
	require.ErrorContains(t, err, "does not have the extension citus")
	for says, change := range map[string]func(*rls.Isolation){
		"Engine 2":   func(i *rls.Isolation) { i.Engine = 2 },
		"TenantKeys": func(i *rls.Isolation) { i.TenantKeys = false },
		"Signed":     func(i *rls.Isolation) { i.Signed = true },
		"Audits":     func(i *rls.Isolation) { i.Audits = []rls.Audit{{Model: &Task{}}} },
		"LookupRole": func(i *rls.Isolation) { i.LookupRole = "lookup" },
		"Stage":      func(i *rls.Isolation) { i.Stage = rls.StageShadow },
	} {
		i := good
		change(&i)
		_, _, err := i.SQL(d.OwnerDB, models...)
		require.ErrorContains(t, err, says)
	}
}
