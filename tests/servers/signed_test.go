package servers

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// newSignedFixture has databases whose policies demand the proof of a key, which is the same one.
func newSignedFixture(t *testing.T, change func(f *fixture, cfg *tenancy.Config)) (f *fixture) {
	t.Helper()
	return newFixtureOf(t, testdb.NewSigned, change)
}

// TestSignedServersAreVerified: each by a statement whose tenant is none of the application's, so that it is not asked where that lives, nor for its
// settings.
func TestSignedServersAreVerified(t *testing.T) {
	unknown := errors.New("no such tenant")
	asked := func(tenant string) bool { return tenant == acme || tenant == globex }
	f := newSignedFixture(t, func(f *fixture, cfg *tenancy.Config) {
		cfg.Place = func(ctx context.Context, tenant string) (*sql.DB, error) {
			if !asked(tenant) {
				return nil, unknown
			}
			return f.place(ctx, tenant)
		}
		cfg.Settings = func(_ context.Context, tenant string) map[string]string {
			if !asked(tenant) {
				panic(unknown)
			}
			return map[string]string{"work_mem": "17MB"}
		}
	})
	for n, tenant := range []string{acme, globex} {
		require.NoError(t, f.db.WithContext(as(tenant)).Create(&Note{Text: "signed"}).Error)
		require.Equal(t, f.databases[n+1].Name, where(t, f.db.WithContext(as(tenant))))
	}
	require.Equal(t, [3][]string{{}, {"signed"}, {}}, f.notes(t, acme))
}

// TestSignedServerThatLacksSomethingFailsItsTenants, and no others: another key, none, a login with more rights than it needs, policies that go by
// the setting alone.
func TestSignedServerThatLacksSomethingFailsItsTenants(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, f *fixture, d *testdb.Database)
		err    error
		says   string
	}{
		"another key": {func(t *testing.T, _ *fixture, d *testdb.Database) {
			d.RetireKey(t, "first")
			d.AddKey(t, "first", 'x')
		}, tenancy.ErrUnsafeDatabase, "on another server: tenancy: unsafe database: PostgreSQL refuses the signature"},
		"no key": {func(t *testing.T, _ *fixture, d *testdb.Database) {
			d.RetireKey(t, "first")
		}, tenancy.ErrUnsafeDatabase, "refuses the signature"},
		"rights": {func(t *testing.T, _ *fixture, d *testdb.Database) {
			d.AsSuperuser(t, `GRANT TEMPORARY ON DATABASE `+d.Name+` TO PUBLIC`)
		}, tenancy.ErrUnsafeRole, "no more rights than its statements need"},
		"unsigned": {func(t *testing.T, f *fixture, d *testdb.Database) {
			isolation := d.Isolation()
			isolation.Signed = false
			d.Migrate(t, isolation, &Note{}, &Remark{}, &Country{})
		}, tenancy.ErrNotIsolated, "not known to demand a signature"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newSignedFixture(t, nil)
			tt.change(t, f, f.databases[1])
			for range 2 {
				err := f.db.WithContext(as(acme)).Find(&[]Note{}).Error
				require.ErrorIs(t, err, tt.err)
				require.ErrorContains(t, err, tt.says)
				require.NotContains(t, err.Error(), acme)
			}
			require.NoError(t, f.db.WithContext(as(globex)).Create(&Note{Text: "there"}).Error)
		})
	}
	t.Run("schema", func(t *testing.T) {
		f := newSignedFixture(t, nil)
		d := testdb.Of(t, pgserver.New(t), &Note{})
		f.pools[1] = testdb.OpenSQL(t, d.App.DSN)
		require.ErrorIs(t, f.db.WithContext(as(acme)).Find(&[]Note{}).Error, tenancy.ErrUnsafeDatabase)
		require.NoError(t, f.db.WithContext(as(globex)).Find(&[]Note{}).Error)
	})
}

// TestSignedInjectionStaysOnItsServer, and with its tenant there.
func TestSignedInjectionStaysOnItsServer(t *testing.T) {
	f := newSignedFixture(t, nil)
	f.places.Store(globex, 1) // both on one server
	for _, tenant := range []string{acme, globex} {
		require.NoError(t, f.db.WithContext(as(tenant)).Create(&Note{Text: tenant}).Error)
	}
	var texts []string
	require.NoError(t, f.db.WithContext(as(acme)).Raw(
		`WITH s AS MATERIALIZED (SELECT set_config('app.tenant_id', 'globex', true)) SELECT text FROM s, notes`).Scan(&texts).Error)
	require.Empty(t, texts)
}

// TestSignedBypassNeedsAdminDBs: a role that sees all tenants would be one that SQL can take.
func TestSignedBypassNeedsAdminDBs(t *testing.T) {
	f := newSignedFixture(t, nil)
	admin := tenancy.Bypass(f.db, "look").WithContext(tenancy.OnServer(t.Context(), f.pools[1]))
	require.ErrorIs(t, admin.Find(&[]Note{}).Error, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, admin.Find(&[]Note{}).Error, "set the AdminDB of each server in Config.Servers")

	cfg := f.databases[0].Config()
	cfg.Place = f.place
	_, err := testdb.OpenGuarded(t, f.databases[0].App.DSN, cfg)
	require.ErrorContains(t, err, "Place and AdminDB")
	require.NotContains(t, err.Error(), "use AdminRole", "which keys exclude")
}
