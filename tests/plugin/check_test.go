package plugin_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// recorded is a record of the log.
type recorded struct{ Level, Msg, Code, Severity, Object, Problem, Column, Error string }

// checked initializes the plugin with a check, and returns what it logged. The server that the tests happen to run on is
// left out of account. The login is a member of the admin role, which is named to the plugin.
func (d database) checked(t *testing.T, dsn string, cfg tenancy.Config, opts ...check.Option) ([]recorded, error) {
	t.Helper()
	var log bytes.Buffer
	cfg.AdminRole = d.Admin.Role
	cfg.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	if cfg.Check != tenancy.CheckOff {
		cfg.CheckOptions = append([]check.Option{check.ServerVersion(190000), check.Models(&Membership{})}, opts...)
	}
	_, err := testdb.OpenGuarded(t, dsn, cfg)
	var records []recorded
	for decoder := json.NewDecoder(&log); decoder.More(); {
		var r recorded
		require.NoError(t, decoder.Decode(&r))
		require.Equal(t, "WARN", r.Level)
		records = append(records, r)
	}
	return records, err
}

func TestCheckAtStartUp(t *testing.T) {
	d := newDatabase(t)
	modes := []tenancy.CheckMode{tenancy.CheckOff, tenancy.CheckWarn, tenancy.CheckRefuse}
	for _, mode := range modes {
		for _, cfg := range []tenancy.Config{
			{Check: mode},
			{Check: mode, DangerouslyAllowUnsafeRole: true},
		} {
			log, err := d.checked(t, d.App.DSN, cfg)
			require.NoError(t, err)
			require.Empty(t, log)
		}
		log, err := d.checked(t, d.login(d.newLogin(t, "")), tenancy.Config{Check: mode, AppRole: d.App.Role})
		require.NoError(t, err, "statements run under AppRole")
		require.Empty(t, log)
	}

	d.AsOwner(t, "ALTER TABLE patients DISABLE ROW LEVEL SECURITY", "ALTER TABLE doctors ALTER COLUMN tenant_id DROP NOT NULL")
	log, err := d.checked(t, d.App.DSN, tenancy.Config{})
	require.NoError(t, err, "nothing is checked, unless it is asked for")
	require.Empty(t, log)
	log, err = d.checked(t, d.App.DSN, tenancy.Config{Check: tenancy.CheckWarn})
	require.NoError(t, err)
	require.Len(t, log, 2)
	require.Equal(t, "table-not-enabled critical public.patients", log[0].Code+" "+log[0].Severity+" "+log[0].Object)
	require.NotEmpty(t, log[0].Problem)
	require.Equal(t, "tenant-column-nullable medium public.doctors", log[1].Code+" "+log[1].Severity+" "+log[1].Object)

	refuse := tenancy.Config{Check: tenancy.CheckRefuse}
	_, err = d.checked(t, d.App.DSN, refuse)
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
	require.ErrorContains(t, err, "table-not-enabled (public.patients), tenant-column-nullable (public.doctors)")
	_, err = d.checked(t, d.App.DSN, refuse, check.Allow(check.TableNotEnabled, "public.patients", "for this test"),
		check.Allow(check.TenantColumnNullable, "public.doctors", "for this test"))
	require.NoError(t, err)
}

func TestCheckThatIsImpossible(t *testing.T) {
	d := newDatabase(t)
	log, err := d.checked(t, d.App.DSN, tenancy.Config{Check: tenancy.CheckWarn}, check.Schemas("nowhere"))
	require.NoError(t, err)
	require.Len(t, log, 1)
	require.Contains(t, log[0].Error, `schema "nowhere" does not exist`)
	_, err = d.checked(t, d.App.DSN, tenancy.Config{Check: tenancy.CheckRefuse}, check.Schemas("nowhere"))
	require.ErrorContains(t, err, `schema "nowhere" does not exist`)
	require.NotErrorIs(t, err, tenancy.ErrUnsafeDatabase)

	log, err = d.checked(t, d.App.DSN, tenancy.Config{Check: tenancy.CheckRefuse, Column: "org_id"})
	require.NoError(t, err, "the application may be about to make its tables")
	require.Len(t, log, 1)
	require.Equal(t, "org_id", log[0].Column)
}

