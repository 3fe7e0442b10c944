package guard

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// Error says which statement was refused. It is found in what GORM returns with errors.As, whatever failed afterwards.
type Error struct {
	// Op is what was refused: "create", "query", "update", "delete", "row", "raw", "begin", "bypass", "bind" or "resolve".
	Op string
	// Table is the table as GORM names it; empty for raw SQL and for "begin".
	Table string
	// Err is the reason: one of the sentinels of this package or an error that wraps one, or PostgreSQL's.
	Err error
}

// Error returns the reason, the operation and the table; no tenant, no values.
func (e *Error) Error() string {
	if e.Table == "" {
		return fmt.Sprintf("%v (%s)", e.Err, e.Op)
	}
	return fmt.Sprintf("%v (%s on %s)", e.Err, e.Op, e.Table)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Refused reports whether err is a refusal of the guard.
func Refused(err error) bool {
	for _, reason := range []error{ErrNoTenant, ErrTenantMismatch, ErrSetRole, errReadOnlyTx, errReadOnlyIn, errReadOnlyCall} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// BeginHook learns of the transactions that a guarded pool refuses to begin: GORM begins them without a callback. Its zero
// value does nothing.
type BeginHook struct {
	f atomic.Pointer[func(context.Context, error) error]
}

// Set has f called with each refusal, an *Error, on the goroutine that wanted to begin. BeginTx returns what f returns. A
// panic in f would cost a connection.
func (h *BeginHook) Set(f func(ctx context.Context, refusal error) error) { h.f.Store(&f) }

// refused names the operation in err, which refuses to begin a transaction.
func (h *BeginHook) refused(ctx context.Context, err error) error {
	err = &Error{Op: "begin", Err: err}
	if h == nil {
		return err
	}
	if f := h.f.Load(); f != nil {
		return (*f)(ctx, err)
	}
	return err
}
