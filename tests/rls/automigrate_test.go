package rls_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// The models of the tests that run AutoMigrate after Migrate.
type (
	autoPlain struct {
		ID       int64
		TenantID string
		Name     string
	}
	autoNotNull struct {
		ID       int64
		TenantID string `gorm:"not null;size:36;comment:whose it is"`
	}
	autoDefault struct {
		ID       int64
		TenantID string `gorm:"not null;default:unnamed"`
	}
	autoNumber struct {
		ID       int64
		TenantID int64
	}
	autoNumberDefault struct {
		ID       int64
		TenantID int64 `gorm:"default:7"`
	}
	autoUUID struct {
		ID       int64
		TenantID string `gorm:"type:uuid;not null"`
	}
	autoUUIDDefault struct {
		ID       int64
		TenantID string `gorm:"type:uuid;default:gen_random_uuid()"`
	}
	autoUnique struct {
		ID       int64
		TenantID string
		Email    string `gorm:"unique"`
		Login    string `gorm:"unique;not null;default:unnamed"`
	}
	autoUniqueIndex struct {
		ID       int64
		TenantID string `gorm:"index;uniqueIndex:auto_unique_index_name"`
		Name     string `gorm:"uniqueIndex:auto_unique_index_name"`
		Email    string `gorm:"uniqueIndex"`
		First    string `gorm:"uniqueIndex:auto_names"`
		Last     string `gorm:"uniqueIndex:auto_names"`
	}
	autoUniqueOfALongName struct {
		ID       int64
		TenantID string
		Remark   string `gorm:"unique;column:a_column_with_a_name_that_is_as_long_as_postgresql_allows_it_1"`
	}
	autoUniqueTenant struct {
		ID       int64
		TenantID string `gorm:"unique"`
	}
	autoKey struct {
		TenantID string `gorm:"primaryKey"`
		ID       int64  `gorm:"primaryKey"`
		Email    string `gorm:"unique"`
	}
	autoIgnored struct {
		ID       int64
		TenantID string `gorm:"-:migration"`
		Email    string `gorm:"uniqueIndex"`
	}
	autoIgnoredNumber struct {
		ID       int64
		TenantID int64 `gorm:"-:migration;index"`
		Name     string
	}
	autoIgnoredUUID struct {
		ID       int64
		TenantID string `gorm:"-:migration;type:uuid;uniqueIndex:auto_ignored_uuid"`
		Name     string `gorm:"uniqueIndex:auto_ignored_uuid"`
	}
	autoIgnoredUnique struct {
		ID       int64
		TenantID string `gorm:"-:migration"`
		Email    string `gorm:"unique"`
	}
	autoBase struct {
		ID       int64
		TenantID string
		Email    string `gorm:"unique"`
	}
	autoEmbedded struct {
		autoBase
		Name string
	}
	autoEmbeddedPointer struct {
		Base *autoBase `gorm:"embedded"`
		Name string
	}
	autoRenamed struct {
		ID    int64
		Owner string `gorm:"column:tenant_id"`
		Email string `gorm:"unique"`
	}
	autoOrg struct {
		ID    int64
		OrgID int64
		Email string `gorm:"unique"`
		Name  string `gorm:"uniqueIndex"`
	}
	autoShared struct {
		ID       int64
		TenantID string `gorm:"not null;default:unnamed"`
		Email    string `gorm:"unique"`
	}
	autoParent struct {
		ID       int64
		TenantID string
		Children []autoChild `gorm:"foreignKey:ParentID"`
		Tags     []tag       `gorm:"many2many:auto_parent_tags"`
	}
	autoChild struct {
		ID       int64
		TenantID string
		ParentID int64
		Code     string `gorm:"unique"`
	}
)

func (autoShared) TenantShared() {}

// autoBilled is in another schema than public, and has a unique constraint whose name is too long for PostgreSQL.
type autoBilled struct {
	ID       int64
	TenantID string
	Email    string `gorm:"unique"`
	Login    string `gorm:"uniqueIndex"`
	Remark   string `gorm:"unique;column:a_column_with_a_name_that_is_as_long_as_postgresql_allows_it_1"`
}

func (autoBilled) TableName() string { return "billing.autos" }

