package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestPlaceDecidesForEachStatement(t *testing.T) {
	testdb.InBothForms(t, testPlaceDecidesForEachStatement)
}

func testPlaceDecidesForEachStatement(t *testing.T) {
	f := newFixture(t, nil)
	for _, tenant := range []string{acme, globex, "initech"} {
		db := f.db.WithContext(as(tenant))
		require.NoError(t, db.Create(&Note{Text: "lone"}).Error)
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error { return tx.Create(&Note{Text: "in a transaction"}).Error }))
		require.NoError(t, db.Session(&gorm.Session{PrepareStmt: true}).Create(&Note{Text: "prepared"}).Error)
		pool, err := db.DB()
		require.NoError(t, err)
		_, err = pool.ExecContext(as(tenant), `INSERT INTO notes (text) VALUES ('below GORM')`)
		require.NoError(t, err)
		require.NoError(t, f.db.Transaction(func(tx *gorm.DB) error { // which learns its tenant from its statement
			return tx.WithContext(as(tenant)).Create(&Note{Text: "late"}).Error
		}))
	}
	all := []string{"lone", "in a transaction", "prepared", "below GORM", "late"}
	require.Equal(t, [3][]string{{}, all, {}}, f.notes(t, acme))
	require.Equal(t, [3][]string{{}, {}, all}, f.notes(t, globex))
	require.Equal(t, [3][]string{all, {}, {}}, f.notes(t, "initech"))

	none := f.db.WithContext(tenancy.WithoutTenant(context.Background()))
	require.Equal(t, f.databases[0].Name, where(t, none))
	require.NoError(t, tenancy.ForEachTenant(context.Background(), f.db, []string{acme, globex, "initech"},
		func(_ context.Context, tx *gorm.DB) error {
			var n int64
			require.NoError(t, tx.Model(&Note{}).Count(&n).Error)
			require.EqualValues(t, len(all), n)
			return nil
		}, tenancy.Concurrency(3)))
}

// TestTransactionStaysOnItsServer: it cannot reach a second server, and writes nothing more when its tenant is moved: it may have read only until then,
// so that the move did not wait for it.
func TestTransactionStaysOnItsServer(t *testing.T) {
	testdb.InBothForms(t, testTransactionStaysOnItsServer)
}

func testTransactionStaysOnItsServer(t *testing.T) {
	f := newFixture(t, nil)
	require.NoError(t, f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Find(&[]Note{}).Error)
		f.places.Store(acme, 2)
		for _, write := range []func() error{
			func() error { return tx.Create(&Note{Text: "after"}).Error },
			func() error { return tx.Exec(`INSERT INTO notes (text) VALUES ('after')`).Error },
		} {
			require.ErrorContains(t, write(), "was moved to another server")
		}
		f.places.Store(acme, 1)
		return tx.Create(&Note{Text: "before"}).Error
	}))
	require.Equal(t, [3][]string{{}, {"before"}, {}}, f.notes(t, acme))

	err := f.db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.WithContext(tenancy.WithoutTenant(context.Background())).Find(&[]Country{}).Error)
		return tx.WithContext(as(acme)).Create(&Note{Text: "elsewhere"}).Error
	})
	require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
	require.ErrorContains(t, err, "another server")
	require.NoError(t, f.db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.WithContext(tenancy.WithoutTenant(context.Background())).Find(&[]Country{}).Error)
		return tx.WithContext(as("initech")).Create(&Note{Text: "signed up"}).Error
	}), "a tenant of the first server can be signed up in one transaction")
	require.Equal(t, [3][]string{{}, {"before"}, {}}, f.notes(t, acme))
}

// TestHeldConnectionFollowsTenant: a *sql.Conn that serves several tenants goes from server to server, and takes nothing along.
func TestHeldConnectionFollowsTenant(t *testing.T) {
	testdb.InBothForms(t, testHeldConnectionFollowsTenant)
}

