package plugin_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

func TestForEachTenant(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	count := func(tenant string) (n int64) {
		require.NoError(t, db.WithContext(as(tenant)).Model(&Patient{}).Count(&n).Error)
		return n
	}

	tenants := []string{acme, "", globex, "initech", "hooli"}
	failure := errors.New("no luck")
	err := tenancy.ForEachTenant(t.Context(), db, tenants, func(ctx context.Context, tx *gorm.DB) error {
		id, _ := tenancy.TenantFromContext(ctx)
		if err := addPatient(tx, id); err != nil {
			return err
		}
		switch id {
		case globex:
			panic("secret")
		case "initech":
			return failure
		case "hooli":
			runtime.Goexit()
		}
		return nil
	}, tenancy.Concurrency(3))

	errs := tenantErrors(t, err, tenants, 1, 2, 3, 4)
	require.ErrorIs(t, errs[0], tenancy.ErrNoTenant)
	var panicked *tenancy.PanicError
	require.ErrorAs(t, errs[1], &panicked)
	require.Equal(t, "secret", panicked.Value)
	require.Contains(t, string(panicked.Stack), "foreach_test.go")
	require.ErrorIs(t, err, failure)
	for _, hidden := range []string{acme, globex, "initech", "hooli", "secret"} {
		require.NotContains(t, err.Error(), hidden)
	}

	require.EqualValues(t, 2, count(acme), "committed")
	require.EqualValues(t, 1, count(globex), "rolled back by the panic")
	require.Zero(t, count("initech"), "rolled back by the error")
	require.Zero(t, count("hooli"), "rolled back by the end of its goroutine")
	pool, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	require.Zero(t, pool.Stats().InUse)
}

// addPatient creates a row of the tenant's, after a look at those that are there.
func addPatient(tx *gorm.DB, tenant string) error {
	var patients []Patient
	if err := tx.Find(&patients).Error; err != nil {
		return err
	}
	for _, p := range patients {
		if p.TenantID != tenant {
			return errors.New("another tenant's row")
		}
	}
	return tx.Create(&Patient{Name: "new"}).Error
}

// tenantErrors returns the errors that are joined, and requires that they are of the tenants at these indexes.
func tenantErrors(t *testing.T, err error, tenants []string, indexes ...int) []error {
	t.Helper()
	var errs interface{ Unwrap() []error }
	require.ErrorAs(t, err, &errs)
	require.Len(t, errs.Unwrap(), len(indexes))
	for i, want := range indexes {
		var failed *tenancy.TenantError
		require.ErrorAs(t, errs.Unwrap()[i], &failed)
		require.Equal(t, want, failed.Index)
		require.Equal(t, tenants[want], failed.Tenant)
	}
	return errs.Unwrap()
}

func TestForEachTenantEndsEarly(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	tenants := make([]int, 50)
	for i := range tenants {
		tenants[i] = i + 1
	}

	cause := errors.New("shutdown")
	ctx, cancel := context.WithCancelCause(t.Context())
	var calls atomic.Int32
	err := tenancy.ForEachTenant(ctx, db, tenants, func(context.Context, *gorm.DB) error {
		if calls.Add(1) == 3 {
			cancel(cause)
		}
		return nil
	})
	require.ErrorIs(t, err, cause)
	require.EqualValues(t, 3, calls.Load())

	calls.Store(0)
	failure := errors.New("no luck")
	err = tenancy.ForEachTenant(t.Context(), db, tenants, func(context.Context, *gorm.DB) error {
		if calls.Add(1) == 3 {
			return failure
		}
		return nil
	}, tenancy.StopAtError())
	require.ErrorIs(t, err, failure)
	require.EqualValues(t, 3, calls.Load())
}

func TestForEachTenantBoundsConcurrency(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{})
	var now, most atomic.Int32
	require.NoError(t, tenancy.ForEachTenant(t.Context(), db, []uint8{1, 2, 3, 4, 5, 6, 7, 8},
		func(_ context.Context, tx *gorm.DB) error {
			n := now.Add(1)
			defer now.Add(-1)
			for {
				if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			return tx.Exec("SELECT pg_sleep(0.01)").Error
		}, tenancy.Concurrency(3)))
	require.LessOrEqual(t, most.Load(), int32(3))
}

func TestForEachTenantRefused(t *testing.T) {
	d := newDatabase(t)
	db := d.Open(t, tenancy.Config{AdminRole: d.Admin.Role})
	never := func(context.Context, *gorm.DB) error { t.Error("called"); return nil }
	tenants := []string{acme}
	require.ErrorIs(t, tenancy.ForEachTenant(t.Context(), d.OwnerDB, tenants, never), tenancy.ErrNotInstalled)
	require.ErrorContains(t, tenancy.ForEachTenant(t.Context(), tenancy.Bypass(db, "test"), tenants, never), "client of Bypass")
	require.ErrorIs(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		return tenancy.ForEachTenant(t.Context(), tx, tenants, never)
	}), tenancy.ErrInTransaction)
	require.NoError(t, tenancy.ForEachTenant(t.Context(), db, []string(nil), never))
}
