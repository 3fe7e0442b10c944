package tenanthttp

import (
	"context"
	"net/http"
)

// A Lookup finds the id of the tenant that a name stands for, such as a slug or a domain. It returns [ErrUnknownTenant] if
// there is none. In a [Middleware] its context is that of tenancy.WithoutTenant: it can read shared tables.
type Lookup interface {
	Tenant(ctx context.Context, name string) (id string, err error)
}

// LookupFunc is a [Lookup] by a function.
type LookupFunc func(ctx context.Context, name string) (id string, err error)

// Tenant calls f.
func (f LookupFunc) Tenant(ctx context.Context, name string) (string, error) { return f(ctx, name) }

// Verified is a [Lookup] of domains that tenants have entered themselves. The function also says whether the tenant has
// shown that the domain is its own, for example by a DNS record; if not, the domain is nobody's.
func Verified(find func(ctx context.Context, domain string) (id string, verified bool, err error)) Lookup {
	return LookupFunc(func(ctx context.Context, domain string) (string, error) {
		id, verified, err := find(ctx, domain)
		if err == nil && !verified {
			return "", ErrUnknownTenant
		}
		return id, err
	})
}

// Mapped turns the name that a resolver returns into a tenant's id.
func Mapped(resolve Resolver, lookup Lookup) Resolver {
	return func(r *http.Request) (string, error) {
		name, err := resolve(r)
		if err != nil {
			return "", err
		}
		id, err := lookup.Tenant(r.Context(), name)
		if err == nil && id == "" {
			return "", ErrUnknownTenant // an empty tenant is no tenant
		}
		return id, err
	}
}
