package rls_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// The models of the tests that migrate again have everything that could tempt GORM or us to change something again.
type (
	project struct {
		TenantID string `gorm:"primaryKey"`
		ID       int64  `gorm:"primaryKey"`
		Name     string
		Tags     []tag `gorm:"many2many:project_tags"`
	}
	tag struct {
		ID       int64
		TenantID string `gorm:"not null;default:'nobody';comment:whose it is"`
		Name     string
	}
	counter struct {
		ID       int64
		TenantID int    `gorm:"type:int;index:counters_tenant,priority:1;uniqueIndex:counters_name,priority:2"`
		Name     string `gorm:"uniqueIndex:counters_name,priority:1"`
	}
	setting struct {
		ID       int64
		TenantID string `gorm:"unique"`
		Value    string
	}
	country struct {
		ID   int64
		Name string
	}
)

var models = []any{&project{}, &tag{}, &counter{}, &setting{}, &country{}, &note{}}

// snapshot is the catalog of the user's schemas, with the transactions that wrote its rows.
func (d database) snapshot(t *testing.T) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	const query = `
	WITH mine AS (
		SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema')
	SELECT concat_ws(' ', 'relation', xmin, ctid, relname, relacl, relrowsecurity, relforcerowsecurity) FROM pg_class WHERE oid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'column', xmin, ctid, attrelid::regclass, attname, attnotnull) FROM pg_attribute WHERE attrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'default', xmin, ctid, pg_get_expr(adbin, adrelid)) FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'policy', xmin, ctid, polname, polroles, pg_get_expr(polqual, polrelid)) FROM pg_policy
	UNION ALL SELECT concat_ws(' ', 'index', xmin, ctid, indexrelid::regclass) FROM pg_index WHERE indrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'constraint', xmin, ctid, conname) FROM pg_constraint WHERE conrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'comment', xmin, ctid, description) FROM pg_description WHERE objoid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'schema', xmin, ctid, nspname, nspacl) FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'
	ORDER BY 1`
	return collect(t, pool, query)
}

func TestMigrateAgainChangesNothing(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, d database) *gorm.DB{
		"plain": func(t *testing.T, d database) *gorm.DB { return d.OwnerDB },
		"prepared": func(t *testing.T, d database) *gorm.DB {
			return testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(gorm.Config{PrepareStmt: true}))
		},
		"simple protocol": func(t *testing.T, d database) *gorm.DB {
			return testdb.OpenPlain(t, "", testdb.Dialect(postgres.New(postgres.Config{DSN: d.Owner.DSN, PreferSimpleProtocol: true})))
		},
		"translated errors": func(t *testing.T, d database) *gorm.DB {
			return testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(gorm.Config{TranslateError: true, SkipDefaultTransaction: true}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			db := open(t, d)
			result, err := d.Isolation().Migrate(t.Context(), db, models...)
			changes := result.Changes
			require.NoError(t, err)
			require.NotEmpty(t, changes)

			before := d.snapshot(t)
			for range 2 {
				result, err = d.Isolation().Migrate(t.Context(), db, models...)
				changes = result.Changes
				require.NoError(t, err)
				require.Empty(t, changes)
			}
			require.Equal(t, before, d.snapshot(t))
		})
	}
}

