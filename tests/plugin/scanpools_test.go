package plugin_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Misfit can't hold the names of patients. GORM scans id and tenant_id, then name, which fails, and never the rest.
type Misfit struct {
	ID       int64
	Name     int64
	TenantID string
	Doctor   string `gorm:"column:doctor_id"`
}

func (Misfit) TableName() string { return "patients" }

// TestFailedScanShowsNoOtherRow: without the plugin, what GORM can't scan it fills with values of rows that were scanned
// before, whoever's they are, since all models share a pool of values.
func TestFailedScanShowsNoOtherRow(t *testing.T) {
	d := newDatabase(t)
	guarded := d.Open(t, tenancy.Config{})
	plain := func(tenant string) *gorm.DB {
		return testdb.OpenPlain(t, d.Admin.DSN).Where("tenant_id = ?", tenant).Session(&gorm.Session{})
	}
	ways := map[string]func(db *gorm.DB) (Misfit, error){
		"model": func(db *gorm.DB) (m Misfit, err error) {
			err = db.Take(&m).Error
			return m, err
		},
		"slice": func(db *gorm.DB) (Misfit, error) {
			var m []Misfit
			err := db.Find(&m).Error
			return append(m, Misfit{})[0], err
		},
		"other struct than the model": func(db *gorm.DB) (Misfit, error) {
			var m []struct {
				ID       int64
				Name     int64
				TenantID string
			}
			err := db.Model(&Patient{}).Find(&m).Error
			return Misfit{TenantID: append(m, struct {
				ID       int64
				Name     int64
				TenantID string
			}{})[0].TenantID}, err
		},
		"ScanRows": func(db *gorm.DB) (m Misfit, err error) {
			rows, err := db.Model(&Misfit{}).Rows()
			if err != nil {
				return m, err
			}
			defer rows.Close()
			for rows.Next() {
				err = db.ScanRows(rows, &m)
			}
			return m, err
		},
	}
	stale := func(t *testing.T, acmes, globexs *gorm.DB, run func(*gorm.DB) (Misfit, error)) (found bool) {
		for range 50 { // the pool drops values now and then
			require.NoError(t, globexs.Find(&[]Patient{}).Error)
			m, err := run(acmes)
			require.ErrorContains(t, err, "converting driver.Value type string")
			found = found || m.TenantID != "" && m.TenantID != acme || m.Doctor != ""
		}
		return found
	}
	for name, run := range ways {
		t.Run(name, func(t *testing.T) {
			require.False(t, stale(t, guarded.WithContext(as(acme)), guarded.WithContext(as(globex)), run))
			require.True(t, stale(t, plain(acme), plain(globex), run),
				"GORM has mended it, and so need we no longer")
		})
	}
}