func testHeldConnectionFollowsTenant(t *testing.T) {
	f := newFixture(t, nil)
	require.NoError(t, f.db.Connection(func(held *gorm.DB) error {
		for range 2 {
			for n, tenant := range []string{"initech", acme, globex} {
				db := held.WithContext(as(tenant))
				require.Equal(t, f.databases[n].Name, where(t, db))
				require.NoError(t, db.Exec(`SET my.secret = 'of `+tenant+`'`).Error)
				require.NoError(t, db.Create(&Note{Text: "held"}).Error)
			}
		}
		return nil
	}))
	for n := range f.pools {
		var secret sql.NullString
		require.NoError(t, f.pools[n].QueryRow(`SELECT current_setting('my.secret', true)`).Scan(&secret))
		require.Empty(t, secret.String)
		require.Zero(t, f.pools[n].Stats().InUse)
	}
}

// TestHeldConnectionCountsOnce, for the tenant that took it, though it serves another one of the same server as well.
func TestHeldConnectionCountsOnce(t *testing.T) {
	f := newFixture(t, func(_ *fixture, cfg *tenancy.Config) { cfg.Share = 2 })
	f.places.Store(globex, 1)
	busiest := f.db.Plugins["tenancy"].(*tenancy.Plugin).Busiest
	require.NoError(t, f.db.Connection(func(held *gorm.DB) error {
		for _, tenant := range []string{acme, globex} {
			require.NoError(t, held.WithContext(as(tenant)).Find(&[]Note{}).Error)
			require.Equal(t, []tenancy.TenantLoad{{Tenant: acme, InUse: 1}}, busiest(10))
		}
		return nil
	}))
	require.Empty(t, busiest(10))
}

func TestPlaceThatFailsRefuses(t *testing.T) { testdb.InBothForms(t, testPlaceThatFailsRefuses) }

func testPlaceThatFailsRefuses(t *testing.T) {
	moving := errors.New("moving")
	f := newFixture(t, nil)
	f.places.Store(acme, moving)
	pool, err := f.db.DB()
	require.NoError(t, err)
	for name, do := range map[string]func(db *gorm.DB) error{
		"find":   func(db *gorm.DB) error { return db.Find(&[]Note{}).Error },
		"create": func(db *gorm.DB) error { return db.Create(&Note{}).Error },
		"raw":    func(db *gorm.DB) error { return db.Exec(`SELECT 1`).Error },
		"transaction": func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Note{}).Error })
		},
		"pool": func(db *gorm.DB) error { _, err := pool.ExecContext(db.Statement.Context, `SELECT 1`); return err },
	} {
		err := do(f.db.WithContext(as(acme)))
		require.ErrorIs(t, err, moving, name)
		require.NotContains(t, err.Error(), acme, name)
	}
	for _, p := range f.pools {
		require.Zero(t, p.Stats().InUse)
	}
	require.NoError(t, f.db.WithContext(as(globex)).Find(&[]Note{}).Error)

	for name, place := range map[string]func(context.Context, string) (*sql.DB, error){
		"neither a server nor an error": func(context.Context, string) (*sql.DB, error) { return nil, nil },
		"panic in Config.Place":         func(context.Context, string) (*sql.DB, error) { panic("no") },
		"guarded pool": func(context.Context, string) (*sql.DB, error) {
			return f.databases[1].Open(t, tenancy.Config{}).Config.ConnPool.(*sql.DB), nil
		},
	} {
		cfg := f.databases[0].Config()
		cfg.AdminDB, cfg.Place = nil, place
		db := f.databases[0].Open(t, cfg).WithContext(as(acme))
		require.ErrorContains(t, db.Find(&[]Note{}).Error, name)
		require.ErrorContains(t, db.Exec(`SELECT 1`).Error, name)
	}
}

