package tenancy

import (
	"errors"
	"fmt"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// The sentinels below are meant for errors.Is. None of their texts, nor those of the errors that wrap them, holds a
// tenant's id, a value of a statement or a credential, so that all can be logged.
var (
	// ErrNoTenant is returned by a statement whose context says nothing about the tenant, by one that writes to a
	// tenant's table under WithoutTenant, and by one whose tenant id is empty or can't be sent to PostgreSQL.
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

	// ErrUnsafeRole is returned by Plugin.Initialize when no policy would apply to the role that statements run under, or to
	// the login, whose role raw SQL can return to. For a replica that Initialize has not seen, its first statement returns it.
	ErrUnsafeRole = errors.New("tenancy: unsafe role")

	// ErrUnsafeSettings is returned like ErrUnsafeRole when connections of the login start with settings that isolation does
	// not go with, given by ALTER ROLE or ALTER DATABASE: row_security off, another role, a tenant, session_replication_role
	// replica, or a client_encoding that is not UTF8. The text says by what SQL to undo them.
	ErrUnsafeSettings = errors.New("tenancy: unsafe settings")

	// ErrUnsafeDatabase is returned by Plugin.Initialize when Config.Check is CheckRefuse and the database has holes, whose
	// codes and objects the text lists; and like ErrUnsafeRole, whatever Check is, when the database has the extension citus.
	ErrUnsafeDatabase = errors.New("tenancy: unsafe database")

	// ErrNoAdminRole is returned by Plugin.Initialize when Config.AdminRole or Config.ReadOnlyRole does not exist or cannot be taken,
	// and by statements of Bypass when there is neither Config.AdminRole nor Config.AdminDB, nor ReadOnlyRole for BypassReadOnly.
	ErrNoAdminRole = errors.New("tenancy: no admin role")

	// ErrSetRole is returned when the login can't take Config.AppRole. The text says which GRANT is missing.
	ErrSetRole = guard.ErrSetRole

	// ErrForeignCallback is returned by statements without a tenant condition where another plugin reads in place of GORM, such as
	// a cache of queries, and by Plugin.Initialize beside a plugin that hides statements from the guard. Nothing has been sent.
	ErrForeignCallback = errors.New("tenancy: another plugin stands between GORM and the guard")

	// ErrNotInstalled is returned by functions that need a *gorm.DB with the plugin, and got one without.
	ErrNotInstalled = errors.New("tenancy: the plugin is not installed on this *gorm.DB")
)

// Error says which statement was refused, by its operation and table, and the reason. It is found in what GORM returns
// with errors.As, whatever failed afterwards. See Config.OnRefuse for a place that learns of all refusals.
type Error = guard.Error

// PanicError is a panic in the function that was given to ForEachTenant, or in code that GORM's statements run on their
// way to the wire, such as a driver.Valuer: it becomes an error, for it would cost a connection otherwise.
type PanicError = guard.PanicError

// wrapf adds to a sentinel what the reader should know or do.
func wrapf(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))
}
