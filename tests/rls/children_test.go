package rls_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only purchase has the tenant column. The others refer to it, at one step or more, and one of them without a foreign key.
type (
	purchase struct {
		ID       int64
		TenantID string
		Items    []purchaseItem
	}
	purchaseItem struct {
		ID         int64
		PurchaseID int64
		SKU        string `gorm:"unique"`
		Parts      []itemPart
	}
	itemPart struct {
		ID             int64
		PurchaseItemID *int64
		NextID         *int64
		Next           *itemPart
		Remarks        []remark `gorm:"polymorphic:Owner"`
	}
	remark struct {
		ID        int64
		OwnerID   int64
		OwnerType string
		Body      string
	}
)

var purchases = []any{&remark{}, &itemPart{}, &purchaseItem{}, &purchase{}}

var purchaseTables = []string{"purchases", "purchase_items", "item_parts", "remarks"}

// TestMigrateChildren migrates tables with rows that are older than isolation.
func TestMigrateChildren(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		t.Run(fmt.Sprintf("concurrent %t", concurrent), func(t *testing.T) {
			d := newDatabase(t)
			require.NoError(t, d.OwnerDB.AutoMigrate(&purchase{}, &purchaseItem{}, &itemPart{}, &remark{}))
			for n, tenant := range []string{"acme", "globex"} {
				require.NoError(t, d.OwnerDB.Create(&purchase{TenantID: tenant, Items: []purchaseItem{{SKU: fmt.Sprint(n), Parts: []itemPart{
					{Remarks: []remark{{Body: tenant}}},
				}}}}).Error)
			}
			d.AsOwner(t, "INSERT INTO item_parts (next_id) SELECT id FROM item_parts", "INSERT INTO item_parts (next_id) SELECT max(id) FROM item_parts")
			i := d.Isolation()
			i.ConcurrentIndexes = concurrent
			changes := d.migrateWith(t, i, purchases...)
			require.Contains(t, changes, "public.purchase_items: give each row the tenant of its row of public.purchases")
			require.Contains(t, changes, "public.item_parts: give each row the tenant of the row that it refers to")
			require.Contains(t, changes, "public.purchase_items: make uni_purchase_items_sku unique within a tenant")
			require.Empty(t, d.migrateWith(t, i, purchases...), "a second run")
			for _, table := range purchaseTables {
				for _, tenant := range []string{"acme", "globex"} {
					found := d.sees(t, tenant, "SELECT DISTINCT tenant_id FROM "+table)
					require.Equal(t, []string{tenant}, found, table)
				}
			}
			d.as(t, "acme", "INSERT INTO purchase_items (purchase_id, sku) VALUES (1, '1')") // which globex has as well
			for statement, code := range map[string]string{
				"INSERT INTO purchase_items (purchase_id, sku) VALUES (2, 'x')":                   "23503",
				"INSERT INTO remarks (owner_id, owner_type, tenant_id) VALUES (1, 'x', 'globex')": insufficientPrivilege,
				"UPDATE item_parts SET next_id = 4":                                               "23503",
			} {
				requireCode(t, d.fails(t, "acme", statement), code)
			}
			require.Empty(t, d.sees(t, "acme", "DELETE FROM purchase_items WHERE purchase_id = 2 RETURNING sku"))
		})
	}
}

// TestMigrateChildrenOfForeignKeys: no model says what the table refers to, but the database does.
func TestMigrateChildrenOfForeignKeys(t *testing.T) {
	type lonely struct {
		ID     int64
		NoteID int64
	}
	d := newDatabase(t)
	d.migrate(t, &note{})
	d.AsOwner(t, "CREATE TABLE lonelies (id bigserial PRIMARY KEY, note_id bigint REFERENCES notes)")
	require.Contains(t, d.migrate(t, &lonely{}, &note{}), "public.lonelies: create policy tenant_isolation")
	require.Empty(t, d.migrate(t, &lonely{}, &note{}), "a second run")
}

// TestMigrateRefusesChildrenOfTwoTenants: the row refers to rows of different tenants.
func TestMigrateRefusesChildrenOfTwoTenants(t *testing.T) {
	type link struct {
		ID           int64
		From, To     note
		FromID, ToID int64
	}
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&note{}, &link{}))
	d.AsOwner(t, "INSERT INTO notes (tenant_id, body) VALUES ('acme', 'a'), ('globex', 'g')", "INSERT INTO links (from_id, to_id) VALUES (1, 2)")
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &note{}, &link{})
	require.ErrorContains(t, err, "refer to a row of another tenant")
	d.AsOwner(t, "UPDATE links SET to_id = 1")
	d.migrate(t, &note{}, &link{})
	require.Len(t, d.sees(t, "acme", "SELECT tenant_id FROM links"), 1)
}

// TestMigrateRefusesOrphans: no parent tells the tenant of the row.
func TestMigrateRefusesOrphans(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&purchase{}, &purchaseItem{}, &itemPart{}, &remark{}))
	d.AsOwner(t, "INSERT INTO remarks (owner_id, owner_type) VALUES (7, 'itemParts')")
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, purchases...)
	require.ErrorContains(t, err, `table "public"."remarks" has rows without a tenant`)
}

// TestMigrateChildrenOfOwnRows: what refers to rows that a tenant writes as its own is that tenant's, and hidden from others.
func TestMigrateChildrenOfOwnRows(t *testing.T) {
	type (
		badge struct {
			ID       int64
			AccessID int64
			Access   *access
		}
		bill struct {
			ID         int64
			CustomerID string
			Customer   *customer
		}
	)
	d := newDatabase(t)
	models := []any{&badge{}, &bill{}, &customer{}, &access{}, &client{}, &tariff{}}
	require.NoError(t, d.OwnerDB.AutoMigrate(&tariff{}, &customer{}, &client{}, &access{}, &badge{}, &bill{}))
	d.AsOwner(t, "INSERT INTO customers VALUES ('acme'), ('globex')", "INSERT INTO bills (customer_id) VALUES ('acme'), ('globex')",
		"INSERT INTO clients (tenant_id) VALUES ('acme'), ('globex')", "INSERT INTO accesses (tenant_id, member_id) VALUES ('acme', 1), ('globex', 2)",
		"INSERT INTO badges (access_id) VALUES (1), (2)")
	d.migrate(t, models...)
	require.Empty(t, d.migrate(t, models...), "a second run")
	require.Equal(t, []string{"globex"}, d.sees(t, "globex", "SELECT tenant_id FROM badges"))
	require.Equal(t, []string{"globex"}, d.sees(t, "globex", "SELECT customer_id FROM bills"))
}
