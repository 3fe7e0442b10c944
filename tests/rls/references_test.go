package rls_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// The models of a shop: a relation of every kind.
type (
	shopper struct {
		ID        int64
		TenantID  string
		Code      string `gorm:"unique"`
		CountryID *int64
		Country   *country // shared
		Orders    []order  // has many
		Profile   profile  `gorm:"constraint:OnUpdate:CASCADE,OnDelete:CASCADE"` // has one
		Referrer  *shopper // itself
		Wishes    []ware   `gorm:"many2many:wishes"`

		ReferrerID *int64
	}
	order struct {
		ID        int64
		TenantID  string
		ShopperID *int64
		Shopper   *shopper `gorm:"constraint:OnDelete:SET NULL"`
		PayerCode *string
		Payer     *shopper `gorm:"foreignKey:PayerCode;references:Code"`
		Lines     []line   `gorm:"constraint:OnDelete:CASCADE"`
	}
	profile struct {
		ID        int64
		TenantID  string
		ShopperID int64
	}
	// line and ware have composite keys.
	line struct {
		TenantID string `gorm:"primaryKey"`
		OrderID  int64  `gorm:"primaryKey;autoIncrement:false"`
		Number   int    `gorm:"primaryKey;autoIncrement:false"`
		WareID   *int64
		Ware     *ware `gorm:"foreignKey:TenantID,WareID;references:TenantID,ID;constraint:OnDelete:SET NULL"`
	}
	ware struct {
		TenantID string `gorm:"primaryKey"`
		ID       int64  `gorm:"primaryKey;autoIncrement:false"`
	}
)

var shop = []any{&shopper{}, &order{}, &profile{}, &line{}, &ware{}}

// foreignKeys are the foreign keys of the user's tables, as PostgreSQL writes them.
func (d database) foreignKeys(t *testing.T) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, `SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
		FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1`)
}

// shopKeys are the foreign keys that the shop should have.
func (d database) shopKeys(t *testing.T) []string {
	t.Helper()
	return d.possible(t, shopKeys)
}

// possible returns foreign keys as the server can have them: PostgreSQL 14 cannot null one column and not the others.
func (d database) possible(t *testing.T, keys []string) []string {
	t.Helper()
	var list []string
	for _, key := range keys {
		if !d.nullsColumns(t) {
			key, _, _ = strings.Cut(key, " ON DELETE SET NULL (")
		}
		list = append(list, key)
	}
	return list
}

var shopKeys = []string{
	"lines fk_lines_ware FOREIGN KEY (tenant_id, ware_id) REFERENCES wares(tenant_id, id) ON DELETE SET NULL (ware_id)",
	"lines fk_orders_lines FOREIGN KEY (tenant_id, order_id) REFERENCES orders(tenant_id, id) ON DELETE CASCADE",
	"orders fk_orders_payer FOREIGN KEY (tenant_id, payer_code) REFERENCES shoppers(tenant_id, code)",
	"orders fk_shoppers_orders FOREIGN KEY (tenant_id, shopper_id) REFERENCES shoppers(tenant_id, id)",
	"profiles fk_shoppers_profile FOREIGN KEY (tenant_id, shopper_id) REFERENCES shoppers(tenant_id, id) ON UPDATE CASCADE ON DELETE CASCADE",
	"shoppers fk_shoppers_country FOREIGN KEY (country_id) REFERENCES countries(id)",
	"shoppers fk_shoppers_referrer FOREIGN KEY (tenant_id, referrer_id) REFERENCES shoppers(tenant_id, id)",
	"wishes fk_wishes_shopper FOREIGN KEY (tenant_id, shopper_id) REFERENCES shoppers(tenant_id, id)",
	"wishes fk_wishes_ware FOREIGN KEY (tenant_id, ware_id) REFERENCES wares(tenant_id, id)",
}

func TestMigrateForeignKeysTellTenantsApart(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, d database){
		"empty database": func(*testing.T, database) {},
		"tables that GORM made": func(t *testing.T, d database) {
			require.NoError(t, d.OwnerDB.AutoMigrate(shop...))
			require.NotEqual(t, d.shopKeys(t), d.foreignKeys(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			before(t, d)
			d.migrate(t, shop...)
			require.Equal(t, d.shopKeys(t), d.foreignKeys(t))
			snapshot := d.snapshot(t)
			require.Empty(t, d.migrate(t, shop...), "a second run")
			require.Equal(t, snapshot, d.snapshot(t))
		})
	}
}

