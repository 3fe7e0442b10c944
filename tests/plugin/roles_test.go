package plugin_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

func TestUnsafeRoles(t *testing.T) {
	d := newDatabase(t)
	app, admin := d.App.Role, d.Admin.Role
	_, err := d.use(t, d.superDSN(t), tenancy.Config{})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "a superuser")
	_, err = d.use(t, d.superDSN(t), tenancy.Config{AppRole: app})
	require.NoError(t, err, "statements run under AppRole")

	_, err = d.use(t, d.App.DSN, tenancy.Config{AdminRole: "nobody_is_called_this"})
	require.ErrorIs(t, err, tenancy.ErrNoAdmin)
	require.ErrorContains(t, err, `CREATE ROLE "nobody_is_called_this"`)
	_, err = d.use(t, d.App.DSN, tenancy.Config{AdminRole: d.Owner.Role})
	require.ErrorIs(t, err, tenancy.ErrNoAdmin)
	require.ErrorContains(t, err, "GRANT")
	_, err = d.use(t, d.App.DSN, tenancy.Config{AppRole: d.Owner.Role})
	require.ErrorContains(t, err, "GRANT")
	_, err = d.use(t, d.App.DSN, tenancy.Config{AdminRole: admin})
	require.NoError(t, err)
	_, err = d.use(t, d.Admin.DSN, tenancy.Config{})
	require.NoError(t, err, "the admin is no superuser: policies apply to it, and show it everything")
}

// Roles belong to the whole server: what other tests use is put back.
func TestInheritedAdmin(t *testing.T) {
	d := newDatabase(t)
	d.super(t, "CREATE ROLE inherited_admin", "CREATE ROLE inheritor LOGIN INHERIT PASSWORD 'inheritor' IN ROLE inherited_admin",
		"CREATE ROLE exempt LOGIN BYPASSRLS PASSWORD 'exempt'")
	t.Cleanup(func() { d.super(t, "DROP ROLE inheritor", "DROP ROLE inherited_admin", "DROP ROLE exempt") })
	_, err := d.use(t, d.login(t, "inheritor"), tenancy.Config{AdminRole: "inherited_admin"})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "inherits")
	_, err = d.use(t, d.login(t, "exempt"), tenancy.Config{})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "NOBYPASSRLS")

	// What Initialize refuses is not usable, even by those who don't look at the error.
	db, err := d.use(t, d.login(t, "exempt"), tenancy.Config{})
	require.Error(t, err)
	require.ErrorIs(t, db.Find(&[]Patient{}).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error, tenancy.ErrUnsafeRole)
}
