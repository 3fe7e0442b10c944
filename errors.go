package tenancy

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// The sentinels below are meant for errors.Is. None of their texts, nor those of the errors that wrap them, holds a
// tenant's id, a value of a statement or a credential, so that all can be logged.
var (
	// ErrNoTenant is returned by a statement whose context says nothing about the tenant, by one that writes to a
	// tenant's table under WithoutTenant, and by one whose tenant id is empty or cannot be sent to PostgreSQL.
	// Nothing has been sent. Use WithTenant, or WithoutTenant for shared tables.
	ErrNoTenant = guard.ErrNoTenant

	// ErrTenantMismatch is returned by a statement that would write another tenant's id than its context names, or
	// that runs in a transaction begun for another tenant. Nothing has been sent.
	ErrTenantMismatch = guard.ErrTenantMismatch

	// ErrInvalidTenant is returned by a statement whose tenant id cannot be stored in the tenant column's Go type, such
	// as "acme" in an int64, or is not written as PostgreSQL writes it, such as "07". Nothing has been sent.
	ErrInvalidTenant = errors.New("tenancy: the tenant's id does not fit its column")

	// ErrNotIsolated is returned by statements on a table with the tenant column that PostgreSQL does not isolate for the role
	// in use: a policy is missing, or of a form that is not known to bind, or the role is exempt from it; and by those on a
	// tenant model's table that lacks the column. PostgreSQL has not run the statement; where a table ceases to be isolated
	// within a transaction, or after it was proved, the transaction is lost.
	ErrNotIsolated = errors.New("tenancy: the table is not isolated")

	// ErrUnsafeRole is returned by Plugin.Initialize when no policy would apply to a role that statements run under, or to
	// the login, whose role raw SQL can return to. For a replica that Initialize has not seen, its first statement returns it.
	ErrUnsafeRole = errors.New("tenancy: unsafe role")

	// ErrUnsafeSettings is returned like ErrUnsafeRole when connections of the login start with settings that isolation does
	// not go with, given by ALTER ROLE or ALTER DATABASE: row_security off, another role, a tenant, session_replication_role
	// replica, or a client_encoding that is not UTF8. The text says by what SQL to undo them.
	ErrUnsafeSettings = errors.New("tenancy: unsafe settings")

	// ErrUnsafeDatabase is returned by Plugin.Initialize when Config.Check is CheckRefuse and the database has holes, whose
	// codes and objects the text lists; and like ErrUnsafeRole, whatever Check is, when the database is of another Engine.
	ErrUnsafeDatabase = errors.New("tenancy: unsafe database")

	// ErrNoAdminRole is returned by Plugin.Initialize when Config.AdminRole or Config.ReadOnlyRole does not exist or cannot be taken,
	// and by statements of Bypass when there is neither Config.AdminRole nor Config.AdminDB, nor ReadOnlyRole for BypassReadOnly.
	ErrNoAdminRole = errors.New("tenancy: no admin role")

	// ErrSetRole is returned when the login cannot take Config.AppRole or Config.LookupRole. The text says which GRANT is missing.
	ErrSetRole = guard.ErrSetRole

	// ErrForeignCallback is returned by statements without a tenant condition where another plugin reads in place of GORM, such as
	// a cache of queries, and by Plugin.Initialize beside a plugin that hides statements from the guard. Nothing has been sent.
	ErrForeignCallback = errors.New("tenancy: another plugin stands between GORM and the guard")

	// ErrInTransaction is returned by ForEachTenant, and by statements of Bypass, for a *gorm.DB in a transaction of one tenant.
	// Nothing has been sent.
	ErrInTransaction = errors.New("tenancy: the *gorm.DB is in a transaction")

	// ErrNotInstalled is returned by functions that need a *gorm.DB with the plugin, and got one without.
	ErrNotInstalled = errors.New("tenancy: the plugin is not installed on this *gorm.DB")
)

// Error says which statement was refused, and why. errors.As finds it in what GORM returns, whatever failed afterwards.
// Config.OnRefuse is called with each refusal.
type Error struct {
	Op    string // "create", "query", "update", "delete", "row", "raw", "begin", "bypass", "bind" or "resolve"
	Table string // as GORM names it; empty for raw SQL and for "begin"
	Err   error  // the reason: one of the sentinels above or an error that wraps one, or PostgreSQL's
}

// Error returns the reason, the operation and the table. It holds no tenant's id and no value.
func (e *Error) Error() string {
	if e.Table == "" {
		return fmt.Sprintf("%v (%s)", e.Err, e.Op)
	}
	return fmt.Sprintf("%v (%s on %s)", e.Err, e.Op, e.Table)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// PanicError is a panic in the application's code that became an error, because the panic would leak a connection. The code is
// a hook of Config, the function of ForEachTenant, or code that a statement runs, such as a driver.Valuer among its arguments.
type PanicError struct {
	In    string // which code panicked, such as "Config.OnRefuse"
	Value any    // what was given to panic; nil if the goroutine ended, as by runtime.Goexit
	Stack []byte // of the goroutine that panicked
}

// Error says where the panic was. Value and Stack are not in the text, because they may hold anything.
func (e *PanicError) Error() string { return "tenancy: panic in " + e.In }

// newPanicError returns the error for a panic. It must be called on the goroutine that panicked.
func newPanicError(in string, value any) error {
	return &PanicError{In: in, Value: value, Stack: debug.Stack()}
}

// wrapf adds to a sentinel what the reader should know or do.
func wrapf(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))
}
