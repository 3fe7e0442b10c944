package plugin_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// In a transaction a context that says nothing inherits, also what is filled in.
func TestFillInTransactionWithoutContext(t *testing.T) {
	d := newDatabase(t)
	for _, prepare := range []bool{false, true} {
		db := d.Open(t, tenancy.Config{}, testdb.Prepared(prepare))
		require.NoError(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			tx = tx.WithContext(context.Background())
			p := Patient{Name: "inherited"}
			require.NoError(t, tx.Create(&p).Error)
			require.Equal(t, acme, p.TenantID)
			require.NoError(t, tx.Save(&Patient{ID: p.ID, Name: "saved"}).Error)
			require.ErrorIs(t, tx.Create(&Patient{TenantID: globex}).Error, tenancy.ErrTenantMismatch)
			require.ErrorIs(t, tx.WithContext(as(globex)).Create(&Patient{}).Error, tenancy.ErrTenantMismatch)
			require.ErrorIs(t, tx.WithContext(as("")).Create(&Patient{}).Error, tenancy.ErrNoTenant)
			return nil
		}))
		require.NoError(t, db.WithContext(tenancy.WithoutTenant(t.Context())).Transaction(func(tx *gorm.DB) error {
			require.ErrorIs(t, tx.WithContext(context.Background()).Create(&Patient{}).Error, tenancy.ErrNoTenant)
			return nil
		}))
	}
}

// A table without a model has the column if PostgreSQL says so.
func TestFillWithoutModel(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	d.AsOwner(t, "ALTER TABLE patients ALTER tenant_id DROP DEFAULT")
	row := map[string]any{"name": "by map"}
	require.NoError(t, db.Table("patients").Create(row).Error)
	require.Equal(t, map[string]any{"name": "by map"}, row, "it is the caller's")
	require.NoError(t, db.WithContext(as(globex)).Table("patients").Create(row).Error)
	rows := []map[string]any{{"name": "two"}, nil, {"name": "three", "tenant_id": ""}, {"tenant_id": acme}}
	require.NoError(t, db.Table("patients").Create(rows).Error)
	require.Equal(t, []map[string]any{{"name": "two"}, nil, {"name": "three", "tenant_id": ""}, {"tenant_id": acme}}, rows)
	var n int64
	require.NoError(t, db.Model(&Patient{}).Where("name IN ('by map', 'two', 'three') OR name IS NULL").Count(&n).Error)
	require.EqualValues(t, 5, n)

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := db.Table("patients").Create(row).Error; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.ErrorIs(t, db.Table("patients").Create(map[string]any{"tenant_id": globex}).Error, tenancy.ErrTenantMismatch)
}

// An upsert can't take over another tenant's row, nor tell that there is one otherwise than by the key's uniqueness.
func TestUpsertOfAnotherTenantsKey(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	var theirs Patient
	require.NoError(t, db.WithContext(as(globex)).First(&theirs).Error)
	mine := db.WithContext(as(acme))
	require.Error(t, mine.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Patient{ID: theirs.ID, Name: "stolen"}).Error)
	require.Error(t, mine.Save(&Patient{ID: theirs.ID, Name: "stolen"}).Error)
	var after Patient
	require.NoError(t, db.WithContext(as(globex)).First(&after).Error)
	require.Equal(t, theirs, after)
}

// A column that the model only reads is filled in by its default in the database.
func TestFillOfReadOnlyColumn(t *testing.T) {
	type Patient struct {
		ID       int64
		TenantID string `gorm:"->"`
		Name     string
	}
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	p := Patient{Name: "read-only"}
	require.NoError(t, db.Create(&p).Error)
	require.NoError(t, db.First(&p, p.ID).Error)
	require.Equal(t, acme, p.TenantID)
}

func TestFillAssociations(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	var doctor Doctor
	require.NoError(t, db.First(&doctor).Error)
	require.NoError(t, db.Model(&doctor).Association("Patients").Append(&Patient{Name: "second"}))
	require.EqualValues(t, 2, db.Model(&doctor).Association("Patients").Count())
	require.ErrorIs(t, db.Model(&doctor).Association("Patients").Append(&Patient{TenantID: globex}), tenancy.ErrTenantMismatch)
	require.NoError(t, db.Model(&doctor).Association("Patients").Clear())
	require.Zero(t, db.Model(&doctor).Association("Patients").Count())
	var p Patient
	require.NoError(t, db.Where(Patient{Name: "third"}).FirstOrCreate(&p).Error)
	require.Equal(t, acme, p.TenantID)
	require.ErrorIs(t, db.Where(Patient{Name: "fourth", TenantID: globex}).FirstOrCreate(&Patient{}).Error, tenancy.ErrTenantMismatch)
}

// What a refused create has left in a statement does not add the tenant to the next table.
func TestFillForgetsRefusedCreate(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "GRANT SELECT, INSERT ON countries TO "+d.App.Role, "GRANT USAGE ON SEQUENCE countries_id_seq TO "+d.App.Role)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	fails := true
	require.NoError(t, db.Callback().Create().Before("gorm:create").Register("fails", func(db *gorm.DB) {
		if fails {
			_ = db.AddError(context.Canceled)
		}
	}))
	tx := db.Table("patients").Clauses(clause.OnConflict{DoNothing: true})
	require.ErrorIs(t, tx.Create(map[string]any{"name": "mine"}).Error, context.Canceled)
	tx.Error, fails = nil, false
	require.NoError(t, tx.Table("countries").Create(map[string]any{"name": "Chile"}).Error)
}