// TestPlaceLocksOut: neither a transaction that has begun nor a statement that has waited for a connection goes on.
func TestPlaceLocksOut(t *testing.T) {
	f := newFixture(t, nil)
	moving := errors.New("moving")
	db := f.db.WithContext(as(acme))
	require.ErrorIs(t, db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Create(&Note{Text: "lost"}).Error)
		f.places.Store(acme, moving)
		return tx.Create(&Note{Text: "refused"}).Error
	}), moving)

	f.places.Store(acme, 1)
	f.pools[1].SetMaxOpenConns(1)
	for _, to := range []any{moving, 2} {
		f.places.Store(acme, 1)
		held, err := f.pools[1].Conn(t.Context())
		require.NoError(t, err)
		waits := f.pools[1].Stats().WaitCount
		done := make(chan error, 1)
		go func() { done <- db.Create(&Note{Text: "late"}).Error }()
		require.Eventually(t, func() bool { return f.pools[1].Stats().WaitCount > waits }, 10*time.Second, time.Millisecond)
		f.places.Store(acme, to)
		require.NoError(t, held.Close())
		require.Error(t, <-done)
	}
	require.Equal(t, [3][]string{{}, {}, {}}, f.notes(t, acme))
	for _, p := range f.pools {
		require.Zero(t, p.Stats().InUse)
	}
}

// TestLateStatementIsRefused: what comes between the first question and the statement may take long, and the tenant is moved meanwhile.
func TestLateStatementIsRefused(t *testing.T) {
	var inSettings func()
	f := newFixture(t, func(_ *fixture, cfg *tenancy.Config) {
		cfg.Settings = func(context.Context, string) map[string]string {
			if inSettings != nil {
				inSettings()
			}
			return nil
		}
	})
	f.pools[1].SetMaxOpenConns(1)
	db := f.db.WithContext(as(acme))
	owner, err := f.databases[1].OwnerDB.DB()
	require.NoError(t, err)

	// whileLocked moves the tenant while the statement waits for the owner's lock.
	whileLocked := func(lock string, move func(), do func() error) error {
		tx, err := owner.Begin()
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		_, err = tx.Exec(lock)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- do() }()
		require.Eventually(t, func() (waits bool) {
			require.NoError(t, tx.QueryRow(`SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'notes'::regclass AND NOT granted)`).Scan(&waits))
			return waits
		}, 10*time.Second, time.Millisecond)
		move()
		require.NoError(t, tx.Commit())
		return <-done
	}
	again := func() error {
		return db.Session(&gorm.Session{PrepareStmt: true}).Raw(`INSERT INTO notes (text) VALUES ('again') RETURNING *`).Scan(&[]Note{}).Error
	}
	require.NoError(t, again())
	written := f.notes(t, acme)
	require.Equal(t, []string{"again"}, written[1])

	n := 0
	for name, late := range map[string]func(move func()) error{
		"code of the application": func(move func()) error {
			inSettings = move
			return db.Create(&Note{Text: "late"}).Error
		},
		"in a transaction": func(move func()) error {
			inSettings = move
			return db.Transaction(func(tx *gorm.DB) error { return tx.Create(&Note{Text: "late"}).Error })
		},
		"SQL text": func(move func()) error {
			inSettings = move
			return db.Exec(`INSERT INTO notes (text) VALUES ('late'); SELECT 1`).Error
		},
		"description": func(move func()) error {
			n++ // a statement that the connection does not know
			return whileLocked(`LOCK TABLE notes`, move, func() error {
				return db.Exec(fmt.Sprintf(`INSERT INTO notes (text) VALUES (?) -- %d`, n), "late").Error
			})
		},
		"second attempt": func(move func()) error {
			n++ // what is prepared has other columns
			return whileLocked(fmt.Sprintf(`ALTER TABLE notes ADD COLUMN added%d text`, n), move, again)
		},
	} {
		for _, to := range []any{errors.New("moving"), 2} {
			f.places.Store(acme, 1)
			inSettings = nil
			err := late(func() { f.places.Store(acme, to) })
			require.Error(t, err, name)
			if moving, ok := to.(error); ok {
				require.ErrorIs(t, err, moving, name)
			} else {
				require.ErrorContains(t, err, "was moved to another server", name)
			}
			require.Equal(t, written, f.notes(t, acme), name)
		}
		inSettings = nil
		f.places.Store(acme, 1)
		require.NoError(t, db.Find(&[]Note{}).Error, "the connection is in order: "+name)
	}
	require.Zero(t, f.pools[1].Stats().InUse)
}

