package servers

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// listed names all servers, each with an admin client of its own, and no admin role.
func listed(f *fixture, cfg *tenancy.Config) {
	cfg.AdminRole = ""
	for n, name := range []string{"first", "second", "third"} {
		admin, err := f.databases[n].AdminDB.DB()
		if err != nil {
			panic(err)
		}
		cfg.Servers = append(cfg.Servers, tenancy.Server{Name: name, DB: f.pools[n], AdminDB: admin})
	}
}

// TestAdminDBOfEachServer: clients of Bypass reach each server by its own login, and the application's login has no admin role to take.
func TestAdminDBOfEachServer(t *testing.T) { testdb.InBothForms(t, testAdminDBOfEachServer) }

func testAdminDBOfEachServer(t *testing.T) {
	f := newFixture(t, listed)
	for _, tenant := range []string{acme, globex, "initech"} {
		require.NoError(t, f.db.WithContext(as(tenant)).Create(&Note{Text: tenant}).Error)
	}
	t.Run("ForEachServer", func(t *testing.T) { forEachServer(t, f) })
	admin := tenancy.Bypass(f.db, "look at a server")
	require.ErrorContains(t, admin.Find(&[]Note{}).Error, "name one with OnServer")
	require.ErrorContains(t, admin.Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Note{}).Error }), "name one with OnServer")

	for n, tenant := range []string{"initech", acme, globex} {
		for name, client := range map[string]*gorm.DB{
			"server":    admin.WithContext(tenancy.OnServer(context.Background(), f.pools[n])),
			"tenant":    admin.WithContext(as(tenant)),
			"read only": tenancy.Bypass(f.db, "look", tenancy.BypassReadOnly()).WithContext(tenancy.OnServer(context.Background(), f.pools[n])),
		} {
			look := func(db *gorm.DB) error {
				require.Equal(t, f.databases[n].Name, where(t, db), name)
				var login string
				require.NoError(t, db.Raw(`SELECT session_user`).Scan(&login).Error)
				require.Equal(t, f.databases[n].Admin.Role, login, name)
				var notes []Note
				require.NoError(t, db.Find(&notes).Error)
				require.Len(t, notes, 1, name)
				require.Equal(t, tenant, notes[0].TenantID, name)
				return nil
			}
			require.NoError(t, look(client))
			require.NoError(t, client.Transaction(look))
		}
	}
	require.NoError(t, admin.WithContext(as(acme)).Create(&Note{Text: "by the admin"}).Error)
	require.Equal(t, [3][]string{{}, {acme, "by the admin"}, {}}, f.notes(t, acme))
	require.ErrorIs(t, admin.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Find(&[]Note{}).Error)
		return tx.WithContext(as(globex)).Create(&Note{Text: "elsewhere"}).Error
	}), tenancy.ErrTenantMismatch)

	require.Equal(t, f.databases[0].Name, where(t, f.db.WithContext(tenancy.WithoutTenant(context.Background()))))
	var login string
	require.NoError(t, f.db.WithContext(as(acme)).Raw(`SELECT session_user`).Scan(&login).Error)
	require.Equal(t, f.databases[1].App.Role, login, "tenants' statements never go through an AdminDB")
	for _, p := range f.pools {
		require.Zero(t, p.Stats().InUse)
	}
}

func TestServersAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	t.Run("AdminDB of another server", func(t *testing.T) { testAdminDBOfOtherServer(t, f) })
	t.Run("no AdminDB", func(t *testing.T) { testServerWithoutAdminDB(t, f) })
	t.Run("not all", func(t *testing.T) { testServersListAll(t, f) })
	t.Run("hole in one", func(t *testing.T) { testCheckLooksAtEachServer(t, f) })
}