// Who runs GORM's AutoMigrate after Migrate must not get back the foreign keys that ignore tenants.
func TestMigrateForeignKeysSurviveAutoMigrate(t *testing.T) {
	d := newDatabase(t)
	models := []any{&profile{}, &line{}, &ware{}}
	d.migrate(t, models...)
	before := d.foreignKeys(t)
	require.NotEmpty(t, before)
	require.NoError(t, d.OwnerDB.AutoMigrate(models...))
	require.Equal(t, before, d.foreignKeys(t))
}

func TestMigrateForeignKeysRefuseOtherTenants(t *testing.T) {
	const violation = "23503"
	d := newDatabase(t)
	d.migrate(t, shop...)
	d.as(t, "acme", "INSERT INTO shoppers (id, code) VALUES (1, 'a')", "INSERT INTO wares (id) VALUES (1)",
		"INSERT INTO orders (id, shopper_id) VALUES (1, 1)")
	d.as(t, "globex", "INSERT INTO shoppers (id, code) VALUES (2, 'b')", "INSERT INTO orders (id) VALUES (2)")
	for name, attack := range map[string]string{
		"belongs to":            "INSERT INTO orders (id, shopper_id) VALUES (3, 1)",
		"update":                "UPDATE orders SET shopper_id = 1",
		"another key":           "INSERT INTO orders (id, payer_code) VALUES (3, 'a')",
		"itself":                "UPDATE shoppers SET referrer_id = 1",
		"has one":               "INSERT INTO profiles (shopper_id) VALUES (1)",
		"composite primary key": "INSERT INTO lines (order_id, number) VALUES (1, 1)",
		"composite foreign key": "INSERT INTO lines (order_id, number, ware_id) VALUES (2, 1, 1)",
	} {
		t.Run(name, func(t *testing.T) {
			requireCode(t, d.fails(t, "globex", attack), violation)
		})
	}
	t.Run("many to many", func(t *testing.T) {
		columns := "shopper_id, ware_tenant_id, ware_id"
		requireCode(t, d.fails(t, "globex", "INSERT INTO wishes ("+columns+") VALUES (1, 'globex', 1)"), violation)
		requireCode(t, d.fails(t, "globex", "INSERT INTO wishes ("+columns+") VALUES (2, 'acme', 1)"), violation)
	})
}

func TestMigrateForeignKeysActWithinTheTenant(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, shop...)
	for _, tenant := range []string{"acme", "globex"} {
		d.as(t, tenant, "INSERT INTO wares (id) VALUES (7)")
	}
	d.as(t, "acme", "INSERT INTO orders (id) VALUES (1)", "INSERT INTO lines (order_id, number, ware_id) VALUES (1, 1, 7)")
	d.as(t, "globex", "INSERT INTO orders (id) VALUES (2)", "INSERT INTO lines (order_id, number, ware_id) VALUES (2, 1, 7)")

	const lines, deletion = "SELECT concat_ws(' ', tenant_id, order_id, ware_id) FROM lines", "DELETE FROM wares WHERE id = 7"
	if d.nullsColumns(t) {
		d.as(t, "acme", deletion)
		require.Equal(t, []string{"acme 1"}, d.sees(t, "acme", lines), "SET NULL keeps the tenant")
	} else {
		requireCode(t, d.fails(t, "acme", deletion), "23503")
	}
	require.Equal(t, []string{"globex 2 7"}, d.sees(t, "globex", lines))
	d.as(t, "acme", "DELETE FROM orders")
	require.Empty(t, d.sees(t, "acme", lines))
	require.Equal(t, []string{"globex 2 7"}, d.sees(t, "globex", lines))
}

