package rls_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// invoice is in another schema than public.
type invoice struct {
	ID       int64
	TenantID string
	Lines    []item `gorm:"many2many:billing.invoice_items"`
}

type item struct {
	ID       int64
	TenantID string
}

func (invoice) TableName() string { return "billing.invoices" }
func (item) TableName() string    { return "billing.items" }

func TestMigrateOtherSchema(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE SCHEMA billing", "CREATE TABLE invoices (id int)")
	changes := d.migrate(t, &invoice{})
	for _, what := range []string{
		"billing.invoices: create policy tenant_isolation",
		"billing.items: create policy tenant_isolation",
		"billing.invoice_items: create policy tenant_isolation",
		"billing.invoices: grant USAGE on schema billing to " + d.App.Role,
	} {
		require.Contains(t, changes, what)
	}
	require.Empty(t, d.migrate(t, &invoice{}), "a second run")
	d.as(t, "acme", "INSERT INTO billing.invoices DEFAULT VALUES")
	require.Len(t, d.sees(t, "acme", "SELECT id FROM billing.invoices"), 1)
	require.Empty(t, d.sees(t, "globex", "SELECT id FROM billing.invoices"))
}

func TestMigrateNamingStrategies(t *testing.T) {
	for name, test := range map[string]struct {
		naming       schema.NamingStrategy
		table, joins string
		column       string
	}{
		"prefix":        {schema.NamingStrategy{TablePrefix: "shop_"}, "shop_users", "shop_memberships", "tenant_id"},
		"schema prefix": {schema.NamingStrategy{TablePrefix: "shop."}, "shop.users", "shop.memberships", "tenant_id"},
		"singular":      {schema.NamingStrategy{SingularTable: true}, "user", "memberships", "tenant_id"},
		"as in Go":      {schema.NamingStrategy{NoLowerCase: true}, "users", "memberships", "TenantID"},
		"replaced": {schema.NamingStrategy{NameReplacer: strings.NewReplacer("TenantID", "Mandant")},
			"users", "memberships", "mandant"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.AsOwner(t, "CREATE SCHEMA shop")
			d.OwnerDB = testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(gorm.Config{NamingStrategy: test.naming}))
			i := d.Isolation()
			i.Column = test.column
			d.migrateWith(t, i, &user{})
			require.Empty(t, d.migrateWith(t, i, &user{}), "a second run")

			for _, table := range []string{test.table, test.joins} {
				pool, err := d.OwnerDB.DB()
				require.NoError(t, err)
				require.Equal(t, []string{"tenant_isolation"}, collect(t, pool,
					"SELECT polname FROM pg_policy WHERE polrelid = to_regclass($1) AND polname = 'tenant_isolation'",
					pgx.Identifier(strings.Split(table, ".")).Sanitize()), table)
			}
		})
	}
}

var long = strings.Repeat("länge", 20)[:63]

type (
	quotedRow   struct{ Row }
	reservedRow struct{ Row }
	capitalRow  struct{ Row }
	unicodeRow  struct{ Row }
	longRow     struct{ Row }
	strangeRow  struct{ Row }
	Row         struct {
		ID       int64
		TenantID string
	}
)

func (quotedRow) TableName() string   { return `we"ird` }
func (reservedRow) TableName() string { return "select" }
func (capitalRow) TableName() string  { return "CamelCase" }
func (unicodeRow) TableName() string  { return "kundenübersicht" }
func (longRow) TableName() string     { return long }
func (strangeRow) TableName() string  { return "what?-@now;'" }

func TestMigrateOddTableNames(t *testing.T) {
	for _, model := range []interface{ TableName() string }{
		quotedRow{}, reservedRow{}, capitalRow{}, unicodeRow{}, longRow{}, strangeRow{},
	} {
		t.Run(model.TableName(), func(t *testing.T) {
			d := newDatabase(t)
			d.migrate(t, model)
			require.Empty(t, d.migrate(t, model), "a second run")
			table := pgx.Identifier{model.TableName()}.Sanitize()
			d.as(t, "acme", "INSERT INTO "+table+" DEFAULT VALUES")
			require.Len(t, d.sees(t, "acme", "SELECT id FROM "+table), 1)
			require.Empty(t, d.sees(t, "globex", "SELECT id FROM "+table))
		})
	}
}

type (
	schemaAlone struct{ Row }
	noSchema    struct{ Row }
	joinsNone   struct {
		Row
		Others []Row `gorm:"many2many:joined."`
	}
)

func (schemaAlone) TableName() string { return "billing." }
func (noSchema) TableName() string    { return ".invoices" }

// TestMigrateRefusesHalfTableNames: GORM takes a dot at an end for a schema or a table without a name.
func TestMigrateRefusesHalfTableNames(t *testing.T) {
	d := newDatabase(t)
	for name, model := range map[string]any{"billing.": schemaAlone{}, ".invoices": noSchema{}, "joined.": joinsNone{}} {
		_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, model)
		require.ErrorContains(t, err, fmt.Sprintf("has the table name %q", name))
		require.ErrorContains(t, err, "with one dot between them")
	}
}

func TestMigrateOddColumnName(t *testing.T) {
	type row struct {
		ID     int64
		Tenant string `gorm:"column:Mandant-Nr?@"`
	}
	d := newDatabase(t)
	i := d.Isolation()
	i.Column = "Mandant-Nr?@"
	d.migrateWith(t, i, &row{})
	require.Empty(t, d.migrateWith(t, i, &row{}), "a second run")
	d.as(t, "acme", "INSERT INTO rows DEFAULT VALUES")
	require.Len(t, d.sees(t, "acme", "SELECT id FROM rows"), 1)
	require.Empty(t, d.sees(t, "globex", "SELECT id FROM rows"))
}

func TestMigrateOddRoleNames(t *testing.T) {
	d := newDatabase(t)
	i := rls.Isolation{AppRole: `odd "app" ` + d.Name, AdminRole: "odd-Admin " + d.Name}
	app, admin := pgx.Identifier{i.AppRole}.Sanitize(), pgx.Identifier{i.AdminRole}.Sanitize()
	d.AsSuperuser(t, "CREATE ROLE "+app, "CREATE ROLE "+admin)
	t.Cleanup(func() {
		d.AsSuperuser(t, "DROP OWNED BY "+app+", "+admin, "DROP ROLE "+app+", "+admin)
	})
	d.migrateWith(t, i, &note{})
	require.Empty(t, d.migrateWith(t, i, &note{}), "a second run")
}
