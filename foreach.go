package tenancy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// ForEachTenant calls fn once for each of the tenants, each time in a transaction of that tenant. The transaction is committed
// when fn returns nil, and rolled back when fn returns an error or panics. fn sees and writes rows of its tenant only, so work
// on all tenants needs no bypass.
//
// It returns when all calls have returned, with one TenantError for each tenant that failed, joined in the order of tenants. A
// panic becomes a PanicError of its tenant and does not affect the others. When ctx ends, no further tenant is begun, and the
// cause is joined to the errors. For an id that is no tenant (see WithTenant) fn is not called, and the error is ErrNoTenant.
//
// db must have the plugin, or the result is ErrNotInstalled. It must not be in a transaction, or the result is ErrInTransaction.
// It must not be a client of Bypass. The tenants are served one after the other, unless Concurrency says otherwise.
func ForEachTenant[T ID](
	ctx context.Context, db *gorm.DB, tenants []T, fn func(ctx context.Context, tx *gorm.DB) error, opts ...ForEachOption,
) error {
	if _, ok := db.Plugins["tenancy"].(*Plugin); !ok {
		return ErrNotInstalled
	}
	switch {
	case bypassOf(db.Config.ConnPool) != nil:
		return errors.New("tenancy: ForEachTenant cannot use a client of Bypass: pass the *gorm.DB that Bypass was called with")
	case gormtx.In(db.Statement.ConnPool):
		return wrapf(ErrInTransaction, "ForEachTenant begins a transaction for each tenant: pass a *gorm.DB outside a transaction")
	}
	cfg := forEach{concurrency: 1}
	for _, opt := range opts {
		opt(&cfg)
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var (
		errs    = make([]error, len(tenants), len(tenants)+1)
		turns   = make(chan struct{}, cfg.concurrency)
		all     sync.WaitGroup
		leftOut bool
	)
	for i, tenant := range tenants {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			leftOut = true
			break
		}
		all.Add(1)
		go func() {
			defer func() { <-turns; all.Done() }()
			callForTenant(WithTenant(ctx, tenant), db, fn, func(err error) {
				errs[i] = &TenantError{Index: i, Tenant: formatID(tenant), Err: err}
				if cfg.stopAtError {
					stop(errStopped)
				}
			})
		}()
	}
	all.Wait()
	if cause := context.Cause(ctx); leftOut && !errors.Is(cause, errStopped) {
		errs = append(errs, cause)
	}
	return errors.Join(errs...)
}

var errStopped = errors.New("tenancy: another tenant has failed")

// callForTenant calls fn for one tenant, and fail with its error. It runs on a goroutine of its own and recovers a panic.
// runtime.Goexit, which tests call, ends that goroutine without a panic and without a return.
func callForTenant(ctx context.Context, db *gorm.DB, fn func(context.Context, *gorm.DB) error, fail func(error)) {
	if err := guard.CheckTenant(ctx); err != nil {
		fail(err)
		return
	}
	returned := false
	defer func() {
		if !returned {
			fail(newPanicError("the function of ForEachTenant", recover()))
		}
	}()
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return fn(ctx, tx) })
	returned = true
	if err != nil {
		fail(err)
	}
}

// ForEachOption changes how ForEachTenant works.
type ForEachOption func(*forEach)

type forEach struct {
	concurrency int
	stopAtError bool
}

// Concurrency lets up to n tenants be served at once. Each takes a connection. Less than 1 means 1, which is the default.
func Concurrency(n int) ForEachOption {
	return func(f *forEach) { f.concurrency = max(n, 1) }
}

// StopAtError ends the work with the first error: the contexts of tenants that are being served are cancelled, and no further
// tenant is begun.
func StopAtError() ForEachOption {
	return func(f *forEach) { f.stopAtError = true }
}

// TenantError is an error of ForEachTenant for one tenant. The tenant's id is in a field, and not in the text.
type TenantError struct {
	Index  int    // of the tenant in the list
	Tenant string // its id, as WithTenant writes it
	Err    error  // what the function returned, a *PanicError, or why it was not called
}

// Error returns the index and the text of Err.
func (e *TenantError) Error() string { return fmt.Sprintf("tenant %d of the list: %v", e.Index, e.Err) }

// Unwrap returns Err.
func (e *TenantError) Unwrap() error { return e.Err }