// TestServersAreVerified: what the first server is asked at the start, and about its tables, each server is asked.
func TestServersAreVerified(t *testing.T) { testdb.InBothForms(t, testServersAreVerified) }

func testServersAreVerified(t *testing.T) {
	t.Run("role", func(t *testing.T) {
		f := newFixture(t, nil)
		f.databases[1].AsSuperuser(t, `CREATE ROLE servers_exempt LOGIN BYPASSRLS PASSWORD 'exempt' IN ROLE `+f.databases[1].App.Role)
		t.Cleanup(func() { f.databases[1].AsSuperuser(t, `DROP ROLE servers_exempt`) })
		f.pools[1] = testdb.OpenSQL(t, testdb.WithLogin(f.databases[1].App.DSN, "servers_exempt", "exempt"))
		for range 2 {
			require.ErrorIs(t, f.db.WithContext(as(acme)).Find(&[]Note{}).Error, tenancy.ErrUnsafeRole)
			require.ErrorIs(t, f.db.WithContext(as(acme)).Exec(`SELECT 1`).Error, tenancy.ErrUnsafeRole)
			pool, err := f.db.DB()
			require.NoError(t, err)
			_, err = pool.ExecContext(as(acme), `SELECT 1`)
			require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
		}
		require.NoError(t, f.db.WithContext(as(globex)).Find(&[]Note{}).Error)
	})
	t.Run("table", func(t *testing.T) {
		f := newFixture(t, nil)
		require.NoError(t, f.db.WithContext(as(globex)).Find(&[]Note{}).Error)
		f.databases[1].AsOwner(t, `ALTER TABLE notes DISABLE ROW LEVEL SECURITY`)
		require.ErrorIs(t, f.db.WithContext(as(acme)).Find(&[]Note{}).Error, tenancy.ErrNotIsolated)
		require.ErrorIs(t, f.db.WithContext(as(acme)).Create(&Note{}).Error, tenancy.ErrNotIsolated)
		require.NoError(t, f.db.WithContext(as(globex)).Find(&[]Note{}).Error)
		require.NoError(t, f.db.WithContext(as(acme)).Find(&[]Remark{}).Error)
	})
	t.Run("table of a tenant that is moved after the proof", func(t *testing.T) {
		f := newFixture(t, nil)
		f.databases[1].AsOwner(t, `ALTER TABLE notes DISABLE ROW LEVEL SECURITY`)
		db := f.db.WithContext(as(globex))
		require.NoError(t, db.Find(&[]Note{}).Error)
		require.NoError(t, f.db.Callback().Query().After("tenancy:query").Before("gorm:query").Register("test:move", func(*gorm.DB) {
			f.places.Store(globex, 1)
		}))
		require.ErrorIs(t, db.Find(&[]Note{}).Error, tenancy.ErrNotIsolated)
	})
}