// testAdminDBOfOtherServer has clients of Bypass that would write the rows of a tenant where that does not live.
func testAdminDBOfOtherServer(t *testing.T, f *fixture) {
	f = f.again(t, func(f *fixture, cfg *tenancy.Config) {
		listed(f, cfg)
		cfg.Servers[1].AdminDB, cfg.Servers[2].AdminDB = cfg.Servers[2].AdminDB, cfg.Servers[1].AdminDB
	})
	admin := tenancy.Bypass(f.db, "look")
	for _, tenant := range []string{acme, globex} {
		err := admin.WithContext(as(tenant)).Create(&Note{}).Error
		require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
		require.ErrorContains(t, err, "leads to another database")
		require.ErrorIs(t, f.db.WithContext(as(tenant)).Find(&[]Note{}).Error, tenancy.ErrUnsafeDatabase, "the server is not used at all")
	}

	cfg := tenancy.Config{Place: f.place, Servers: []tenancy.Server{{Name: "first", DB: f.pools[0], AdminDB: testdb.OpenSQL(t, f.databases[1].Admin.DSN)}}}
	_, err := testdb.OpenGuarded(t, f.databases[0].App.DSN, cfg, testdb.Pool(f.pools[0]))
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase, "at the start, on the first server")
}

// testServerWithoutAdminDB: its login is not taken for the admin's.
func testServerWithoutAdminDB(t *testing.T, f *fixture) {
	f = f.again(t, func(f *fixture, cfg *tenancy.Config) {
		listed(f, cfg)
		cfg.Servers[1].AdminDB = nil
	})
	admin := tenancy.Bypass(f.db, "look")
	require.ErrorIs(t, admin.WithContext(as(acme)).Find(&[]Note{}).Error, tenancy.ErrNoAdminRole)
	require.NoError(t, admin.WithContext(as(globex)).Find(&[]Note{}).Error)
	visited := []string{}
	err := tenancy.ForEachServer(context.Background(), admin, func(_ context.Context, name string, db *gorm.DB) error {
		visited = append(visited, name)
		return db.Find(&[]Note{}).Error
	})
	require.ErrorIs(t, err, tenancy.ErrNoAdminRole)
	require.ErrorContains(t, err, `on the server "second"`)
	require.Equal(t, []string{"first", "second", "third"}, visited, "the others are visited nevertheless")
}

func testServersListAll(t *testing.T, f *fixture) {
	f = f.again(t, listed)
	require.NoError(t, f.db.WithContext(as(acme)).Find(&[]Note{}).Error)
	listedPool := f.pools[1]
	f.pools[1] = testdb.OpenSQL(t, f.databases[1].App.DSN)
	for name, err := range map[string]error{
		"Place":    f.db.WithContext(as(acme)).Find(&[]Note{}).Error,
		"raw":      f.db.WithContext(as(acme)).Exec(`SELECT 1`).Error,
		"bypass":   tenancy.Bypass(f.db, "look").WithContext(as(acme)).Find(&[]Note{}).Error,
		"OnServer": tenancy.Bypass(f.db, "look").WithContext(tenancy.OnServer(context.Background(), f.pools[1])).Find(&[]Note{}).Error,
	} {
		require.ErrorContains(t, err, "Config.Servers does not have", name)
	}
	f.pools[1] = listedPool

	first, second := f.pools[0], f.pools[1]
	server := func(name string, db *sql.DB) tenancy.Server { return tenancy.Server{Name: name, DB: db} }
	for says, cfg := range map[string]tenancy.Config{
		"set Place as well":           {Servers: []tenancy.Server{server("first", first)}},
		"AdminDB is one server":       {Place: f.place, AdminDB: second},
		"AdminRole and AdminDB":       {Place: f.place, AdminRole: "x", Servers: []tenancy.Server{{Name: "first", DB: first, AdminDB: second}}},
		`the name "" must be set`:     {Place: f.place, Servers: []tenancy.Server{server("", first)}},
		`the name "first" must be`:    {Place: f.place, Servers: []tenancy.Server{server("first", first), server("first", second)}},
		"has no DB":                   {Place: f.place, Servers: []tenancy.Server{server("first", nil)}},
		`of "second" is nil, or is`:   {Place: f.place, Servers: []tenancy.Server{server("first", first), server("second", first)}},
		`of "first" is nil, or is`:    {Place: f.place, Servers: []tenancy.Server{{Name: "first", DB: first, Replicas: []*sql.DB{nil}}}},
		"the pool that GORM was open": {Place: f.place, Servers: []tenancy.Server{server("second", second)}},
	} {
		_, err := testdb.OpenGuarded(t, f.databases[0].App.DSN, cfg)
		require.ErrorContains(t, err, says)
	}
}

