package plugin_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestRolesThatAreUnsafe(t *testing.T) {
	d := newDatabase(t)
	admin := d.Admin.Role
	_, err := testdb.OpenGuarded(t, d.SuperuserDSN(t), tenancy.Config{})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "a superuser")
	require.NotContains(t, err.Error(), "AppRole", "no way out: raw SQL can leave it")

	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{AdminRole: "nobody_is_called_this"})
	require.ErrorIs(t, err, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, err, `CREATE ROLE "nobody_is_called_this"`)
	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{AdminRole: d.Owner.Role})
	require.ErrorIs(t, err, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, err, "GRANT")
	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{AppRole: d.Owner.Role})
	require.ErrorContains(t, err, "GRANT")
	_, err = testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{AdminRole: admin})
	require.NoError(t, err)
	_, err = testdb.OpenGuarded(t, d.Admin.DSN, tenancy.Config{})
	require.NoError(t, err, "the admin is no superuser: policies apply to it, and show it everything")
}

// A login that no policy applies to is refused, though its statements run under a role that they do apply to.
func TestLoginThatIsUnsafeIsRefused(t *testing.T) {
	d := newDatabase(t)
	super, bypassing, plain := d.newLogin(t, "SUPERUSER"), d.newLogin(t, "BYPASSRLS"), d.newLogin(t, "")
	for _, c := range []struct{ login, because, remedy string }{
		{super, "is a superuser", "NOSUPERUSER"},
		{bypassing, "has BYPASSRLS", "NOBYPASSRLS"},
		{plain, "", ""},
	} {
		for _, loose := range []bool{false, true} {
			cfg := tenancy.Config{AppRole: d.App.Role, DangerouslyAllowUnsafeRole: loose}
			db, err := testdb.OpenGuarded(t, d.login(c.login), cfg)
			if loose || c.because == "" {
				require.NoError(t, err)
				var patients []Patient
				require.NoError(t, db.WithContext(as(acme)).Find(&patients).Error)
				require.Len(t, patients, 1)
				continue
			}
			require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
			require.ErrorContains(t, err, "raw SQL can leave the role")
			require.ErrorContains(t, err, c.because)
			require.ErrorContains(t, err, fmt.Sprintf("ALTER ROLE %q %s", c.login, c.remedy))
			require.ErrorIs(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error, tenancy.ErrUnsafeRole)
		}
	}
}

func TestCitusIsRefused(t *testing.T) {
	d := newDatabase(t)
	// Only its name is looked at.
	d.AsSuperuser(t, "SET allow_system_table_mods = on; UPDATE pg_extension SET extname = 'citus' WHERE extname = 'plpgsql'")
	for _, cfg := range []tenancy.Config{{}, {AppRole: d.App.Role}, {AdminRole: d.Admin.Role}} {
		db, err := testdb.OpenGuarded(t, d.App.DSN, cfg)
		require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
		require.ErrorContains(t, err, "does not reach the workers")
		require.ErrorIs(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error, tenancy.ErrUnsafeDatabase)
	}
}

// Roles belong to the whole server: what other tests use is put back.
func TestAdminRoleInheritedIsRefused(t *testing.T) {
	d := newDatabase(t)
	d.AsSuperuser(t, "CREATE ROLE inherited_admin", "CREATE ROLE inheritor LOGIN INHERIT PASSWORD 'inheritor' IN ROLE inherited_admin",
		"CREATE ROLE exempt LOGIN BYPASSRLS PASSWORD 'exempt'")
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE inheritor", "DROP ROLE inherited_admin", "DROP ROLE exempt") })
	_, err := testdb.OpenGuarded(t, d.login("inheritor"), tenancy.Config{AdminRole: "inherited_admin"})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "inherits")
	_, err = testdb.OpenGuarded(t, d.login("exempt"), tenancy.Config{})
	require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
	require.ErrorContains(t, err, "NOBYPASSRLS")

	// What Initialize refuses is not usable, even by those who don't look at the error.
	db, err := testdb.OpenGuarded(t, d.login("exempt"), tenancy.Config{})
	require.Error(t, err)
	require.ErrorIs(t, db.Find(&[]Patient{}).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error, tenancy.ErrUnsafeRole)
}

// TestRolesAreAskedThroughSearchPath: a schema before pg_catalog, with operators and types of its own, changes no answer.
func TestRolesAreAskedThroughSearchPath(t *testing.T) {
	d := newDatabase(t)
	login, fill := d.lasting(t)
	d.AsSuperuser(t, `CREATE SCHEMA shadows; GRANT USAGE ON SCHEMA shadows TO PUBLIC; CREATE DOMAIN shadows.text AS pg_catalog.varchar(1);
		CREATE DOMAIN shadows.bool AS pg_catalog.int4; CREATE FUNCTION shadows.current_setting(pg_catalog.text) RETURNS pg_catalog.text LANGUAGE sql AS $$ SELECT '140000' $$`)
	for _, operands := range []string{"text", "name", "oid", "int4", "char"} {
		for _, operator := range []string{"=", "<>", ">="} {
			answer := strings.NewReplacer("@type", `pg_catalog."`+operands+`"`, "@name", `"`+operands+operator+`"`, "@operator", operator)
			d.AsSuperuser(t, answer.Replace(`CREATE FUNCTION shadows.@name(@type, @type) RETURNS pg_catalog.bool LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
				CREATE OPERATOR shadows.@operator (leftarg = @type, rightarg = @type, function = shadows.@name)`))
		}
	}
	refuses := func(name string, cfg tenancy.Config, reason error, problem, set, undo string) {
		t.Run(name, func(t *testing.T) {
			d.AsSuperuser(t, fill(set))
			defer d.AsSuperuser(t, fill(undo))
			for _, path := range []string{"public", "shadows,pg_catalog,public"} {
				_, err := testdb.OpenGuarded(t, testdb.WithParam(d.login(login), "search_path", path), cfg)
				require.ErrorIs(t, err, reason, path)
				require.ErrorContains(t, err, problem, path)
			}
		})
	}
	of := tenancy.Config{AppRole: d.App.Role}
	refuses("login", of, tenancy.ErrUnsafeRole, "BYPASSRLS", "ALTER ROLE {login} BYPASSRLS", "ALTER ROLE {login} NOBYPASSRLS")
	refuses("tenant", of, tenancy.ErrUnsafeSettings, "with a tenant in", "ALTER ROLE {login} SET app.tenant_id = 'globex'", "ALTER ROLE {login} RESET app.tenant_id")
	refuses("database", of, tenancy.ErrUnsafeSettings, "no foreign key", "ALTER DATABASE {database} SET session_replication_role = replica",
		"ALTER DATABASE {database} RESET session_replication_role")
	refuses("citus", of, tenancy.ErrUnsafeDatabase, "the extension citus", "UPDATE pg_extension SET extname = 'citus' WHERE extname = 'plpgsql'",
		"UPDATE pg_extension SET extname = 'plpgsql' WHERE extname = 'citus'")
	of.ReadOnlyRole = d.Owner.Role
	refuses("read-only", of, tenancy.ErrNoAdminRole, "cannot take the role", "", "")
	of = tenancy.Config{AppRole: d.App.Role, LookupRole: "looks_up", AdminRole: "exempt_here"}
	refuses("lookup", of, tenancy.ErrUnsafeRole, "inherits", "CREATE ROLE exempt_here; CREATE ROLE looks_up INHERIT IN ROLE exempt_here; GRANT exempt_here, looks_up TO {login}",
		"DROP ROLE exempt_here, looks_up")
}
