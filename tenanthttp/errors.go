package tenanthttp

import (
	"errors"
	"fmt"
)

// Errors of a [Resolver], a [Finder] and [Authorize] that are the client's fault. Use errors.Is.
var (
	// ErrNoTenant is returned for a request that names no tenant: 400, or 401 if a token was expected.
	ErrNoTenant = errors.New("tenanthttp: the request names no tenant")
	// ErrMalformed is returned for a request that names its tenant twice, or by something that cannot be a name: 400.
	ErrMalformed = errors.New("tenanthttp: the request does not name its tenant correctly")
	// ErrUnauthenticated is returned for a request without a token, or with an invalid one: 401.
	ErrUnauthenticated = errors.New("tenanthttp: the request is not authenticated")
	// ErrForbidden is returned if the sender may not act for the tenant: 403.
	ErrForbidden = errors.New("tenanthttp: the sender may not act for this tenant")
	// ErrMismatch is returned if the parts of a request name different tenants. It is an ErrForbidden: 403.
	ErrMismatch = fmt.Errorf("%w: the request names different tenants", ErrForbidden)
	// ErrUnknownTenant is returned by a lookup that finds no tenant: 403 as well, or 404 with [RevealTenants].
	ErrUnknownTenant = errors.New("tenanthttp: there is no such tenant")
)

func malformed(why string) error { return fmt.Errorf("%w: %s", ErrMalformed, why) }
