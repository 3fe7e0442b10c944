package plugin_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// Tenant is a row of the table of tenants, which all share.
type Tenant struct {
	ID   string `gorm:"primaryKey"`
	Name string
}

// User belongs to a tenant by a foreign key.
type User struct {
	ID       int64
	TenantID string
	Tenant   *Tenant
	Name     string
}

// Named takes its tenant from its own name.
type Named struct {
	ID       int64
	TenantID string
	Name     string
}

func (h *Named) BeforeCreate(*gorm.DB) error {
	h.TenantID = h.Name
	return nil
}

func (d database) signUp(t *testing.T) {
	t.Helper()
	d.Migrate(t, d.Isolation(), &Tenant{}, &User{}, &Named{})
	d.AsOwner(t, "GRANT SELECT, INSERT ON tenants TO "+d.App.Role+", "+d.Admin.Role)
}

// TestSignUpInOneTransaction: what begins under no tenant goes on as the new one.
func TestSignUpInOneTransaction(t *testing.T) {
	d := newDatabase(t)
	d.signUp(t)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		err := db.WithContext(tenancy.WithoutTenant(t.Context())).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Tenant{ID: t.Name()}).Error; err != nil {
				return err
			}
			tx = tx.WithContext(tenancy.WithTenant(t.Context(), t.Name()))
			if err := tx.Create(&User{Name: "first"}).Error; err != nil {
				return err
			}
			require.ErrorIs(t, tx.WithContext(as(globex)).Create(&User{Name: "spy"}).Error, tenancy.ErrTenantMismatch)
			return nil
		})
		require.NoError(t, err)
		var users []User
		require.NoError(t, db.WithContext(as(t.Name())).Find(&users).Error)
		require.Len(t, users, 1)
		require.Equal(t, t.Name(), users[0].TenantID)
	})
}

// TestTransactionGetsItsTenantLater: from the first statement that names one.
func TestTransactionGetsItsTenantLater(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{}, func(t *testing.T, db *gorm.DB) {
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			if err := gorm.G[Doctor](tx).Create(as(acme), &Doctor{Name: t.Name()}); err != nil {
				return err
			}
			var n int64
			require.NoError(t, tx.Model(&Doctor{}).Where("name = ?", t.Name()).Count(&n).Error, "and keeps it")
			require.EqualValues(t, 1, n)
			return nil
		}))
		err := db.Transaction(func(tx *gorm.DB) error { return tx.Create(&Doctor{Name: "without a tenant"}).Error })
		require.ErrorIs(t, err, tenancy.ErrNoTenant)
		require.ErrorContains(t, err, "create")
		require.ErrorContains(t, err, "doctors")
		err = db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.WithContext(as(acme)).First(&Doctor{}).Error)
			return tx.WithContext(as(globex)).First(&Doctor{}).Error
		})
		require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
	})
}

// TestBypassFillsLate: the admin client's rows may get their tenant from a hook or a belongs-to association.
func TestBypassFillsLate(t *testing.T) {
	d := newDatabase(t)
	d.signUp(t)
	db := tenancy.Bypass(d.Open(t, tenancy.Config{AdminRole: d.Admin.Role}).WithContext(context.Background()), "sign-up")
	user := User{Name: "first", Tenant: &Tenant{ID: "initech"}}
	require.NoError(t, db.Create(&user).Error)
	require.Equal(t, "initech", user.TenantID)
	named := Named{Name: "initech"}
	require.NoError(t, db.Create(&named).Error)
	require.Equal(t, "initech", named.TenantID)
	require.ErrorIs(t, db.Create(&User{Name: "without a tenant"}).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, db.Create(&Named{}).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, db.Model(&Doctor{}).Create(map[string]any{"name": "without a tenant"}).Error, tenancy.ErrNoTenant)
}
