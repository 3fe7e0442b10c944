package tenancy_test

import (
	"context"
	"database/sql"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls/check"
)

func TestConfigIsValidated(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, c := range []struct {
		cfg   tenancy.Config
		wrong string // the field; empty if nothing is wrong
	}{
		{tenancy.Config{}, ""},
		{tenancy.Config{Setting: "my_app.Tenant$1"}, ""},
		{tenancy.Config{Setting: "a.b.c"}, ""},
		{tenancy.Config{Setting: "tenant_id"}, "Setting"},
		{tenancy.Config{Setting: "app."}, "Setting"},
		{tenancy.Config{Setting: ".tenant"}, "Setting"},
		{tenancy.Config{Setting: "app..tenant"}, "Setting"},
		{tenancy.Config{Setting: "1app.tenant"}, "Setting"},
		{tenancy.Config{Setting: "app.tenant-id"}, "Setting"},
		{tenancy.Config{Setting: "app.tenant id"}, "Setting"},
		{tenancy.Config{Setting: "app.tenant\n"}, "Setting"},
		{tenancy.Config{Setting: "app.tenant'; DROP TABLE x; --"}, "Setting"},
		{tenancy.Config{Setting: "app." + long}, "Setting"},
		{tenancy.Config{KeepSettings: []string{"my.region", "a.b.c"}}, ""},
		{tenancy.Config{KeepSettings: []string{"statement_timeout"}}, "KeepSettings"},
		{tenancy.Config{KeepSettings: []string{"my.region'"}}, "KeepSettings"},
		{tenancy.Config{KeepSettings: []string{"APP.tenant_id"}}, "KeepSettings"},
		{tenancy.Config{Column: `Organisation "Ü"`}, ""},
		{tenancy.Config{Column: "a\x00b"}, "Column"},
		{tenancy.Config{Column: "\xff"}, "Column"},
		{tenancy.Config{Column: long}, "Column"},
		{tenancy.Config{AdminRole: "admin role"}, ""},
		{tenancy.Config{AdminRole: "a\x00b"}, "AdminRole"},
		{tenancy.Config{AdminRole: long}, "AdminRole"},
		{tenancy.Config{AdminRole: "NONE"}, "AdminRole"},
		{tenancy.Config{AppRole: "none"}, "AppRole"},
		{tenancy.Config{AppRole: long}, "AppRole"},
		{tenancy.Config{AppRole: "app", AdminRole: "app"}, "AdminRole and AppRole"},
		{tenancy.Config{AdminRole: "admin", AdminDB: new(sql.DB)}, "AdminRole and AdminDB"},
		{tenancy.Config{AdminRole: "admin", ReadOnlyRole: "reader"}, ""},
		{tenancy.Config{ReadOnlyRole: "a\x00b"}, "ReadOnlyRole"},
		{tenancy.Config{ReadOnlyRole: "none"}, "ReadOnlyRole"},
		{tenancy.Config{AdminRole: "admin", ReadOnlyRole: "admin"}, "ReadOnlyRole"},
		{tenancy.Config{AppRole: "app", ReadOnlyRole: "app"}, "ReadOnlyRole"},
		{tenancy.Config{DangerouslySkipProof: true, DangerouslyWarnOnly: true}, "DangerouslySkipProof"},
		{tenancy.Config{DangerouslyTrustPolicies: []string{`archive."No tes"`, "notes; x"}}, "DangerouslyTrustPolicies"},
		{tenancy.Config{Check: 3}, "Check 3"},
		{tenancy.Config{Engine: tenancy.Citus}, ""},
		{tenancy.Config{Engine: 2}, "Engine 2"},
		{tenancy.Config{Engine: tenancy.Citus, OmitTenantCondition: true}, "Engine Citus and OmitTenantCondition"},
		{tenancy.Config{Engine: tenancy.Citus, LookupRole: "lookup"}, "Engine Citus and LookupRole"},
		{tenancy.Config{Engine: tenancy.Citus, SigningKeys: tenancy.FixedSigningKeys()}, "Engine Citus and SigningKeys"},
		{tenancy.Config{Engine: tenancy.Citus, DangerouslyObserve: func(context.Context, tenancy.Refusal) {}}, "Engine Citus and DangerouslyObserve"},
		{tenancy.Config{Engine: tenancy.Citus, Place: nowhere}, "Engine Citus and Place"},
		{tenancy.Config{CheckOptions: []check.Option{check.Schemas("public")}}, "CheckOptions"},
		{tenancy.Config{Servers: []tenancy.Server{{Name: "a", DB: new(sql.DB)}}}, "set Place"},
		{tenancy.Config{Place: nowhere, Servers: []tenancy.Server{{Name: "a", DB: new(sql.DB), AdminDB: new(sql.DB)}}}, "unset DangerouslyAllowUnsafeRole"},
		{tenancy.Config{Place: nowhere, Servers: []tenancy.Server{{Name: "a", DB: new(sql.DB), Replicas: []*sql.DB{new(sql.DB)}}}}, "unset DangerouslyAllowUnsafeRole"},
	} {
		cfg := c.cfg
		cfg.DangerouslyAllowUnsafeRole = true
		err := plain(t).Use(tenancy.New(cfg))
		if c.wrong == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.wrong)
	}
}

