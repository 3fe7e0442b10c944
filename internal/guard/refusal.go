package guard

import (
	"context"
	"errors"
	"sync/atomic"
)

// Refused reports whether err is a refusal of the guard.
func Refused(err error) bool {
	for _, reason := range []error{ErrNoTenant, ErrTenantMismatch, ErrSetRole, errReadOnlyTx, errReadOnlyIn, errReadOnlyCall} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// BeginHook is told when a guarded pool refuses to begin a transaction, which GORM begins without a callback. Its zero value
// does nothing.
type BeginHook struct {
	f atomic.Pointer[func(context.Context, error) error]
}

// Set has f called with each refusal, on the goroutine that wanted to begin. BeginTx returns what f returns. A panic in f would
// leak a connection.
func (h *BeginHook) Set(f func(ctx context.Context, refusal error) error) { h.f.Store(&f) }

// refused returns what BeginTx returns in place of err.
func (h *BeginHook) refused(ctx context.Context, err error) error {
	if h == nil {
		return err
	}
	if f := h.f.Load(); f != nil {
		return (*f)(ctx, err)
	}
	return err
}