// autoClients open what AutoMigrate is called on. The plain ones know nothing of tenants.
var autoClients = map[string]struct {
	open  func(t *testing.T, d database, config *gorm.Config, column string) *gorm.DB
	plain bool
	app   bool
}{
	"owner, plain": {func(t *testing.T, d database, c *gorm.Config, _ string) *gorm.DB {
		return testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(*c))
	}, true, false},
	"app, plain": {func(t *testing.T, d database, c *gorm.Config, _ string) *gorm.DB {
		return testdb.OpenPlain(t, d.App.DSN, testdb.Configured(*c))
	}, true, true},
	"owner, Isolation": {func(t *testing.T, d database, c *gorm.Config, column string) *gorm.DB {
		return with(t, testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(*c)), rls.Isolation{Column: column})
	}, false, false},
	"app, Isolation": {func(t *testing.T, d database, c *gorm.Config, column string) *gorm.DB {
		return with(t, testdb.OpenPlain(t, d.App.DSN, testdb.Configured(*c)), rls.Isolation{Column: column})
	}, false, true},
	"owner, guarded": {func(t *testing.T, d database, c *gorm.Config, column string) *gorm.DB {
		return with(t, testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(*c)), tenancy.New(tenancy.Config{Column: column})).
			WithContext(tenancy.WithoutTenant(t.Context()))
	}, false, false},
	"app, guarded": {func(t *testing.T, d database, c *gorm.Config, column string) *gorm.DB {
		return with(t, testdb.OpenPlain(t, d.App.DSN, testdb.Configured(*c)), tenancy.New(tenancy.Config{Column: column})).
			WithContext(tenancy.WithoutTenant(t.Context()))
	}, false, true},
}

func with(t *testing.T, db *gorm.DB, plugin gorm.Plugin) *gorm.DB {
	t.Helper()
	require.NoError(t, db.Use(plugin))
	return db
}

// AutoMigrate after Migrate, by the owner or the application, changes nothing.
func TestAutoMigrateAfterMigrate(t *testing.T) {
	for name, test := range map[string]struct {
		model  any
		column string
		plain  bool // a client without the plugin changes nothing either
	}{
		"string":                      {model: &autoPlain{}},
		"not null":                    {model: &autoNotNull{}},
		"default":                     {model: &autoDefault{}},
		"number":                      {model: &autoNumber{}},
		"number, default":             {model: &autoNumberDefault{}},
		"uuid":                        {model: &autoUUID{}},
		"uuid, default":               {model: &autoUUIDDefault{}},
		"unique":                      {model: &autoUnique{}},
		"uniqueIndex":                 {model: &autoUniqueIndex{}},
		"unique, of a long name":      {model: &autoUniqueOfALongName{}},
		"unique tenant":               {model: &autoUniqueTenant{}},
		"primary key":                 {model: &autoKey{}},
		"-:migration":                 {model: &autoIgnored{}, plain: true},
		"-:migration, number":         {model: &autoIgnoredNumber{}, plain: true},
		"-:migration, uuid":           {model: &autoIgnoredUUID{}, plain: true},
		"-:migration, unique":         {model: &autoIgnoredUnique{}},
		"embedded":                    {model: &autoEmbedded{}},
		"embedded pointer":            {model: &autoEmbeddedPointer{}},
		"renamed":                     {model: &autoRenamed{}},
		"renamed in Isolation":        {model: &autoOrg{}, column: "org_id"},
		"shared":                      {model: &autoShared{}},
		"relations":                   {model: &autoParent{}},
		"member, with all uniques":    {model: &member{}},
		"tag, with a default":         {model: &tag{}},
		"counter, with a composite":   {model: &counter{}},
		"project, with the primary":   {model: &project{}},
		"setting, of a unique tenant": {model: &setting{}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			i := d.Isolation()
			i.Column = test.column
			d.migrateWith(t, i, test.model)
			before := d.snapshot(t)
			for name, client := range autoClients {
				if client.plain && !test.plain {
					continue
				}
				t.Run(name, func(t *testing.T) {
					db := client.open(t, d, &gorm.Config{}, test.column)
					for range 2 {
						require.NoError(t, db.AutoMigrate(test.model))
						require.Equal(t, before, d.snapshot(t))
					}
				})
			}
			require.Empty(t, d.migrateWith(t, i, test.model), "Migrate after AutoMigrate")
			require.Equal(t, before, d.snapshot(t))
		})
	}
}