// forEachServer visits servers of which each has the note of one tenant.
func forEachServer(t *testing.T, f *fixture) {
	seen := map[string][]string{}
	require.NoError(t, tenancy.ForEachServer(context.Background(), tenancy.Bypass(f.db, "count"), func(_ context.Context, name string, db *gorm.DB) error {
		var found []string
		err := db.Model(&Note{}).Pluck("tenant_id", &found).Error
		seen[name] = found
		return err
	}))
	require.Equal(t, map[string][]string{"first": {"initech"}, "second": {acme}, "third": {globex}}, seen)

	var databases []string
	none := tenancy.WithoutTenant(context.Background())
	require.NoError(t, tenancy.ForEachServer(none, f.db, func(_ context.Context, _ string, db *gorm.DB) error {
		databases = append(databases, where(t, db))
		var n int64
		require.NoError(t, db.Model(&Note{}).Count(&n).Error)
		require.Zero(t, n, "no row of a tenant without Bypass")
		return nil
	}))
	require.Equal(t, []string{f.databases[0].Name, f.databases[1].Name, f.databases[2].Name}, databases)

	never := func(context.Context, string, *gorm.DB) error { return errors.New("called") }
	require.ErrorIs(t, tenancy.ForEachServer(as(acme), f.db, never), tenancy.ErrTenantMismatch)
	require.ErrorIs(t, f.db.WithContext(none).Transaction(func(tx *gorm.DB) error { return tenancy.ForEachServer(none, tx, never) }), tenancy.ErrInTransaction)
	require.ErrorIs(t, tenancy.ForEachServer(none, f.databases[0].OwnerDB, never), tenancy.ErrNotInstalled)
	ended, end := context.WithCancel(none)
	end()
	require.Equal(t, context.Canceled.Error(), tenancy.ForEachServer(ended, f.db, never).Error())

	unlisted := f.again(t, func(f *fixture, cfg *tenancy.Config) {
		listed(f, cfg)
		cfg.Servers = nil
	})
	require.ErrorContains(t, tenancy.ForEachServer(none, unlisted.db, never), "needs Config.Servers")
	one := f.databases[0].Open(t, f.databases[0].Config())
	require.NoError(t, tenancy.ForEachServer(context.Background(), tenancy.Bypass(one, "count"), func(_ context.Context, name string, db *gorm.DB) error {
		require.Empty(t, name)
		return db.Find(&[]Note{}).Error
	}), "where there is one server")
}

// testCheckLooksAtEachServer: a hole on the third one is found at the start.
func testCheckLooksAtEachServer(t *testing.T, f *fixture) {
	f = f.again(t, nil)
	f.databases[2].AsOwner(t, `ALTER TABLE notes DISABLE ROW LEVEL SECURITY`)
	open := func(mode tenancy.CheckMode, log *slog.Logger) error {
		cfg := f.databases[0].Config()
		cfg.Place, cfg.Check, cfg.Logger = f.place, mode, log
		for n, name := range []string{"first", "second", "third"} {
			cfg.Servers = append(cfg.Servers, tenancy.Server{Name: name, DB: f.pools[n]})
		}
		_, err := testdb.OpenGuarded(t, f.databases[0].App.DSN, cfg, testdb.Pool(f.pools[0]))
		return err
	}
	err := open(tenancy.CheckRefuse, nil)
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
	require.ErrorContains(t, err, `on the server "third"`)
	require.NotContains(t, err.Error(), `on the server "second"`)
	var log bytes.Buffer
	require.NoError(t, open(tenancy.CheckWarn, slog.New(slog.NewTextHandler(&log, nil))))
	require.Contains(t, log.String(), "server=third")
	require.NotContains(t, log.String(), "server=second")

	f.databases[2].AsOwner(t, `ALTER TABLE notes ENABLE ROW LEVEL SECURITY`)
	require.NoError(t, open(tenancy.CheckRefuse, nil))
}