func nowhere(context.Context, string) (*sql.DB, error) { return nil, nil }

type mysql struct{ gorm.Dialector }

func (mysql) Name() string { return "mysql" }

func TestUnsuitableDatabases(t *testing.T) {
	p := tenancy.New(tenancy.Config{DangerouslyAllowUnsafeRole: true})
	require.Equal(t, "tenancy", p.Name())

	db := plain(t)
	db.Dialector = mysql{db.Dialector}
	require.ErrorContains(t, db.Use(p), `"mysql"`)

	db = plain(t)
	db.ConnPool = new(sql.Tx)
	require.ErrorContains(t, db.Use(p), "*sql.Tx is not")

	db = plain(t, func(c *gorm.Config) { c.PrepareStmt = true })
	db.ConnPool.(*gorm.PreparedStmtDB).ConnPool = new(sql.Tx)
	require.ErrorContains(t, db.Use(p), "*sql.Tx, not")
}

// Whoever looks at no error is refused all the same.
func TestInstalledTwice(t *testing.T) {
	db := open(t, tenancy.Config{})
	guarded := db.ConnPool
	require.ErrorIs(t, db.Use(tenancy.New(tenancy.Config{})), gorm.ErrRegistered)
	require.NoError(t, db.Plugins["tenancy"].Initialize(db), "again")
	require.Same(t, guarded, db.ConnPool)

	ofAnother := tenancy.New(tenancy.Config{Setting: "app.other", DangerouslyAllowUnsafeRole: true})
	require.ErrorContains(t, ofAnother.Initialize(db), "another Setting")
}

// Plugins can be given to gorm.Open as well, which initializes them.
func TestInstalledByOpen(t *testing.T) {
	pool, err := plain(t).DB()
	require.NoError(t, err)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{
		DisableAutomaticPing: true,
		Logger:               logger.Discard,
		Plugins:              map[string]gorm.Plugin{"tenancy": tenancy.New(tenancy.Config{DangerouslyAllowUnsafeRole: true})},
	})
	require.NoError(t, err)
	require.ErrorIs(t, db.Find(&[]Patient{}).Error, tenancy.ErrNoTenant)
	guarded, err := db.DB()
	require.NoError(t, err)
	require.NotSame(t, pool, guarded)
	below, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	require.Same(t, pool, below)
	require.NoError(t, guarded.Close())
	require.ErrorContains(t, pool.PingContext(context.Background()), "closed", "closed with the one above")
}

// What was prepared below the guard, before the plugin came, must not be used any more.
func TestPreparedStatementsAreGuarded(t *testing.T) {
	db := plain(t, func(c *gorm.Config) { c.PrepareStmt = true })
	prepared := db.ConnPool.(*gorm.PreparedStmtDB)
	session := plain(t)
	sessions := session.Session(&gorm.Session{PrepareStmt: true}).ConnPool.(*gorm.PreparedStmtDB)

	p := tenancy.New(tenancy.Config{DangerouslyAllowUnsafeRole: true})
	require.NoError(t, db.Use(p))
	require.NoError(t, session.Use(p))
	require.Same(t, prepared, db.ConnPool, "the plugin looks inside")
	again := session.Session(&gorm.Session{PrepareStmt: true}).ConnPool.(*gorm.PreparedStmtDB)
	require.Same(t, sessions.Mux, again.Mux)
	inTx := session.Session(&gorm.Session{Context: context.Background()})
	inTx.Statement.ConnPool = (*sql.Tx)(nil)
	kept := inTx.Session(&gorm.Session{PrepareStmt: true}).ConnPool.(*gorm.PreparedStmtTX).PreparedStmtDB
	for _, store := range []*gorm.PreparedStmtDB{prepared, again, kept} {
		below, err := store.GetDBConn()
		require.NoError(t, err)
		require.NotEqual(t, reflect.TypeFor[*stdlib.Driver](), reflect.TypeOf(below.Driver()))
	}
}
