package guard

import "errors"

var (
	// ErrNoTenant refuses a statement whose context names no tenant and does not say that none is needed.
	ErrNoTenant = errors.New("tenancy: no tenant in context")

	// ErrTenantMismatch refuses a statement that belongs to another tenant than its transaction or its row.
	ErrTenantMismatch = errors.New("tenancy: tenant mismatch")
)