func TestOnServerNamesServer(t *testing.T) {
	f := newFixture(t, nil)
	for n := range f.pools {
		ctx := tenancy.OnServer(context.Background(), f.pools[n])
		require.Equal(t, f.databases[n].Name, where(t, f.db.WithContext(tenancy.WithoutTenant(ctx))))
		admin := tenancy.Bypass(f.db, "look at a server").WithContext(ctx)
		require.Equal(t, f.databases[n].Name, where(t, admin))
		require.NoError(t, admin.Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Note{}).Error }))
	}
	admin := tenancy.Bypass(f.db, "look at a tenant")
	require.ErrorContains(t, admin.Find(&[]Note{}).Error, "name one with OnServer")
	require.NoError(t, admin.WithContext(as(acme)).Create(&Note{Text: "by the admin"}).Error)
	require.Equal(t, [3][]string{{}, {"by the admin"}, {}}, f.notes(t, acme))

	for name, client := range map[string]*gorm.DB{ // a transaction cannot name a second server, nor read the first one in its place
		"admin":  admin.WithContext(tenancy.OnServer(context.Background(), f.pools[1])),
		"lookup": f.db.WithContext(tenancy.WithoutTenant(tenancy.OnServer(context.Background(), f.pools[1]))),
	} {
		require.NoError(t, client.Transaction(func(tx *gorm.DB) error {
			require.Equal(t, f.databases[1].Name, where(t, tx), name)
			other := tx.WithContext(tenancy.OnServer(tx.Statement.Context, f.pools[2]))
			require.ErrorIs(t, other.Find(&[]Country{}).Error, tenancy.ErrTenantMismatch, name)
			return nil
		}))
	}

	elsewhere := f.db.WithContext(tenancy.OnServer(as(acme), f.pools[2]))
	require.ErrorIs(t, elsewhere.Find(&[]Note{}).Error, tenancy.ErrTenantMismatch)
	require.ErrorIs(t, elsewhere.Exec(`SELECT 1`).Error, tenancy.ErrTenantMismatch)
	require.NoError(t, f.db.WithContext(tenancy.OnServer(as(acme), f.pools[1])).Find(&[]Note{}).Error)
}

// TestStoppedServerFailsItsTenants, and no others.
func TestStoppedServerFailsItsTenants(t *testing.T) {
	f := newFixture(t, nil)
	server, err := pgserver.Start(t.Context())
	require.NoError(t, err)
	stop := func() { require.NoError(t, server.Close()) }
	defer func() { stop() }()
	database, err := server.NewDatabase(t.Context())
	require.NoError(t, err)
	d := testdb.Of(t, database, &Note{}, &Remark{}, &Country{})
	f.pools[1] = testdb.OpenSQL(t, d.App.DSN)
	cfg := tenancy.Config{Place: f.place, Logger: testdb.Quiet} // the servers have admin roles of different names
	db := f.databases[0].Open(t, cfg, testdb.Pool(testdb.OpenSQL(t, f.databases[0].App.DSN)))
	for _, tenant := range []string{acme, globex} {
		require.NoError(t, db.WithContext(as(tenant)).Create(&Note{Text: "up"}).Error)
	}
	stop()
	stop = func() {}
	for range 20 {
		require.Error(t, db.WithContext(as(acme)).Find(&[]Note{}).Error)
		var n int64
		require.NoError(t, db.WithContext(as(globex)).Model(&Note{}).Count(&n).Error)
		require.EqualValues(t, 1, n)
	}
}

func TestPlaceIsRefusedWithAdminDB(t *testing.T) {
	d := testdb.New(t)
	db := testdb.OpenPlain(t, d.App.DSN)
	cfg := tenancy.Config{Place: (&fixture{}).place, AdminDB: testdb.OpenSQL(t, d.Admin.DSN)}
	require.ErrorContains(t, db.Use(tenancy.New(cfg)), "Place and AdminDB")
}

func TestOnServerNeedsPlace(t *testing.T) {
	d := testdb.New(t, &Note{})
	db := d.Open(t, d.Config())
	admin := tenancy.Bypass(db, "look at a server").WithContext(tenancy.OnServer(context.Background(), testdb.OpenSQL(t, d.App.DSN)))
	require.ErrorContains(t, admin.Find(&[]Note{}).Error, "OnServer needs Config.Place")
	require.ErrorContains(t, admin.Create(&Note{TenantID: acme}).Error, "OnServer needs Config.Place")
	require.ErrorContains(t, admin.Exec(`SELECT 1`).Error, "OnServer needs Config.Place")
	require.ErrorContains(t, admin.Transaction(func(*gorm.DB) error { return nil }), "OnServer needs Config.Place")
	require.NoError(t, tenancy.Bypass(db, "look").Find(&[]Note{}).Error)
}