func TestMigrateFixesWhatIsBrokenByHand(t *testing.T) {
	d := newDatabase(t)
	app, admin := d.App.Role, d.Admin.Role
	d.migrate(t, &note{})
	want := d.definition(t)
	replaced := []string{"drop outdated policy tenant_isolation", "create policy tenant_isolation"}
	for name, test := range map[string]struct {
		by   string
		what []string
	}{
		"disabled":         {"ALTER TABLE notes DISABLE ROW LEVEL SECURITY", []string{"enable row level security"}},
		"not forced":       {"ALTER TABLE notes NO FORCE ROW LEVEL SECURITY", []string{"force row level security"}},
		"no policy":        {"DROP POLICY tenant_isolation ON notes", replaced[1:]},
		"open policy":      {"ALTER POLICY tenant_isolation ON notes USING (true)", replaced},
		"open check":       {"ALTER POLICY tenant_isolation ON notes WITH CHECK (true)", replaced},
		"policy of a role": {"ALTER POLICY tenant_isolation ON notes TO " + app, replaced},
		"other setting": {"ALTER POLICY tenant_isolation ON notes USING " +
			"(tenant_id = (SELECT NULLIF(current_setting('app.tenant', true), '')::text))", replaced},
		"setting per row": {"ALTER POLICY tenant_isolation ON notes USING " +
			"(tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::text)", replaced},
		"no default":      {"ALTER TABLE notes ALTER tenant_id DROP DEFAULT", []string{"set default of tenant_id"}},
		"other default":   {"ALTER TABLE notes ALTER tenant_id SET DEFAULT 'acme'", []string{"set default of tenant_id"}},
		"nullable":        {"ALTER TABLE notes ALTER tenant_id DROP NOT NULL", []string{"require tenant_id"}},
		"no index":        {"DROP INDEX uni_notes_tenant_id_id", []string{"make unique tenant_id, id"}},
		"no admin policy": {"DROP POLICY tenant_admin ON notes", []string{"create policy tenant_admin"}},
		"admin policy for all": {"ALTER POLICY tenant_admin ON notes TO PUBLIC",
			[]string{"drop outdated policy tenant_admin", "create policy tenant_admin"}},
		"no rights": {"REVOKE ALL ON notes FROM " + app, []string{"grant SELECT, INSERT, UPDATE, DELETE to " + app}},
		"too many rights": {"GRANT TRUNCATE, TRIGGER, REFERENCES ON notes TO " + app,
			[]string{"revoke REFERENCES, TRIGGER, TRUNCATE from " + app}},
		"admin's rights":   {"REVOKE ALL ON notes FROM " + admin, []string{"grant SELECT, INSERT, UPDATE, DELETE to " + admin}},
		"sequence's reset": {"GRANT UPDATE ON notes_id_seq TO " + app, []string{"revoke UPDATE on notes_id_seq from " + app}},
		"schema":           {"REVOKE USAGE ON SCHEMA public FROM PUBLIC, " + app, []string{"grant USAGE on schema public to " + app}},
	} {
		t.Run(name, func(t *testing.T) {
			d.AsOwner(t, test.by)
			var what []string
			for _, w := range test.what {
				what = append(what, "public.notes: "+w)
			}
			require.Equal(t, what, d.migrate(t, &note{}))
			require.Equal(t, want, d.definition(t))
			require.Empty(t, d.migrate(t, &note{}), "a second run")
		})
	}
}

// definition is what the catalog says of isolation, without the traces of when it was said.
func (d database) definition(t *testing.T) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, `
		SELECT concat_ws(' ', relname, relrowsecurity, relforcerowsecurity, (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(relacl) acl))
			FROM pg_class WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT concat_ws(' ', attrelid::regclass, attname, attnotnull, pg_get_expr(adbin, adrelid))
			FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
			WHERE attrelid::regclass::text = 'notes' AND attnum > 0
		UNION ALL SELECT concat_ws(' ', tablename, policyname, permissive, roles, cmd, qual, with_check) FROM pg_policies
		ORDER BY 1`)
}

func TestMigrateMakesTheCanonicalDefinition(t *testing.T) {
	d := newDatabase(t)
	d.migrateWith(t, rls.Isolation{}, &note{})
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	require.Equal(t, []string{
		"tenant_isolation PERMISSIVE {public} ALL" +
			` (tenant_id = ( SELECT NULLIF(current_setting('app.tenant_id'::text, true), ''::text) AS "nullif"))` +
			` (tenant_id = ( SELECT NULLIF(current_setting('app.tenant_id'::text, true), ''::text) AS "nullif"))`,
	}, collect(t, pool, "SELECT concat_ws(' ', policyname, permissive, roles, cmd, qual, with_check) FROM pg_policies"))
	require.Equal(t, []string{
		"NULLIF(current_setting('app.tenant_id'::text, true), ''::text) true",
	}, collect(t, pool, `SELECT concat_ws(' ', pg_get_expr(adbin, adrelid), attnotnull::text)
		FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE attname = 'tenant_id'`))
}

func TestMigrateReplacesThePolicyOfAnotherSetting(t *testing.T) {
	d := twoTenants(t)
	i := d.Isolation()
	i.Setting = "my_app.customer"
	require.Equal(t, []string{
		"public.notes: set default of tenant_id",
		"public.notes: drop outdated policy tenant_isolation",
		"public.notes: create policy tenant_isolation",
	}, d.migrateWith(t, i, &note{}))
	require.Empty(t, d.sees(t, "acme", bodies), "the old setting")
	tx := d.begin(t, "")
	require.NoError(t, tx.exec("SET LOCAL my_app.customer = 'acme'"))
	require.Equal(t, []string{"of acme"}, tx.strings(t, bodies))
	require.NoError(t, tx.Rollback())
	require.Empty(t, d.migrateWith(t, i, &note{}), "a second run")
}

