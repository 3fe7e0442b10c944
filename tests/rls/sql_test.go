package rls_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// offline is a *gorm.DB that has no database.
func offline(t *testing.T, config *gorm.Config) *gorm.DB {
	t.Helper()
	config.DryRun, config.DisableAutomaticPing = true, true
	return testdb.OpenPlain(t, "", testdb.Configured(*config))
}

// dump is the catalog without what differs between databases of the same definition.
func (d database) dump(t *testing.T) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, `
	WITH mine AS (
		SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema')
	SELECT concat_ws(' ', 'relation', relkind, nspname, relname, pg_get_userbyid(relowner), relrowsecurity, relforcerowsecurity,
			(SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(relacl) acl)) FROM mine
	UNION ALL SELECT concat_ws(' ', 'column', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
			pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		WHERE attnum > 0 AND attrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, polcmd, polpermissive,
			(SELECT array_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END) FROM unnest(polroles) r),
			pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
	UNION ALL SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisprimary, indisvalid) FROM pg_index WHERE indrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated)
		FROM pg_constraint WHERE conrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'trigger', tgrelid::regclass, pg_get_triggerdef(oid), tgenabled)
		FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'function', pg_get_functiondef(oid), pg_get_userbyid(proowner), proacl)
		FROM pg_proc WHERE pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\_%' OR nspname = 'information_schema')
	UNION ALL SELECT concat_ws(' ', 'schema', nspname,
			(SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(nspacl) acl)) FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'
	ORDER BY 1`)
}

// script runs a script as the owner.
func (d database) script(t *testing.T, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, d.Owner.DSN)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	require.NoError(t, err, sql)
}

// psql does what script does by psql, where there is one.
func (d database) psql(t *testing.T, sql string) {
	t.Helper()
	path, err := exec.LookPath("psql")
	if err != nil {
		d.script(t, sql)
		return
	}
	psql := exec.CommandContext(t.Context(), path, "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "--file=-", d.Owner.DSN)
	psql.Stdin = strings.NewReader(sql)
	output, err := psql.CombinedOutput()
	require.NoError(t, err, "%s\n%s", output, sql)
}

type identity struct {
	ID       int64 `gorm:"type:bigint;generated:identity"`
	TenantID int32 `gorm:"index"`
	Serial   uint16
	Born     string `gorm:"default:'x';check:born <> ''"`
}

// oddNames are models whose names must be quoted.
var oddNames = []any{quotedRow{}, reservedRow{}, capitalRow{}, unicodeRow{}, longRow{}, strangeRow{}}

// scriptedModels are models and isolations of scripts.
var scriptedModels = map[string]struct {
	models    []any
	naming    schema.Namer
	unrelated bool // without foreign keys
	change    func(i *rls.Isolation)
}{
	"everything":    {models: append([]any{&member{}, &user{}, &identity{}, &uuidRow{}}, append(shop, models...)...)},
	"odd names":     {models: oddNames},
	"other schema":  {models: []any{&invoice{}}},
	"prefix":        {models: []any{&user{}}, naming: schema.NamingStrategy{TablePrefix: "shop_"}},
	"schema prefix": {models: []any{&user{}}, naming: schema.NamingStrategy{TablePrefix: "billing."}},
	"no roles":      {models: shop, change: func(i *rls.Isolation) { *i = rls.Isolation{} }},
	"no admin":      {models: shop, change: func(i *rls.Isolation) { i.AdminRole = "" }},
	"other setting": {models: shop, change: func(i *rls.Isolation) { i.Setting = "my.tenant" }},
	"no relations":  {models: shop, unrelated: true},
	"no models":     {},
	"audits": {models: append([]any{&identity{}, &uuidRow{}}, shop...), change: func(i *rls.Isolation) {
		i.Audits = []rls.Audit{{Model: &order{}}, {Model: &ware{}}}
	}},
	"audits of odd names": {models: oddNames, change: func(i *rls.Isolation) {
		i.Audits = []rls.Audit{{Model: &quotedRow{}}, {Model: &unicodeRow{}}, {Model: &longRow{}}, {Model: &strangeRow{}}}
	}},
}

func TestScriptMakesWhatMigrateMakes(t *testing.T) {
	for name, test := range scriptedModels {
		t.Run(name, func(t *testing.T) {
			migrated, scripted := newDatabase(t), newDatabase(t)
			for _, d := range []database{migrated, scripted} {
				d.AsOwner(t, "CREATE SCHEMA billing")
			}
			empty := scripted.dump(t)
			i := migrated.Isolation()
			if test.change != nil {
				test.change(&i)
			}
			config := func() *gorm.Config {
				return &gorm.Config{NamingStrategy: test.naming, DisableForeignKeyConstraintWhenMigrating: test.unrelated}
			}
			_, err := i.Migrate(t.Context(), testdb.OpenPlain(t, migrated.Owner.DSN, testdb.Configured(*config())), test.models...)
			require.NoError(t, err)

			up, down, err := i.SQL(offline(t, config()), test.models...)
			require.NoError(t, err)
			require.NotContains(t, up, "COMMIT")
			again, _, err := i.SQL(offline(t, config()), test.models...)
			require.NoError(t, err)
			require.Equal(t, up, again, "the order is stable")

			want := migrated.dump(t)
			scripted.psql(t, up)
			require.Equal(t, want, scripted.dump(t))
			scripted.script(t, up)
			require.Equal(t, want, scripted.dump(t), "a second run")
			result, err := i.Migrate(t.Context(), testdb.OpenPlain(t, scripted.Owner.DSN, testdb.Configured(*config())), test.models...)
			changes := result.Changes
			require.NoError(t, err)
			require.Empty(t, changes, "Migrate after the script")

			scripted.psql(t, down)
			scripted.script(t, down)
			if name != "other schema" && name != "schema prefix" { // whose USAGE stays granted
				require.Equal(t, empty, scripted.dump(t))
			}
			scripted.psql(t, up)
			require.Equal(t, want, scripted.dump(t), "up after down")
		})
	}
}

// A script for models that have grown finds tables that are forced: it must check their rows all the same.
func TestScriptFindsWrongRowsBehindPolicies(t *testing.T) {
	d := newDatabase(t)
	up, _, err := d.Isolation().SQL(d.OwnerDB, shop...)
	require.NoError(t, err)
	d.script(t, up)
	d.as(t, "acme", "INSERT INTO shoppers (id, code) VALUES (1, 'a')")
	d.AsOwner(t, "ALTER TABLE orders DROP CONSTRAINT fk_shoppers_orders")
	d.as(t, "globex", "INSERT INTO orders (id, shopper_id) VALUES (2, 1)")
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), up)
	requireCode(t, err, "23503")
	d.as(t, "globex", "DELETE FROM orders")
	d.script(t, up)
	require.Equal(t, d.shopKeys(t), d.foreignKeys(t))
}

