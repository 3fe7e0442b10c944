package plugin_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
)

// Domain is read by all, and each tenant writes its own.
type Domain struct {
	ID       int64
	TenantID string
	Name     string `gorm:"unique"`
}

func (Domain) TenantOwnRows() {}

// domains makes the table of Domain as rls makes it.
func (d database) domains(t *testing.T, policies ...string) {
	t.Helper()
	require.NoError(t, d.OwnerDB.AutoMigrate(&Domain{}))
	d.AsOwner(t, "ALTER TABLE domains ENABLE ROW LEVEL SECURITY", "ALTER TABLE domains FORCE ROW LEVEL SECURITY",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON domains TO "+d.App.Role, "GRANT USAGE ON SEQUENCE domains_id_seq TO "+d.App.Role)
	d.AsOwner(t, policies...)
}

const (
	ownDomains  = `CREATE POLICY tenant_isolation ON domains USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')))`
	readDomains = `CREATE POLICY tenant_lookup ON domains FOR SELECT USING (true)`
)

func TestOwnRowsAreReadByAllAndWrittenByTheirTenant(t *testing.T) {
	d := newDatabase(t)
	d.domains(t, ownDomains, readDomains)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		d.AsOwner(t, "TRUNCATE domains")
		theirs, ours := db.WithContext(as(acme)), db.WithContext(as(globex))
		mine := Domain{Name: "acme.test"}
		require.NoError(t, theirs.Create(&mine).Error)
		require.Equal(t, acme, mine.TenantID, "filled in")

		var found []Domain
		require.NoError(t, db.WithContext(withoutTenant()).Find(&found).Error)
		require.Len(t, found, 1)
		require.NoError(t, ours.Find(&found).Error)
		require.Len(t, found, 1, "read by all")

		require.ErrorIs(t, ours.Create(&Domain{TenantID: acme, Name: "x.test"}).Error, tenancy.ErrTenantMismatch)
		require.ErrorIs(t, ours.Model(&Domain{}).Where("1 = 1").Update("tenant_id", acme).Error, tenancy.ErrTenantMismatch)
		require.ErrorIs(t, db.WithContext(withoutTenant()).Create(&Domain{Name: "x.test"}).Error, tenancy.ErrNoTenant)
		for what, tx := range map[string]*gorm.DB{
			"update":     ours.Model(&Domain{}).Where("name = ?", "acme.test").Update("name", "x.test"),
			"delete":     ours.Where("name = ?", "acme.test").Delete(&Domain{}),
			"raw update": ours.Exec("UPDATE domains SET tenant_id = 'globex'"),
			"raw delete": ours.Exec("DELETE FROM domains"),
		} {
			require.NoError(t, tx.Error, what)
			require.Zero(t, tx.RowsAffected, what)
		}
		require.ErrorContains(t, ours.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, UpdateAll: true}).
			Create(&Domain{Name: "acme.test"}).Error, "42501", "an upsert of a row of another tenant")
		require.NoError(t, theirs.Model(&Domain{}).Where("name = ?", "acme.test").Update("name", "acme.example").Error)
		require.NoError(t, theirs.Where("name = ?", "acme.example").Delete(&Domain{}).Error)
	})
}

// TestOwnRowsAreProvedBeforeTheyAreWritten: that all read them is right; that all write them is not.
func TestOwnRowsAreProvedBeforeTheyAreWritten(t *testing.T) {
	for name, policies := range map[string][]string{
		"no policy":       {readDomains},
		"writes by all":   {ownDomains, readDomains, `CREATE POLICY open ON domains FOR UPDATE USING (true)`},
		"not row-secured": {ownDomains, readDomains, `ALTER TABLE domains DISABLE ROW LEVEL SECURITY`},
		"no column":       {`ALTER TABLE domains DROP COLUMN tenant_id CASCADE`, readDomains},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.domains(t, policies...)
			db := d.Open(t, tenancy.Config{})
			require.NoError(t, db.WithContext(as(acme)).Find(&[]Domain{}).Error)
			err := db.WithContext(as(acme)).Model(&Domain{}).Where("id = 1").Update("name", "x").Error
			if name == "no policy" {
				require.NoError(t, err, "nothing is let in")
				return
			}
			require.ErrorIs(t, err, tenancy.ErrNotIsolated)
			require.ErrorIs(t, db.WithContext(as(acme)).Create(&Domain{Name: "x"}).Error, tenancy.ErrNotIsolated)
		})
	}
}