func TestMigrateWithoutTheAdminRole(t *testing.T) {
	d := twoTenants(t)
	i := d.Isolation()
	i.AdminRole = ""
	require.Equal(t, []string{"public.notes: drop outdated policy tenant_admin"}, d.migrateWith(t, i, &note{}))
	tx := d.begin(t, "")
	require.NoError(t, tx.exec("SET LOCAL ROLE "+d.Admin.Role))
	require.Empty(t, tx.strings(t, bodies))
}

func TestMigrateKeepsPoliciesOfOtherNames(t *testing.T) {
	d := twoTenants(t)
	d.AsOwner(t, "CREATE POLICY mine ON notes AS RESTRICTIVE USING (body <> 'secret')")
	require.Empty(t, d.migrate(t, &note{}))
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, collect(t, pool, "SELECT count(*) FROM pg_policy WHERE polname = 'mine'"))
}

func TestMigrateKeepsCommentsMadeByHand(t *testing.T) {
	d := twoTenants(t)
	d.AsOwner(t, "COMMENT ON COLUMN notes.tenant_id IS 'by hand'")
	before := d.snapshot(t)
	require.Empty(t, d.migrate(t, &note{}))
	require.Equal(t, before, d.snapshot(t))
}

// readings counts how often the catalog is read.
type readings struct{ count int }

func (r *readings) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if strings.Contains(query.SQL, "'partedbytenant'") {
		r.count++
	}
	return ctx
}

func (*readings) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// To read the catalog is most of what a migration costs that changes nothing, as each start of an application does.
func TestMigrateReadsTheCatalogNoOftenerThanNeeded(t *testing.T) {
	d := newDatabase(t)
	read := &readings{}
	db := testdb.OpenPlain(t, d.Owner.DSN, testdb.FromPool(func(c *pgx.ConnConfig) { c.Tracer = read }))
	migrate := func() (changes int) {
		read.count = 0
		result, err := d.Isolation().Migrate(t.Context(), db, &note{})
		require.NoError(t, err)
		return len(result.Changes)
	}
	migrate()
	require.Zero(t, migrate())
	require.Equal(t, 3, read.count, "once for the sizes, and in the transaction before and after AutoMigrate")
	d.AsOwner(t, "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY")
	require.NotZero(t, migrate())
	require.Equal(t, 4, read.count, "and once to see that the changes were made")
}

// Replicas of an application start together, and all of them migrate.
func TestMigrateConcurrently(t *testing.T) {
	d := newDatabase(t)
	var (
		wait    sync.WaitGroup
		results = make([]error, 10)
		made    = make([]int, len(results))
	)
	for n := range results {
		db := testdb.OpenPlain(t, d.Owner.DSN)
		wait.Go(func() {
			result, err := d.Isolation().Migrate(context.Background(), db, models...)
			changes := result.Changes
			results[n], made[n] = err, len(changes)
		})
	}
	wait.Wait()
	working := 0
	for n, err := range results {
		require.NoError(t, err)
		if made[n] > 0 {
			working++
		}
	}
	require.Equal(t, 1, working, "migrations that had something to do")
}

func TestMigrateWithinATransaction(t *testing.T) {
	d := newDatabase(t)
	rolledBack := d.OwnerDB.Transaction(func(tx *gorm.DB) error {
		_, err := d.Isolation().Migrate(t.Context(), tx, &note{})
		require.NoError(t, err)
		require.True(t, tx.Migrator().HasTable(&note{}))
		return context.Canceled
	})
	require.ErrorIs(t, rolledBack, context.Canceled)
	require.False(t, d.OwnerDB.Migrator().HasTable(&note{}))
}

// TestMigrateKeepsWhatWasRevokedByHand: who takes one right away from a role means it; a role without any has not been granted them yet.
func TestMigrateKeepsWhatWasRevokedByHand(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &note{})
	for _, by := range []string{
		"REVOKE DELETE ON notes FROM " + d.Admin.Role,
		"REVOKE UPDATE, DELETE ON notes FROM " + d.App.Role,
		"REVOKE USAGE ON notes_id_seq FROM " + d.App.Role,
		"REVOKE ALL ON notes FROM " + d.App.Role + "; GRANT SELECT (id, tenant_id) ON notes TO " + d.App.Role,
	} {
		d.AsOwner(t, by)
		require.Empty(t, d.migrate(t, &note{}), by)
	}
	require.Empty(t, d.sees(t, "acme", "SELECT 'x' WHERE has_table_privilege('notes', 'DELETE')"))
}