// A role that sees all tenants' rows is no hole where the configuration names it. Otherwise SQL could take it.
func TestCheckAtStartUpFindsRolesThatTheLoginCanBecome(t *testing.T) {
	d := newDatabase(t)
	_, err := testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{
		Check:        tenancy.CheckRefuse,
		CheckOptions: []check.Option{check.ServerVersion(190000), check.Models(&Membership{})},
	})
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
	require.ErrorContains(t, err, "policy-always-true (policy tenant_admin on public.patients)")
}

// AdminDB keeps the admin's role away from the application's login. Where it does, the admin's policies are no hole; where it does not, the
// membership is the hole, and not the policies, which clients of Bypass need.
func TestCheckAtStartUpKnowsTheRoleOfAdminDB(t *testing.T) {
	d := newDatabase(t)
	jobs := d.newLogin(t, "")
	d.AsSuperuser(t, "GRANT "+d.Admin.Role+" TO "+jobs, "ALTER ROLE "+jobs+" INHERIT")
	for name, dsn := range map[string]string{"the admin's role": d.Admin.DSN, "a login that inherits from it": d.login(jobs)} {
		t.Run(name, func(t *testing.T) {
			initialize := func() error {
				_, err := testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{
					AdminDB:      testdb.OpenSQL(t, dsn),
					Check:        tenancy.CheckRefuse,
					CheckOptions: []check.Option{check.ServerVersion(190000), check.Models(&Membership{})},
				})
				return err
			}
			require.EqualError(t, initialize(), "tenancy: unsafe database: tenancy: 1 finding: role-becomes-admin (role "+d.Admin.Role+")")

			d.AsSuperuser(t, "REVOKE "+d.Admin.Role+" FROM "+d.App.Role)
			require.NoError(t, initialize())

			d.AsOwner(t, "CREATE POLICY everyone ON patients USING (true)")
			require.ErrorContains(t, initialize(), "policy-always-true (policy everyone on public.patients)")
			d.AsOwner(t, "DROP POLICY everyone ON patients")
			d.AsOwner(t, "CREATE POLICY app ON patients TO "+d.App.Role+" USING (true)")
			require.ErrorContains(t, initialize(), "policy-always-true (policy app on public.patients)")
			d.AsOwner(t, "DROP POLICY app ON patients")
			d.AsSuperuser(t, "GRANT "+d.Admin.Role+" TO "+d.App.Role)
		})
	}

	closed := testdb.OpenSQL(t, d.Admin.DSN)
	require.NoError(t, closed.Close())
	_, err := testdb.OpenGuarded(t, d.App.DSN, tenancy.Config{AdminDB: closed, Check: tenancy.CheckRefuse})
	require.ErrorContains(t, err, "tenancy: check the database: ask AdminDB about its roles")
}

// Who may not read the whole catalog is told what was left out.
func TestCheckOfACatalogThatIsPartlyHidden(t *testing.T) {
	d := newDatabase(t)
	d.AsSuperuser(t, "REVOKE SELECT ON pg_publication FROM PUBLIC")
	log, err := d.checked(t, d.App.DSN, tenancy.Config{Check: tenancy.CheckRefuse})
	require.NoError(t, err)
	require.Len(t, log, 1)
	require.Contains(t, log[0].Problem, "publications")
}

// The check reads the database through GORM's prepared statements too.
func TestCheckWithPreparedStatements(t *testing.T) {
	d := newDatabase(t)
	cfg := tenancy.Config{
		AdminRole:    d.Admin.Role,
		Check:        tenancy.CheckRefuse,
		CheckOptions: []check.Option{check.ServerVersion(190000), check.Models(&Membership{})},
	}
	_, err := testdb.OpenGuarded(t, d.App.DSN, cfg, testdb.PrepareStmt)
	require.NoError(t, err)
	d.AsOwner(t, "ALTER TABLE patients DISABLE ROW LEVEL SECURITY")
	_, err = testdb.OpenGuarded(t, d.App.DSN, cfg, testdb.PrepareStmt)
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
}
