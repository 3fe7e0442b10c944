package plugin_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	Order struct {
		ID       int64
		TenantID string
		Items    []Item
		Tags     []Tag `gorm:"many2many:order_tags"`
	}
	// Item has no tenant column; its table has one, because it refers to that of Order.
	Item struct {
		ID      int64
		OrderID int64
		SKU     string `gorm:"uniqueIndex"`
		Price   int
		Parts   []Part
	}
	Part struct {
		ID     int64
		ItemID int64
		Name   string
	}
	Tag struct {
		ID   int64
		Name string
	}
)

// TestChildrenBelongToTheTenantOfTheirParents works with child tables as an application does, whose models say nothing of tenants.
func TestChildrenBelongToTheTenantOfTheirParents(t *testing.T) {
	d := database{testdb.New(t, &Order{}, &Item{}, &Part{}, &Tag{})}
	d.AsOwner(t, "INSERT INTO tags (name) VALUES ('red')")
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		d.AsSuperuser(t, "TRUNCATE orders, items, parts, order_tags")
		theirs, ours := db.WithContext(as(acme)), db.WithContext(as(globex))
		order := func(tx *gorm.DB) Order {
			t.Helper()
			o := Order{Items: []Item{{SKU: "1", Parts: []Part{{Name: "p"}}}, {SKU: "2"}}, Tags: []Tag{{ID: 1}}}
			require.NoError(t, tx.Omit("Tags.*").Create(&o).Error)
			return o
		}
		a, g := order(theirs), order(ours) // the same SKU in both

		var items []Item
		require.NoError(t, ours.Order("sku").Find(&items).Error)
		require.Len(t, items, 2)
		require.Equal(t, g.Items[0].ID, items[0].ID)
		var preloaded Order
		require.NoError(t, ours.Preload("Items.Parts").Preload("Tags").First(&preloaded).Error)
		require.Len(t, preloaded.Items[0].Parts, 1)
		require.Len(t, preloaded.Tags, 1)
		require.ErrorIs(t, ours.First(&Part{}, a.Items[0].Parts[0].ID).Error, gorm.ErrRecordNotFound)
		var joined []Item
		require.NoError(t, ours.Joins("JOIN parts ON parts.item_id = items.id").Find(&joined).Error)
		require.Len(t, joined, 1)

		theft := ours.Model(&g).Association("Items").Replace(&Item{ID: a.Items[0].ID})
		require.Error(t, theft, "an item of another tenant cannot be taken")
		for what, tx := range map[string]*gorm.DB{
			"update": ours.Model(&Item{}).Where("id = ?", a.Items[0].ID).Update("price", 1),
			"move":   ours.Model(&Item{}).Where("id = ?", a.Items[0].ID).Update("order_id", g.ID),
			"delete": ours.Delete(&Part{}, a.Items[0].Parts[0].ID),
			"raw":    ours.Exec("DELETE FROM items WHERE order_id = ?", a.ID),
		} {
			require.NoError(t, tx.Error, what)
			require.Zero(t, tx.RowsAffected, what)
		}
		require.Error(t, ours.Create(&Item{OrderID: a.ID, SKU: "3"}).Error, "an item for an order of another tenant")

		upsert := clause.OnConflict{Columns: []clause.Column{{Name: "sku"}}, DoUpdates: clause.AssignmentColumns([]string{"price"})}
		require.NoError(t, ours.Clauses(upsert).Create(&Item{OrderID: g.ID, SKU: "2", Price: 7}).Error)
		var prices []int
		require.NoError(t, ours.Model(&Item{}).Order("sku").Pluck("price", &prices).Error)
		require.Equal(t, []int{0, 7}, prices)
		require.NoError(t, theirs.Model(&Item{}).Order("sku").Pluck("price", &prices).Error)
		require.Equal(t, []int{0, 0}, prices)

		require.Contains(t, ours.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Find(&items) }), `"items"."tenant_id" = 'globex'`)
		require.NoError(t, ours.Where("1 = 1").Delete(&Part{}).Error)
		require.NoError(t, ours.Select("Items", "Tags").Delete(&g).Error, "with its associations")
		require.NoError(t, theirs.Find(&items).Error)
		require.Len(t, items, 2)
	})
}
