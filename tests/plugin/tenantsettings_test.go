package plugin_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// setting returns what a setting of the session is for a statement of db.
func setting(t *testing.T, db *gorm.DB, name string) string {
	t.Helper()
	var value string
	require.NoError(t, db.Raw(`SELECT coalesce(current_setting(?, true), '')`, name).Scan(&value).Error)
	return value
}

// ofAcme gives one tenant settings, and the others none.
func ofAcme(settings map[string]string) tenancy.Config {
	return tenancy.Config{Settings: func(_ context.Context, tenant string) map[string]string {
		if tenant == acme {
			return settings
		}
		return nil
	}}
}

func TestTenantSettingsEndWithTransaction(t *testing.T) {
	testdb.InBothForms(t, testTenantSettingsEndWithTransaction)
}

func testTenantSettingsEndWithTransaction(t *testing.T) {
	d := newDatabase(t)
	cfg := d.Config()
	cfg.Settings = ofAcme(map[string]string{"work_mem": "17MB", "TimeZone": "Asia/Tokyo", "my.plan": `it's \ "big"`}).Settings
	d.eachMode(t, cfg, func(t *testing.T, db *gorm.DB) {
		pool, err := tenancy.UnguardedPool(db)
		require.NoError(t, err)
		pool.SetMaxOpenConns(1)
		for range 2 {
			require.Equal(t, "17MB", setting(t, db.WithContext(as(acme)), "work_mem"))
			require.Equal(t, `it's \ "big"`, setting(t, db.WithContext(as(acme)), "my.plan"))
			require.Equal(t, "4MB", setting(t, db.WithContext(as(globex)), "work_mem"), "the next tenant on the connection")
			require.Empty(t, setting(t, db.WithContext(as(globex)), "my.plan"))
			require.Equal(t, "4MB", setting(t, db.WithContext(tenancy.WithoutTenant(context.Background())), "work_mem"))
			require.Equal(t, "4MB", setting(t, tenancy.Bypass(db, "look at a setting").WithContext(as(acme)), "work_mem"))
		}
	})
}

// TestTenantSettingsLeaveTransactionItsOwn: what the application sets in a transaction stays, also across a savepoint.
func TestTenantSettingsLeaveTransactionItsOwn(t *testing.T) {
	testdb.InBothForms(t, testTenantSettingsLeaveTransactionItsOwn)
}

func testTenantSettingsLeaveTransactionItsOwn(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, ofAcme(map[string]string{"work_mem": "17MB", "lock_timeout": "9s"}), func(t *testing.T, db *gorm.DB) {
		require.NoError(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.SavePoint("first").Error)
			require.Equal(t, "17MB", setting(t, tx, "work_mem"))
			require.NoError(t, tx.Exec(`SET LOCAL work_mem = '23MB'`).Error)
			require.Equal(t, "23MB", setting(t, tx, "work_mem"))
			require.NoError(t, tx.Find(&[]Patient{}).Error)
			require.Equal(t, "23MB", setting(t, tx, "work_mem"))
			require.NoError(t, tx.RollbackTo("first").Error)
			require.Equal(t, "17MB", setting(t, tx, "work_mem"))
			require.Equal(t, "9s", setting(t, tx, "lock_timeout"))
			return nil
		}))
		require.Equal(t, "4MB", setting(t, db.WithContext(as(globex)), "work_mem"))

		require.NoError(t, db.Transaction(func(tx *gorm.DB) error { // which has no tenant until it sees one
			require.Equal(t, "4MB", setting(t, tx.WithContext(tenancy.WithoutTenant(context.Background())), "work_mem"))
			require.Equal(t, "17MB", setting(t, tx.WithContext(as(acme)), "work_mem"))
			return nil
		}))
	})
}

// TestTenantSettingsLimitTime: a limit counts for the very statement that it travels with.
func TestTenantSettingsLimitTime(t *testing.T) { testdb.InBothForms(t, testTenantSettingsLimitTime) }

func testTenantSettingsLimitTime(t *testing.T) {
	d := newDatabase(t)
	d.eachMode(t, ofAcme(map[string]string{"statement_timeout": "20ms"}), func(t *testing.T, db *gorm.DB) {
		slow := func(tx *gorm.DB) error { return tx.Exec(`SELECT pg_sleep(60)`).Error }
		for name, run := range map[string]func(db *gorm.DB) error{
			"alone":       slow,
			"transaction": func(db *gorm.DB) error { return db.Transaction(slow) },
			"procedure":   func(db *gorm.DB) error { return db.Exec(`DO 'BEGIN PERFORM pg_sleep(60); END'`).Error },
			"argument":    func(db *gorm.DB) error { return db.Exec(`SELECT pg_sleep(?)`, 60).Error },
		} {
			var pgErr *pgconn.PgError
			require.ErrorAs(t, run(db.WithContext(as(acme))), &pgErr, name)
			require.Equal(t, "57014", pgErr.Code, name)
		}
		require.NoError(t, db.WithContext(as(globex)).Exec(`SELECT pg_sleep(0.05)`).Error)
	})
}

// TestTenantSettingsRefuseWhatIsolates: no setting may say who the tenant is, or in which role a statement runs.
func TestTenantSettingsRefuseWhatIsolates(t *testing.T) {
	testdb.InBothForms(t, testTenantSettingsRefuseWhatIsolates)
}

func testTenantSettingsRefuseWhatIsolates(t *testing.T) {
	d := newDatabase(t)
	var name atomic.Pointer[string]
	cfg := tenancy.Config{Settings: func(context.Context, string) map[string]string { return map[string]string{*name.Load(): "1"} }}
	db := d.Open(t, cfg).WithContext(as(acme))
	for _, n := range []string{
		"app.tenant_id", "APP.Tenant_ID", "app.tenant_id_proof", "app.other", "tenancy.audit", "tenancy.transaction", "Tenancy.X", "role", "ROLE", "session_authorization",
		"row_security", "search_path", "session_replication_role", "client_encoding", "transaction_read_only", "standard_conforming_strings", "",
		`work_mem" = '1MB'; SET LOCAL "role`, "local_preload_libraries", "DateStyle",
	} {
		name.Store(&n)
		require.ErrorContains(t, db.Find(&[]Patient{}).Error, "Config.Settings sets", n)
		require.ErrorContains(t, db.Create(&Patient{Name: "none"}).Error, "Config.Settings sets", n)
	}
	n := "work_mem"
	name.Store(&n)
	err := db.Find(&[]Patient{}).Error // 1 kB is too little
	require.ErrorContains(t, err, "PostgreSQL refused what Config.Settings returned for the tenant")
	require.NotContains(t, err.Error(), acme)

	n = "my.plan"
	name.Store(&n)
	var count int64
	require.NoError(t, db.Model(&Patient{}).Count(&count).Error, "the connection is as good as before")
	require.EqualValues(t, 1, count)
}

func TestTenantSettingsThatPanic(t *testing.T) {
	d := newDatabase(t)
	cfg := tenancy.Config{Settings: func(context.Context, string) map[string]string { panic(errors.New("no plan")) }}
	db := d.Open(t, cfg)
	var panicked *tenancy.PanicError
	require.ErrorAs(t, db.WithContext(as(acme)).Find(&[]Patient{}).Error, &panicked)
	require.NoError(t, db.WithContext(tenancy.WithoutTenant(context.Background())).Find(&[]Country{}).Error)
}
