package compat

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/soft_delete"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// soft_delete and optimisticlock register nothing: their types bring clauses into the statements of a model.

// forEachConfig runs a test with each of GORM's configurations.
func forEachConfig(t *testing.T, test func(t *testing.T, d *database, db *gorm.DB)) {
	d := newDatabase(t)
	for _, c := range configs {
		t.Run(c.name, func(t *testing.T) {
			db := open(t, postgres.Open(d.dsn), c.config)
			require.NoError(t, db.Use(tenancy.New(d.Config())))
			test(t, d, db)
		})
	}
}

func TestOptimisticLock(t *testing.T) { testdb.InBothForms(t, testOptimisticLock) }

func testOptimisticLock(t *testing.T) {
	forEachConfig(t, func(t *testing.T, d *database, db *gorm.DB) {
		two := d.newPair(t)
		tx := db.WithContext(two.ctx())
		theirs := Account{TenantID: two.other, Balance: 7}
		require.NoError(t, d.AdminDB.Create(&theirs).Error)
		before := d.state(t, two.other)

		mine := []Account{{Balance: 10}, {Balance: 20}}
		require.NoError(t, tx.Create(&mine).Error)
		for _, account := range mine {
			require.Equal(t, two.me, account.TenantID)
			require.EqualValues(t, 1, account.Version.Int64)
		}

		var first, second Account
		require.NoError(t, tx.First(&first, mine[0].ID).Error)
		require.NoError(t, tx.First(&second, mine[0].ID).Error)
		updated := tx.Model(&first).Update("balance", 11)
		require.NoError(t, updated.Error)
		require.EqualValues(t, 1, updated.RowsAffected)
		late := tx.Model(&second).Updates(Account{Balance: 12})
		require.NoError(t, late.Error)
		require.Zero(t, late.RowsAffected, "a conflict is noticed")
		require.NoError(t, tx.First(&second, mine[0].ID).Error)
		require.Equal(t, 11, second.Balance)
		require.EqualValues(t, 2, second.Version.Int64)
		second.Balance = 13
		require.NoError(t, tx.Save(&second).Error)
		require.NoError(t, tx.First(&first, mine[0].ID).Error)
		require.Equal(t, 13, first.Balance)
		require.EqualValues(t, 3, first.Version.Int64)
		require.Equal(t, two.me, first.TenantID)

		// Another tenant's row stays as it is, and in its place.
		foreign := tx.Model(&theirs).Update("balance", 99)
		require.NoError(t, foreign.Error)
		require.Zero(t, foreign.RowsAffected)
		require.ErrorIs(t, tx.Model(&first).Updates(Account{TenantID: two.other}).Error, tenancy.ErrTenantMismatch)
		require.ErrorIs(t, tx.Create(&Account{TenantID: two.other}).Error, tenancy.ErrTenantMismatch)
		require.ErrorIs(t, tx.Save(&theirs).Error, tenancy.ErrTenantMismatch)
		upsert := tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Account{ID: theirs.ID, Balance: 99})
		require.Error(t, upsert.Error)
		require.Equal(t, before, d.state(t, two.other))
		require.ErrorIs(t, db.Model(&first).Update("balance", 1).Error, tenancy.ErrNoTenant)
	})
}

func TestSoftDelete(t *testing.T) { testdb.InBothForms(t, testSoftDelete) }

func testSoftDelete(t *testing.T) {
	forEachConfig(t, func(t *testing.T, d *database, db *gorm.DB) {
		for _, s := range []struct {
			name string
			run  func(t *testing.T, d *database, db *gorm.DB)
		}{
			{"flag", softDelete(func(f Flagged) (int64, string, string, bool) {
				return f.ID, f.TenantID, f.Name, f.IsDeleted == soft_delete.DeletedAt(soft_delete.FlagDeleted)
			}, func(tenant, name string) Flagged { return Flagged{TenantID: tenant, Name: name} })},
			{"time", softDelete(func(f Timed) (int64, string, string, bool) {
				return f.ID, f.TenantID, f.Name, recent(int64(f.DeletedAt) / 1000)
			}, func(tenant, name string) Timed { return Timed{TenantID: tenant, Name: name} })},
			{"flag and time", softDelete(func(f Stamped) (int64, string, string, bool) {
				return f.ID, f.TenantID, f.Name, f.IsDeleted == 1 && recent(f.RemovedAt)
			}, func(tenant, name string) Stamped { return Stamped{TenantID: tenant, Name: name} })},
		} {
			t.Run(s.name, func(t *testing.T) { s.run(t, d, db) })
		}
	})
}

func recent(unix int64) bool { return time.Since(time.Unix(unix, 0)).Abs() < time.Hour }

// softDelete deletes rows of a model, which look tells about.
func softDelete[M any](
	look func(M) (id int64, tenant, name string, deleted bool), newRow func(tenant, name string) M,
) func(*testing.T, *database, *gorm.DB) {
	return func(t *testing.T, d *database, db *gorm.DB) {
		two := d.newPair(t)
		tx := db.WithContext(two.ctx())
		theirs := newRow(two.other, "theirs")
		require.NoError(t, d.AdminDB.Create(&theirs).Error)
		theirID, _, _, _ := look(theirs)
		before := d.state(t, two.other)
		names := func(db *gorm.DB) string {
			var names []string
			require.NoError(t, db.Model(new(M)).Order("id").Pluck("name", &names).Error)
			return fmt.Sprint(names)
		}

		mine := []M{newRow("", "one"), newRow("", "two"), newRow("", "three")}
		require.NoError(t, tx.Create(&mine).Error)
		deleted := tx.Delete(&mine[0])
		require.NoError(t, deleted.Error)
		require.EqualValues(t, 1, deleted.RowsAffected)
		require.Equal(t, "[two three]", names(tx))
		require.Equal(t, "[one two three]", names(tx.Unscoped()))
		id, _, _, _ := look(mine[0])
		var gone M
		require.NoError(t, tx.Unscoped().First(&gone, id).Error)
		_, tenant, _, flagged := look(gone)
		require.Equal(t, two.me, tenant)
		require.True(t, flagged)

		foreign := tx.Delete(new(M), theirID)
		require.NoError(t, foreign.Error)
		require.Zero(t, foreign.RowsAffected)
		require.Zero(t, tx.Unscoped().Delete(new(M), theirID).RowsAffected)
		all := tx.Where("name <> 'three'").Delete(new(M))
		require.NoError(t, all.Error)
		require.EqualValues(t, 1, all.RowsAffected)
		require.Equal(t, "[three]", names(tx))
		require.NoError(t, tx.Unscoped().Delete(&mine[0]).Error)
		require.Equal(t, "[two three]", names(tx.Unscoped()), "deleted for good")

		stranger := newRow(two.other, "stranger")
		require.ErrorIs(t, tx.Create(&stranger).Error, tenancy.ErrTenantMismatch)
		require.ErrorIs(t, db.Delete(&mine[1]).Error, tenancy.ErrNoTenant)
		require.Equal(t, before, d.state(t, two.other))
		require.Equal(t, "[theirs]", names(tenancy.Bypass(db, "test").Where("tenant_id = ?", two.other)))
	}
}
