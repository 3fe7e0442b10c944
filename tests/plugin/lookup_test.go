package plugin_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// lookup makes a role that reads doctors' tenants and names, and that the application may take.
func (d database) lookup(t *testing.T) string {
	t.Helper()
	role := d.App.Role + "_lookup"
	d.AsSuperuser(t, "CREATE ROLE "+role, "GRANT "+role+" TO "+d.App.Role)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	d.AsOwner(t, "GRANT USAGE ON SCHEMA public TO "+role, "GRANT SELECT (tenant_id, name) ON doctors TO "+role,
		"CREATE POLICY tenant_lookup ON doctors FOR SELECT TO "+role+" USING (true)")
	return role
}

func withoutTenant() context.Context { return tenancy.WithoutTenant(context.Background()) }

// tenantsOf looks up which tenants have a doctor of this name.
func tenantsOf(db *gorm.DB, name string) (tenants []string, err error) {
	err = db.WithContext(withoutTenant()).Model(&Doctor{}).Where("name = ?", name).Pluck("tenant_id", &tenants).Error
	return tenants, err
}

func TestLookupRoleReadsWhatItWasGranted(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, tenancy.Config{LookupRole: d.lookup(t)}, func(t *testing.T, db *gorm.DB) {
		tenants, err := tenantsOf(db, "acme's doctor")
		require.NoError(t, err)
		require.Equal(t, []string{acme}, tenants)

		none := db.WithContext(withoutTenant())
		for what, refused := range map[string]error{
			"another column": none.Find(&[]Doctor{}).Error,
			"another table":  none.Find(&[]Patient{}).Error,
			"raw":            none.Raw("SELECT id FROM doctors").Scan(&[]int64{}).Error,
			"insert":         none.Exec("INSERT INTO doctors (tenant_id, name) VALUES ('acme', 'x')").Error,
			"update":         none.Model(&Doctor{}).Where("name = ?", "acme's doctor").Update("name", "x").Error,
			"delete":         none.Where("name = ?", "acme's doctor").Delete(&Doctor{}).Error,
		} {
			require.ErrorContains(t, refused, "42501", what)
		}

		var names []string
		require.NoError(t, db.WithContext(as(globex)).Model(&Doctor{}).Pluck("name", &names).Error)
		require.Equal(t, []string{"globex's doctor"}, names, "a tenant does not see what can be looked up")
		require.NoError(t, db.WithContext(as(globex)).Raw("SELECT name FROM doctors").Scan(&names).Error)
		require.Equal(t, []string{"globex's doctor"}, names)
	})
}

// TestLookupRoleEndsWithTheLookup changes between lookups and tenants on one connection, and in one transaction.
func TestLookupRoleEndsWithTheLookup(t *testing.T) {
	d := newDatabase(t)
	role := d.lookup(t)
	current := func(db *gorm.DB, ctx context.Context) string {
		t.Helper()
		var name string
		require.NoError(t, db.WithContext(ctx).Raw("SELECT current_user").Scan(&name).Error)
		return name
	}
	names := func(db *gorm.DB, ctx context.Context) (names []string) {
		t.Helper()
		require.NoError(t, db.WithContext(ctx).Model(&Doctor{}).Order("name").Pluck("name", &names).Error)
		return names
	}
	d.eachMode(t, tenancy.Config{LookupRole: role}, func(t *testing.T, db *gorm.DB) {
		pool, err := db.DB()
		require.NoError(t, err)
		pool.SetMaxOpenConns(1)
		for range 3 {
			require.Equal(t, []string{"acme's doctor", "globex's doctor"}, names(db, withoutTenant()))
			require.Equal(t, []string{"globex's doctor"}, names(db, as(globex)))
			require.Equal(t, role, current(db, withoutTenant()))
			require.Equal(t, d.App.Role, current(db, as(acme)))
		}
		signUp := func(used string) {
			require.NoError(t, db.WithContext(withoutTenant()).Transaction(func(tx *gorm.DB) error {
				if used != "" {
					require.NoError(t, tx.Exec(used).Error)
				}
				require.Len(t, names(tx, withoutTenant()), 2)
				if used != "" {
					require.NoError(t, tx.Exec(used).Error)
				}
				require.Equal(t, []string{"acme's doctor"}, names(tx, as(acme)))
				require.Equal(t, d.App.Role, current(tx, as(acme)))
				require.NoError(t, tx.WithContext(as(acme)).Create(&Doctor{Name: "new"}).Error)
				return tx.WithContext(as(acme)).Where("name = ?", "new").Delete(&Doctor{}).Error
			}))
		}
		signUp("")
		signUp("SET LOCAL work_mem = '5MB'")
		signUp("SET LOCAL ROLE " + role)
		require.NoError(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			require.ErrorIs(t, tx.WithContext(withoutTenant()).Exec("SELECT 1").Error, tenancy.ErrTenantMismatch)
			return nil
		}))
		require.NoError(t, db.WithContext(withoutTenant()).Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.SavePoint("a").Error)
			require.Equal(t, []string{"acme's doctor"}, names(tx, as(acme)))
			require.NoError(t, tx.RollbackTo("a").Error)
			require.Equal(t, []string{"acme's doctor"}, names(tx, as(acme)), "the transaction goes on as its tenant's")
			return nil
		}))
	})
}