// TestPlainAutoMigrateIsReported: it takes NOT NULL and the default of the tenant column away. The check says so, tenants still reach no rows but
// theirs, a row without a tenant needs the admin role, and the fix of the report or Migrate restores both.
func TestPlainAutoMigrateIsReported(t *testing.T) {
	d := newDatabase(t)
	i := d.Isolation()
	d.migrateWith(t, i, &autoPlain{})
	findings := func() (codes []check.Code, fixes []string) {
		report, err := i.Check(t.Context(), d.OwnerDB)
		require.NoError(t, err)
		for _, f := range report.Findings {
			codes, fixes = append(codes, f.Code), append(fixes, f.Fix)
		}
		return codes, fixes
	}
	codes, _ := findings()
	require.Empty(t, codes)
	table := "auto_plains"
	for _, fix := range []string{"of the report", "Migrate"} {
		require.NoError(t, testdb.OpenPlain(t, d.Owner.DSN).AutoMigrate(&autoPlain{}))
		codes, fixes := findings()
		require.Equal(t, []check.Code{check.TenantColumnNullable, check.TenantColumnDefault}, codes)
		for _, tenant := range []string{"", "acme"} {
			for _, values := range []string{"DEFAULT VALUES", "(tenant_id) VALUES (NULL)", "(tenant_id) VALUES ('globex')"} {
				requireCode(t, d.fails(t, tenant, "INSERT INTO "+table+" "+values), insufficientPrivilege)
			}
		}
		admin := d.admin(t) // to which this is open
		_, err := admin.Exec("INSERT INTO " + table + " DEFAULT VALUES")
		require.NoError(t, err)
		require.Equal(t, []string{"0"}, d.sees(t, "acme", "SELECT count(*)::text FROM "+table))
		_, err = i.Migrate(t.Context(), d.OwnerDB, &autoPlain{})
		require.ErrorContains(t, err, "has rows without a tenant")
		_, err = admin.Exec("DELETE FROM " + table + " WHERE tenant_id IS NULL")
		require.NoError(t, err)
		if fix == "Migrate" {
			d.migrateWith(t, i, &autoPlain{})
		} else {
			d.AsOwner(t, fixes...)
		}
		codes, _ = findings()
		require.Empty(t, codes, fix)
	}
}

// How GORM is set up, and which tenant the context has, makes no difference.
func TestAutoMigrateAfterMigrateInEverySetup(t *testing.T) {
	d := newDatabase(t)
	models := []any{&autoPlain{}, &autoUnique{}, &autoNumber{}, &autoUniqueIndex{}, &autoParent{}}
	d.migrate(t, models...)
	before := d.snapshot(t)
	for _, dsn := range []string{d.Owner.DSN, d.App.DSN} {
		for _, config := range []*gorm.Config{
			{PrepareStmt: true}, {TranslateError: true}, {SkipDefaultTransaction: true, QueryFields: true}, {CreateBatchSize: 1},
		} {
			db := with(t, testdb.OpenPlain(t, dsn, testdb.Configured(*config)), tenancy.New(tenancy.Config{}))
			for _, ctx := range []context.Context{tenancy.WithoutTenant(t.Context()), tenancy.WithTenant(t.Context(), "7")} {
				require.NoError(t, db.WithContext(ctx).AutoMigrate(models...))
				require.NoError(t, db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return tx.AutoMigrate(models...) }))
				require.Equal(t, before, d.snapshot(t))
			}
		}
	}
}

// So it is in other schemas.
func TestAutoMigrateAfterMigrateInOtherSchema(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE SCHEMA billing")
	d.migrate(t, &autoBilled{})
	before := d.snapshot(t)
	for name, client := range autoClients {
		if client.plain {
			continue
		}
		db := client.open(t, d, &gorm.Config{}, "")
		for range 2 {
			require.NoError(t, db.AutoMigrate(&autoBilled{}), name)
			require.Equal(t, before, d.snapshot(t), name)
		}
	}
}

