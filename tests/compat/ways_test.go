package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// way sends SQL in one way, for the tenant two.me, and returns an error if it saw or did what it must not. Rows that it
// writes are looked for elsewhere: where reads go to a replica, they may not be there yet.
type way struct {
	name string
	run  func(db *gorm.DB, two *pair) error
}

var ways = []way{
	{"Find", func(db *gorm.DB, two *pair) error {
		var notes []Note
		err := db.Find(&notes, "text IN ?", []string{"one", "two", "three"}).Error
		return cmpErr(err, ids(notes), ids(two.mine))
	}},
	{"First of another tenant", func(db *gorm.DB, two *pair) error {
		return wantErr(db.First(&Note{}, two.theirs[0].ID).Error, gorm.ErrRecordNotFound)
	}},
	{"Count", func(db *gorm.DB, two *pair) error {
		var n int64
		err := db.Model(&Order{}).Count(&n).Error
		return cmpErr(err, n, 1)
	}},
	{"Rows", func(db *gorm.DB, two *pair) error {
		rows, err := db.Model(&Order{}).Select("tenant_id").Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		return onlyMine(rows, two)
	}},
	{"Row", func(db *gorm.DB, two *pair) error {
		var n int
		err := db.Model(&Order{}).Select("count(*)").Row().Scan(&n)
		return cmpErr(err, n, 1)
	}},
	{"Raw", func(db *gorm.DB, two *pair) error {
		var tenants []string
		err := db.Raw("SELECT DISTINCT tenant_id FROM notes").Scan(&tenants).Error
		return cmpErr(err, tenants, []string{two.me})
	}},
	{"generics", func(db *gorm.DB, two *pair) error {
		orders, err := gorm.G[Order](db).Find(db.Statement.Context)
		if err != nil {
			return err
		}
		return cmpErr(nil, len(orders), 1)
	}},
	{"DB", func(db *gorm.DB, two *pair) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		rows, err := pool.QueryContext(db.Statement.Context, "SELECT tenant_id FROM orders")
		if err != nil {
			return err
		}
		defer rows.Close()
		return onlyMine(rows, two)
	}},
	{"Connection", func(db *gorm.DB, two *pair) error {
		return db.Connection(func(tx *gorm.DB) error {
			var n int64
			err := tx.Model(&Order{}).Count(&n).Error
			return cmpErr(err, n, 1)
		})
	}},
	{"Transaction", func(db *gorm.DB, two *pair) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Order{Item: "in a transaction"}).Error; err != nil {
				return err
			}
			var n int64
			if err := cmpErr(tx.Model(&Order{}).Count(&n).Error, n, 2); err != nil {
				return err
			}
			err := tx.WithContext(tenancy.WithTenant(context.Background(), two.other)).First(&Note{}).Error
			if err := wantErr(err, tenancy.ErrTenantMismatch); err != nil {
				return err
			}
			return tx.Delete(&Order{}, "item = ?", "in a transaction").Error
		})
	}},
	{"Create fills in the tenant", func(db *gorm.DB, two *pair) error {
		n := Note{Text: "new"}
		err := db.Create(&n).Error
		return cmpErr(err, n.TenantID, two.me)
	}},
	{"Create for another tenant", func(db *gorm.DB, two *pair) error {
		return wantErr(db.Create(&Note{TenantID: two.other}).Error, tenancy.ErrTenantMismatch)
	}},
	{"Create of a map for another tenant", func(db *gorm.DB, two *pair) error {
		err := db.Model(&Note{}).Create(map[string]any{"tenant_id": two.other, "text": "x"}).Error
		return wantErr(err, tenancy.ErrTenantMismatch)
	}},
	{"Save for another tenant", func(db *gorm.DB, two *pair) error {
		n := two.theirs[0]
		n.Text = "taken"
		return wantErr(db.Save(&n).Error, tenancy.ErrTenantMismatch)
	}},
	{"Update of another tenant's row", func(db *gorm.DB, two *pair) error {
		tx := db.Model(&Note{}).Where("id = ?", two.theirs[0].ID).Update("text", "changed")
		return cmpErr(tx.Error, tx.RowsAffected, 0)
	}},
	{"Update to another tenant", func(db *gorm.DB, two *pair) error {
		return wantErr(db.Model(&two.mine[0]).Update("tenant_id", two.other).Error, tenancy.ErrTenantMismatch)
	}},
	{"Update of all rows", func(db *gorm.DB, two *pair) error {
		tx := db.Model(&Order{}).Where("true").Update("item", "changed")
		return cmpErr(tx.Error, tx.RowsAffected, 1)
	}},
	{"Delete of another tenant's row", func(db *gorm.DB, two *pair) error {
		tx := db.Delete(&Note{}, two.theirs[0].ID)
		return cmpErr(tx.Error, tx.RowsAffected, 0)
	}},
	{"Exec INSERT for another tenant", func(db *gorm.DB, two *pair) error {
		err := db.Exec("INSERT INTO notes (tenant_id, text) VALUES (?, 'x')", two.other).Error
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "42501" {
			return nil
		}
		return wantErr(err, errors.New("insufficient_privilege"))
	}},
	{"Exec UPDATE of all rows", func(db *gorm.DB, two *pair) error {
		tx := db.Exec("UPDATE orders SET item = 'by SQL'")
		return cmpErr(tx.Error, tx.RowsAffected, 1)
	}},
}

