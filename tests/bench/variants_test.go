package bench

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// operation is something an application does for a tenant, in the ways that are compared.
type operation struct {
	name    string
	skipTx  bool                    // gorm.Config.SkipDefaultTransaction
	writes  int64                   // rows
	plain   func(db *gorm.DB) error // names the tenant in each statement
	guarded func(db *gorm.DB) error // leaves it to the policies
}

var operations = []operation{
	{
		name: "First", skipTx: true,
		plain:   func(db *gorm.DB) error { return first[Unprotected](where(db)) },
		guarded: first[Patient],
	}, {
		name: "Find100", skipTx: true,
		plain:   func(db *gorm.DB) error { return find[Unprotected](where(db)) },
		guarded: find[Patient],
	}, {
		name: "Create", skipTx: true, writes: 1,
		plain:   create[Unprotected],
		guarded: create[Patient],
	}, {
		name: "CreateInTx", writes: 1,
		plain:   create[Unprotected],
		guarded: create[Patient],
	},
}

// where is what an application without policies must not forget.
func where(db *gorm.DB) *gorm.DB { return db.Where("tenant_id = ?", tenant) }

func first[R row](db *gorm.DB) error {
	var r R
	return db.First(&r, someID).Error
}

func find[R row](db *gorm.DB) error {
	var r []R
	if err := db.Find(&r).Error; err != nil {
		return err
	}
	if len(r) < each {
		return fmt.Errorf("%d rows, want %d", len(r), each)
	}
	return nil
}

func create[R row](db *gorm.DB) error {
	r := R(Patient{TenantID: tenant, Name: "New", Email: "new@example.com", Age: 42})
	return db.Create(&r).Error
}

// variant is one of the ways to keep tenants apart.
type variant struct {
	name string
	open func(t testing.TB, dsn string, op operation) (run func() error)
}

var variants = []variant{
	{"plain", func(t testing.TB, dsn string, op operation) func() error {
		db := open(t, dsn, op.skipTx).WithContext(request(t))
		return func() error { return op.plain(db) }
	}},
	// wrapper is what most applications do that have policies: a transaction for each statement.
	{"wrapper", func(t testing.TB, dsn string, op operation) func() error {
		db := open(t, dsn, op.skipTx).WithContext(request(t))
		return func() error {
			return db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Exec("SELECT set_config('app.tenant_id', ?, true)", tenant).Error; err != nil {
					return err
				}
				return op.guarded(tx)
			})
		}
	}},
	{"guard", func(t testing.TB, dsn string, op operation) func() error {
		return guarded(t, open(t, dsn, op.skipTx), op)
	}},
	// direct is the guard without a pool below it.
	{"direct", func(t testing.TB, dsn string, op operation) func() error {
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		pool := tenancy.OpenDB(stdlib.GetConnector(*cfg), tenancy.Config{})
		return guarded(t, openPool(t, postgres.Config{Conn: pool}, op.skipTx), op)
	}},
}

func guarded(t testing.TB, db *gorm.DB, op operation) func() error {
	t.Helper()
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	db = db.WithContext(tenancy.WithTenant(request(t), tenant))
	return func() error { return op.guarded(db) }
}

// request is a context that can be cancelled, as that of an HTTP request: database/sql and pgx watch such a context, and
// not the background's.
func request(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx
}