func TestLookupRoleIsChecked(t *testing.T) {
	d := newDatabase(t)
	role := d.lookup(t)
	use := func() error {
		_, err := testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{LookupRole: role, AdminRole: d.Admin.Role})
		return err
	}
	require.NoError(t, use())
	for _, test := range []struct {
		spoil, restore string
		is             error
		says           string
	}{
		{"ALTER ROLE " + role + " SUPERUSER", "ALTER ROLE " + role + " NOSUPERUSER", tenancy.ErrUnsafeRole, "is a superuser"},
		{"ALTER ROLE " + role + " BYPASSRLS", "ALTER ROLE " + role + " NOBYPASSRLS", tenancy.ErrUnsafeRole, "has BYPASSRLS"},
		{"GRANT " + d.Admin.Role + " TO " + role, "REVOKE " + d.Admin.Role + " FROM " + role, tenancy.ErrUnsafeRole, "inherits from"},
		{"REVOKE " + role + " FROM " + d.App.Role, "GRANT " + role + " TO " + d.App.Role, tenancy.ErrSetRole, "cannot take the role"},
	} {
		d.AsSuperuser(t, test.spoil)
		err := use()
		require.ErrorIs(t, err, test.is, test.spoil)
		require.ErrorContains(t, err, test.says)
		d.AsSuperuser(t, test.restore)
		require.NoError(t, use(), test.restore)
	}
	_, err := testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{LookupRole: "missing_lookup"})
	require.ErrorIs(t, err, tenancy.ErrSetRole)
	require.ErrorContains(t, err, `CREATE ROLE "missing_lookup" NOLOGIN`)
	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{LookupRole: d.Admin.Role, AdminRole: d.Admin.Role})
	require.ErrorContains(t, err, "LookupRole")

	d.AsSuperuser(t, "CREATE ROLE looking LOGIN INHERIT PASSWORD 'looking' IN ROLE "+role)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE looking") })
	_, err = testdb.OpenGuarded(t, d.login("looking"), tenancy.Config{LookupRole: role})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "every tenant would read what it may look up")
}

// TestLookupRoleEndsWithAbortedLookups: one is cancelled, one panics, one fails, each on the only connection.
func TestLookupRoleEndsWithAbortedLookups(t *testing.T) {
	d := newDatabase(t)
	role := d.lookup(t)
	d.eachMode(t, tenancy.Config{LookupRole: role}, func(t *testing.T, db *gorm.DB) {
		pool, err := db.DB()
		require.NoError(t, err)
		pool.SetMaxOpenConns(1)
		none := db.WithContext(withoutTenant())
		for what, abort := range map[string]func(){
			"cancelled": func() {
				ctx, cancel := context.WithTimeout(withoutTenant(), 50*time.Millisecond)
				defer cancel()
				require.Error(t, db.WithContext(ctx).Exec("SELECT pg_sleep(10)").Error)
			},
			"panic": func() {
				require.Panics(t, func() {
					_ = none.Transaction(func(tx *gorm.DB) error {
						require.NoError(t, tx.Exec("SELECT 1").Error)
						panic("in a lookup")
					})
				})
			},
			"failed": func() { require.Error(t, none.Find(&[]Patient{}).Error) },
		} {
			abort()
			var current string
			require.NoError(t, db.WithContext(as(acme)).Raw("SELECT current_user").Scan(&current).Error, what)
			require.Equal(t, d.App.Role, current, what)
			var names []string
			require.NoError(t, db.WithContext(as(globex)).Model(&Doctor{}).Pluck("name", &names).Error, what)
			require.Equal(t, []string{"globex's doctor"}, names, what)
		}
	})
}