func TestMigrateForeignKeysFixedByHand(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, shop...)
	for name, test := range map[string]struct {
		by   []string
		what []string
	}{
		"dropped": {[]string{"ALTER TABLE orders DROP CONSTRAINT fk_shoppers_orders"},
			[]string{"orders: add foreign key fk_shoppers_orders of the same tenant", "orders: validate foreign key fk_shoppers_orders"}},
		"shared one dropped": {[]string{"ALTER TABLE shoppers DROP CONSTRAINT fk_shoppers_country"},
			[]string{"shoppers: add foreign key fk_shoppers_country"}},
		"without tenant": {[]string{"ALTER TABLE orders DROP CONSTRAINT fk_shoppers_orders",
			"ALTER TABLE orders ADD CONSTRAINT fk_shoppers_orders FOREIGN KEY (shopper_id) REFERENCES shoppers (id)"},
			[]string{"orders: drop foreign key fk_shoppers_orders, which ignores tenants",
				"orders: add foreign key fk_shoppers_orders of the same tenant", "orders: validate foreign key fk_shoppers_orders"}},
		"other action": {[]string{"ALTER TABLE lines DROP CONSTRAINT fk_lines_ware",
			"ALTER TABLE lines ADD CONSTRAINT fk_lines_ware FOREIGN KEY (tenant_id, ware_id) REFERENCES wares (tenant_id, id) ON DELETE SET NULL"},
			[]string{"lines: drop foreign key fk_lines_ware, which ignores tenants",
				"lines: add foreign key fk_lines_ware of the same tenant", "lines: validate foreign key fk_lines_ware"}},
		"not validated": {[]string{"ALTER TABLE orders DROP CONSTRAINT fk_shoppers_orders",
			"ALTER TABLE orders ADD CONSTRAINT fk_shoppers_orders FOREIGN KEY (tenant_id, shopper_id) REFERENCES shoppers (tenant_id, id) NOT VALID"},
			[]string{"orders: validate foreign key fk_shoppers_orders"}},
	} {
		t.Run(name, func(t *testing.T) {
			d.AsOwner(t, test.by...)
			var what []string
			for _, change := range d.migrate(t, shop...) {
				change = strings.Replace(change, " (ON DELETE SET NULL, which would take the tenant too, becomes NO ACTION)", "", 1)
				if strings.Contains(change, "foreign key") && !strings.Contains(change, "let the owner") {
					what = append(what, strings.TrimPrefix(change, "public."))
				}
			}
			require.Equal(t, test.what, what)
			require.Equal(t, d.shopKeys(t), d.foreignKeys(t))
			require.Empty(t, d.migrate(t, shop...), "a second run")
		})
	}
}

// PostgreSQL checks rows as the owner: behind forced policies it would find none, and call a wrong foreign key valid.
func TestMigrateFindsWrongRowsBehindPolicies(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, shop...)
	d.as(t, "acme", "INSERT INTO shoppers (id, code) VALUES (1, 'secret')")
	d.AsOwner(t, "ALTER TABLE orders DROP CONSTRAINT fk_shoppers_orders")
	d.as(t, "globex", "INSERT INTO orders (id, shopper_id) VALUES (2, 1)")
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, shop...)
	requireCode(t, err, "23503")
	const query = `SELECT * FROM "public"."orders" child WHERE child."shopper_id" IS NOT NULL AND NOT EXISTS ` +
		`(SELECT FROM "public"."shoppers" parent WHERE parent."tenant_id" = child."tenant_id" AND parent."id" = child."shopper_id")`
	const visible = `BEGIN; ALTER TABLE "public"."orders" NO FORCE ROW LEVEL SECURITY; ` +
		`ALTER TABLE "public"."shoppers" NO FORCE ROW LEVEL SECURITY; ` + query + "; ROLLBACK"
	require.EqualError(t, err, "tenancy: public.orders: validate foreign key fk_shoppers_orders: "+
		"the table has rows that refer to a row of another tenant, or to none: "+
		"correct or delete what this query finds, and migrate again: "+visible)

	require.Equal(t, 1, d.rows(t, visible))
	d.as(t, "globex", "DELETE FROM orders")
	d.migrate(t, shop...)
	require.Equal(t, d.shopKeys(t), d.foreignKeys(t))
	require.Empty(t, d.migrate(t, shop...), "what was not forced in between is forced again")
}

func TestMigrateForeignKeysAreTheUsersChoice(t *testing.T) {
	type part struct {
		ID        int64
		TenantID  string
		ShopperID int64
		Shopper   shopper `gorm:"constraint:-"`
	}
	t.Run("of one relation", func(t *testing.T) {
		d := newDatabase(t)
		d.migrate(t, &part{})
		require.NotContains(t, strings.Join(d.foreignKeys(t), "\n"), "parts")
	})
	t.Run("of the database", func(t *testing.T) {
		d := newDatabase(t)
		d.OwnerDB = testdb.OpenPlain(t, d.Owner.DSN, testdb.Configured(gorm.Config{DisableForeignKeyConstraintWhenMigrating: true}))
		d.migrate(t, shop...)
		require.Empty(t, d.foreignKeys(t))
	})
}