func TestScriptOfAGuardedDatabase(t *testing.T) {
	d := newDatabase(t)
	plain, _, err := d.Isolation().SQL(offline(t, &gorm.Config{}), shop...)
	require.NoError(t, err)
	db := testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(gorm.Config{PrepareStmt: true}))
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	guarded, _, err := d.Isolation().SQL(db, shop...)
	require.NoError(t, err)
	require.Equal(t, plain, guarded)
	require.Empty(t, d.foreignKeys(t), "nothing has run")
}

func TestScriptRefusals(t *testing.T) {
	type odd struct {
		ID       int64
		TenantID string `gorm:"type:jsonb"`
	}
	type hidden struct {
		ID       int64
		TenantID string `gorm:"column:tenant_id;-:all"`
	}
	for name, test := range map[string]struct {
		isolation rls.Isolation
		model     any
		says      string
	}{
		"isolation": {rls.Isolation{Setting: "x"}, &note{}, "is not a name that PostgreSQL accepts"},
		"no table":  {rls.Isolation{}, "text", "model string has no table"},
		"type":      {rls.Isolation{}, &odd{}, "column tenant_id of table odds has type jsonb"},
		"hidden":    {rls.Isolation{}, &hidden{}, "table hiddens has no column tenant_id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := test.isolation.SQL(offline(t, &gorm.Config{}), test.model)
			require.ErrorContains(t, err, test.says)
			_, err = test.isolation.IndexSQL(offline(t, &gorm.Config{}), test.model)
			require.ErrorContains(t, err, test.says)
		})
	}
	_, _, err := rls.Isolation{}.SQL(nil)
	require.ErrorContains(t, err, "tenancy: no database")
	_, err = rls.Isolation{}.IndexSQL(nil)
	require.ErrorContains(t, err, "tenancy: no database")
}
