package tenanthttp

import (
	"context"
	"net/http"
)

// A Finder finds the id of the tenant that a name stands for, such as a slug or a domain. It returns [ErrUnknownTenant] if there
// is none. In a [Middleware] its context is one of tenancy.WithoutTenant, so it can read shared tables, and the
// columns that tenancy.Config.LookupRole may.
type Finder interface {
	Tenant(ctx context.Context, name string) (id string, err error)
}

// FinderFunc is a function that is a [Finder].
type FinderFunc func(ctx context.Context, name string) (id string, err error)

// Tenant calls f.
func (f FinderFunc) Tenant(ctx context.Context, name string) (string, error) { return f(ctx, name) }

// VerifiedDomains is a [Finder] of domains that tenants have entered themselves. The function also returns whether the tenant
// has proved that the domain is its own, for example by a DNS record. If not, the domain belongs to no tenant.
func VerifiedDomains(find func(ctx context.Context, domain string) (id string, verified bool, err error)) Finder {
	return FinderFunc(func(ctx context.Context, domain string) (string, error) {
		id, verified, err := find(ctx, domain)
		if err == nil && !verified {
			return "", ErrUnknownTenant
		}
		return id, err
	})
}

// Lookup converts the name that a resolver returns into a tenant's id.
func Lookup(resolve Resolver, lookup Finder) Resolver {
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