// What is new AutoMigrate makes as ever; Migrate isolates it.
func TestAutoMigrateMakesWhatIsNew(t *testing.T) {
	type grown struct {
		ID       int64
		TenantID string
		Name     string
		Email    string `gorm:"unique"`
		Size     int    `gorm:"not null;default:3"`
	}
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE growns (id bigserial PRIMARY KEY, tenant_id text, name text)")
	db := with(t, testdb.OpenPlain(t, d.Owner.DSN), rls.Isolation{})
	for range 2 { // GORM makes the column first, and what is unique of it the next time
		require.NoError(t, db.AutoMigrate(&grown{}, &autoUnique{}))
	}
	require.Contains(t, d.indexes(t, "growns"), "CREATE UNIQUE INDEX uni_growns_email ON public.growns USING btree (email)")
	require.Contains(t, d.indexes(t, "auto_uniques"), "CREATE UNIQUE INDEX uni_auto_uniques_email ON public.auto_uniques USING btree (email)")
	result, err := d.Isolation().Migrate(t.Context(), db, &grown{}, &autoUnique{})
	changes := result.Changes
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	require.Contains(t, d.indexes(t, "growns"), "CREATE UNIQUE INDEX uni_growns_email ON public.growns USING btree (tenant_id, email)")
	before := d.snapshot(t)
	require.NoError(t, db.AutoMigrate(&grown{}, &autoUnique{}))
	require.Equal(t, before, d.snapshot(t))

	type grownAgain struct {
		ID       int64
		TenantID string
		Name     string `gorm:"not null;default:unnamed"`
	}
	require.NoError(t, db.Table("growns").AutoMigrate(&grownAgain{}))
	require.NotEqual(t, before, d.snapshot(t), "columns of the application's own are adapted")
}

// The tag -:migration keeps GORM from the tenant column, and not Migrate.
func TestMigrateMakesIgnoredColumn(t *testing.T) {
	for name, test := range map[string]struct {
		model          any
		table, is, old string
	}{
		"text":   {&autoIgnored{}, "auto_ignoreds", "text", "uuid"},
		"bigint": {&autoIgnoredNumber{}, "auto_ignored_numbers", "bigint", "integer"},
		"uuid":   {&autoIgnoredUUID{}, "auto_ignored_uuids", "uuid", "text"},
	} {
		t.Run(name, func(t *testing.T) {
			column := func(d database) []string {
				pool, err := d.OwnerDB.DB()
				require.NoError(t, err)
				return collect(t, pool, `SELECT concat_ws(' ', format_type(atttypid, atttypmod), attnotnull::text, atthasdef::text)
					FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'tenant_id'`, test.table)
			}
			for _, concurrent := range []bool{false, true} {
				d := newDatabase(t)
				i := d.Isolation()
				i.ConcurrentIndexes = concurrent
				d.migrateWith(t, i, test.model)
				require.Equal(t, []string{test.is + " true true"}, column(d))
				require.Empty(t, d.migrateWith(t, i, test.model), "a second run")

				d = newDatabase(t)
				d.AsOwner(t, "CREATE TABLE "+test.table+" (id bigserial PRIMARY KEY)")
				d.migrateWith(t, i, test.model)
				require.Equal(t, []string{test.is + " true true"}, column(d))

				d = newDatabase(t)
				d.AsOwner(t, "CREATE TABLE "+test.table+" (id bigserial PRIMARY KEY, tenant_id "+test.old+")")
				d.migrateWith(t, i, test.model)
				require.Equal(t, []string{test.old + " true true"}, column(d), "the type of a column made by hand stays")
				require.Empty(t, d.migrateWith(t, i, test.model), "a second run")
			}
			d := newDatabase(t)
			up, _, err := d.Isolation().SQL(d.OwnerDB, test.model)
			require.NoError(t, err)
			d.AsOwner(t, up)
			require.Equal(t, []string{test.is + " true true"}, column(d))
			require.Empty(t, d.migrate(t, test.model), "Migrate after the script")
		})
	}
}

func TestIsolationKeepsOneColumn(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.Use(rls.Isolation{}))
	require.NoError(t, rls.Isolation{Column: "tenant_id"}.Initialize(d.OwnerDB), "the same")
	require.ErrorContains(t, rls.Isolation{Column: "org_id"}.Initialize(d.OwnerDB), `keeps the tenant column "tenant_id" already`)
	require.ErrorContains(t, rls.Isolation{Setting: "x"}.Initialize(d.OwnerDB), "is not a name that PostgreSQL accepts")
	require.ErrorContains(t, d.OwnerDB.Use(tenancy.New(tenancy.Config{Column: "org_id"})), `keeps the tenant column "tenant_id" already`)
}

// Savepoints and translated errors pass through.
func TestIsolationLeavesTheDialector(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &autoShared{})
	db := with(t, testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(gorm.Config{TranslateError: true})), rls.Isolation{})
	require.NoError(t, db.Create(&autoShared{Email: "x"}).Error)
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		nested := tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&autoShared{Email: "x"}).Error })
		require.ErrorIs(t, nested, gorm.ErrDuplicatedKey)
		return tx.Create(&autoShared{Email: "y"}).Error
	}))
}
