package compat

import (
	"testing"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	// Person tempts AutoMigrate to change what Migrate has made.
	Person struct {
		ID       int64
		TenantID string `gorm:"not null;default:unnamed"`
		Email    string `gorm:"unique"`
		Login    string `gorm:"uniqueIndex"`
		HouseID  int64
		House    *House
	}

	House struct {
		ID       int64
		TenantID string
		Street   string `gorm:"uniqueIndex:houses_street_number"`
		Number   int    `gorm:"uniqueIndex:houses_street_number"`
	}

	// Pet is for clients without the plugin.
	Pet struct {
		ID       int64
		TenantID string `gorm:"-:migration"`
		Name     string `gorm:"uniqueIndex"`
	}
)

// catalog is what PostgreSQL knows of tables, but for gormigrate's own, with the transactions that wrote it.
func catalog(t *testing.T, db *gorm.DB) []string {
	t.Helper()
	var rows []string
	require.NoError(t, db.Raw(`
	WITH mine AS (SELECT *, xmin FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'migrations%')
	SELECT concat_ws(' ', 'relation', relname, xmin, relacl, relrowsecurity, relforcerowsecurity) FROM mine
	UNION ALL SELECT concat_ws(' ', 'column', attrelid::regclass, attname, xmin, attnotnull) FROM pg_attribute WHERE attrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'default', adrelid::regclass, xmin, pg_get_expr(adbin, adrelid)) FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'constraint', conname, xmin, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'index', xmin, pg_get_indexdef(indexrelid)) FROM pg_index WHERE indrelid IN (SELECT oid FROM mine)
	UNION ALL SELECT concat_ws(' ', 'policy', polname, xmin, pg_get_expr(polqual, polrelid)) FROM pg_policy
	ORDER BY 1`).Scan(&rows).Error)
	return rows
}

// gormigrate, by the owner or the application, with the plugin or with the tags that plain GORM needs, changes nothing that
// Migrate has made.
func TestGormigrateAfterMigrate(t *testing.T) {
	all := []any{&Person{}, &House{}, &Pet{}}
	for name, test := range map[string]struct {
		open   func(t *testing.T, d *database) *gorm.DB
		models []any
	}{
		"owner, plain": {func(t *testing.T, d *database) *gorm.DB { return testdb.OpenPlain(t, d.Owner.DSN) }, []any{&Pet{}}},
		"app, plain":   {func(t *testing.T, d *database) *gorm.DB { return testdb.OpenPlain(t, d.App.DSN) }, []any{&Pet{}}},
		"owner, Isolation": {func(t *testing.T, d *database) *gorm.DB {
			db := testdb.OpenPlain(t, d.Owner.DSN)
			require.NoError(t, db.Use(rls.Isolation{}))
			return db
		}, all},
		"owner, guarded": {func(t *testing.T, d *database) *gorm.DB {
			db := testdb.OpenPlain(t, d.Owner.DSN)
			require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
			return db.WithContext(tenancy.WithoutTenant(t.Context()))
		}, all},
		"app, guarded": {func(t *testing.T, d *database) *gorm.DB {
			db := testdb.OpenPlain(t, d.App.DSN)
			require.NoError(t, db.Use(tenancy.New(d.Config())))
			return db.WithContext(tenancy.WithoutTenant(t.Context()))
		}, all},
	} {
		for _, transaction := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", transaction"}[transaction], func(t *testing.T) {
				d := &database{Database: testdb.New(t)}
				owner := testdb.OpenPlain(t, d.Owner.DSN)
				options := *gormigrate.DefaultOptions
				options.UseTransaction = transaction
				options.ValidateUnknownMigrations = true
				migrations := []*gormigrate.Migration{{ID: "1", Migrate: func(tx *gorm.DB) error {
					_, err := d.Isolation().Migrate(t.Context(), tx, test.models...)
					return err
				}}}
				require.NoError(t, gormigrate.New(owner, &options, migrations).Migrate())
				require.NoError(t, owner.Exec("GRANT SELECT, INSERT ON migrations TO "+d.App.Role).Error)
				before := catalog(t, owner)

				db := test.open(t, d)
				for _, id := range []string{"2", "3"} {
					migrations = append(migrations, &gormigrate.Migration{ID: id, Migrate: func(tx *gorm.DB) error {
						return tx.AutoMigrate(test.models...)
					}})
					require.NoError(t, gormigrate.New(db, &options, migrations).Migrate())
					require.NoError(t, gormigrate.New(db, &options, migrations).Migrate(), "nothing to do")
					require.Equal(t, before, catalog(t, owner))
				}
				result, err := d.Isolation().Migrate(t.Context(), owner, test.models...)
				changes := result.Changes
				require.NoError(t, err)
				require.Empty(t, changes)
				require.Equal(t, before, catalog(t, owner))
			})
		}
	}
}