// onlyMine reads tenants to the end.
func onlyMine(rows *sql.Rows, two *pair) error {
	n := 0
	for ; rows.Next(); n++ {
		var tenant string
		err := rows.Scan(&tenant)
		if err := cmpErr(err, tenant, two.me); err != nil {
			return err
		}
	}
	return cmpErr(rows.Err(), n, 1)
}

func cmpErr[T any](err error, got, want T) error {
	if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return err
}

// wantErr turns the error that is wanted into none, and leaves others that refuse what they are.
func wantErr(err, want error) error {
	switch {
	case err == nil:
		return errors.New("no error where one is wanted: " + want.Error())
	case errors.Is(err, want):
		return nil
	default:
		return err
	}
}

// requireGuarded runs all ways, with and without a tenant. Where reads go to a replica, catchUp waits for it.
func requireGuarded(t *testing.T, d *database, db *gorm.DB, catchUp func(testing.TB)) {
	t.Helper()
	two := d.newPair(t)
	catchUp(t)
	before := d.state(t, two.other)
	for _, way := range ways {
		require.NoError(t, way.run(db.WithContext(two.ctx()), two), way.name)
	}
	require.Equal(t, before, d.state(t, two.other), "the other tenant's rows")
	var n int64
	require.NoError(t, d.AdminDB.Model(&Note{}).Where("tenant_id = ? AND text = 'new'", two.me).Count(&n).Error)
	require.EqualValues(t, 1, n, "what was created for the tenant")

	for _, way := range ways {
		// A connection that was idle for a second is pinged before its next use; this one was not.
		require.NoError(t, db.WithContext(two.ctx()).Exec("SELECT 1").Error)
		sent := d.traffic.RoundTrips()
		err := way.run(db.WithContext(context.Background()), two)
		require.ErrorIs(t, err, tenancy.ErrNoTenant, way.name)
		require.Equal(t, sent, d.traffic.RoundTrips(), "%s: round trips without a tenant", way.name)
	}
}

func nothing(testing.TB) {}

// TestWaysCrossWithoutPlugin runs the same ways without the plugin, on a connection that no policy holds back, so that a way
// that would pass there too is known to prove nothing.
func TestWaysCrossWithoutPlugin(t *testing.T) {
	d := newDatabase(t)
	for _, way := range ways {
		two := d.newPair(t)
		before := d.state(t, two.other)
		err := way.run(d.AdminDB.WithContext(two.ctx()), two)
		if err == nil {
			require.NotEqual(t, before, d.state(t, two.other), "passes without the plugin: %s", way.name)
		}
	}
}
