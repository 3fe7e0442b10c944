package tenanthttp

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"

	"github.com/gormtenancy/tenancy"
)

// middleware is what the options of Middleware make. It does not change once built.
type middleware struct {
	resolve   Resolver
	authorize func(*http.Request, string) (bool, error)
	trust     bool
	optional  bool
	skip      *http.ServeMux
	reveal    bool
	onError   func(http.ResponseWriter, *http.Request, error)
	onTenant  func(context.Context, string) context.Context
}

// An Option changes what [Middleware] does.
type Option func(*middleware)

// Authorize makes the middleware ask whether the sender of the request may act for the tenant; if not, the answer is
// [ErrForbidden]. Who the sender is must be known by then: authenticate in a middleware before this one, or by a token. The
// request's context is that of tenancy.WithoutTenant: a table of memberships is a tenancy.OwnRowsModel, because it is read before
// the tenant is known.
//
// Ask the database, not only the session or the token, so that a membership that is revoked ends with the next request.
func Authorize(is func(r *http.Request, tenant string) (bool, error)) Option {
	return func(m *middleware) { m.authorize = is }
}

// DangerouslyTrustResolver lets any sender of a request act for the tenant that the request names. That is right for pages that are
// public, and for tenants that come from a signed token. With [Header], [Cookie], [PathValue] or [Subdomain] alone it lets
// anyone be anyone.
func DangerouslyTrustResolver() Option {
	return func(m *middleware) { m.trust = true }
}

// Optional lets requests pass that name no tenant. Their context says nothing of a tenant: statements are refused until the
// handler says tenancy.WithoutTenant, and see shared tables only then. Use [Require] on routes that need a tenant.
func Optional() Option {
	return func(m *middleware) { m.optional = true }
}

// Skip leaves out requests that match one of the patterns of [http.ServeMux], such as "GET /healthz" or "/static/": they
// pass as they are.
func Skip(patterns ...string) Option {
	return func(m *middleware) {
		if m.skip == nil {
			m.skip = http.NewServeMux()
		}
		for _, pattern := range patterns {
			m.skip.Handle(pattern, skipped{})
		}
	}
}

type skipped struct{}

func (skipped) ServeHTTP(http.ResponseWriter, *http.Request) {}

// RevealTenants answers 404 for a tenant that does not exist. Without it the answer is 403, as for a tenant that the sender
// may not act for, and guessing does not reveal who is a customer.
func RevealTenants() Option {
	return func(m *middleware) { m.reveal = true }
}

// OnError replaces the answer to requests that are refused, by the middleware or by a [Require] below it. [Problem] is the
// default. errors.Is tells the errors of this package from the server's own, whose text is not for clients.
func OnError(answer func(w http.ResponseWriter, r *http.Request, err error)) Option {
	return func(m *middleware) { m.onError = answer }
}

// OnTenant is called with each request's context once it has its tenant, and returns the context that the handler gets:
// the place for the tenant in traces and logs.
//
//	tenanthttp.OnTenant(func(ctx context.Context, tenant string) context.Context {
//		trace.SpanFromContext(ctx).SetAttributes(attribute.String("tenant.id", tenant))
//		return ctx
//	})
func OnTenant(hook func(ctx context.Context, tenant string) context.Context) Option {
	return func(m *middleware) { m.onTenant = hook }
}

// Middleware puts the tenant of each request into its context, as tenancy.WithTenant does, and answers requests for which
// it cannot. Responses are marked "Cache-Control: private" unless the handler says otherwise, so that no shared cache
// serves one tenant's page to another.
//
// It needs either [Authorize] or [DangerouslyTrustResolver], and panics without, as it does for a nil resolver or a bad pattern of
// [Skip]. Where one middleware is inside of another, both must find the same tenant.
func Middleware(resolve Resolver, options ...Option) func(http.Handler) http.Handler {
	m := &middleware{resolve: resolve}
	for _, option := range options {
		option(m)
	}
	switch {
	case resolve == nil:
		panic("tenanthttp: Middleware without a Resolver")
	case (m.authorize == nil) == !m.trust:
		panic("tenanthttp: Middleware needs either Authorize, which asks who may act for a tenant, or DangerouslyTrustResolver")
	}
	if m.onError == nil {
		m.onError = m.problem
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if m.skips(r) {
				next.ServeHTTP(w, r)
				return
			}
			ctx, err := m.context(r)
			ctx = context.WithValue(ctx, refuseKey{}, m.onError)
			if err != nil {
				m.onError(w, r.WithContext(ctx), err)
				return
			}
			if !strings.Contains(w.Header().Get("Cache-Control"), "no-store") { // an outer middleware's, and stricter
				w.Header().Set("Cache-Control", "private")
			}
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// skips reports whether a pattern of Skip matches. What the ServeMux would redirect does not, nor does a path with ".."
// in any spelling, because the router below may see another route in it.
func (m *middleware) skips(r *http.Request) bool {
	cleaned := path.Clean(r.URL.Path)
	if m.skip == nil || r.URL.Path != cleaned && r.URL.Path != cleaned+"/" {
		return false
	}
	handler, _ := m.skip.Handler(r)
	_, is := handler.(skipped)
	return is
}

// context returns the context of a request with its tenant, and the request's own where it is refused.
func (m *middleware) context(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	tenant, err := m.tenant(r.WithContext(tenancy.WithoutTenant(ctx)))
	if m.optional && errors.Is(err, ErrNoTenant) {
		return ctx, nil
	}
	if err != nil {
		return ctx, err
	}
	if outer, ok := tenancy.TenantFromContext(ctx); ok && outer != tenant {
		return ctx, ErrForbidden
	}
	ctx = tenancy.WithTenant(ctx, tenant)
	if m.onTenant != nil {
		ctx = m.onTenant(ctx, tenant)
	}
	return ctx, nil
}

// tenant asks which tenant the request is for, and whether its sender may act for it.
func (m *middleware) tenant(r *http.Request) (string, error) {
	tenant, err := m.resolve(r)
	switch {
	case err != nil:
		return "", err
	case tenant == "":
		return "", ErrNoTenant
	case m.trust:
		return tenant, nil
	}
	is, err := m.authorize(r, tenant)
	switch {
	case err != nil:
		return "", err
	case !is:
		return "", ErrForbidden
	default:
		return tenant, nil
	}
}

// Require guards a route: it lets a request pass only if its context has a tenant, and each function allows it, for
// example by the sender's role. The functions' statements run for that tenant. Else the answer is [ErrNoTenant],
// [ErrForbidden], or the function's error, given as the [Middleware] around it gives its own.
func Require(allow ...func(r *http.Request, tenant string) (bool, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := required(r, allow); err != nil {
				refuse(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func required(r *http.Request, allow []func(*http.Request, string) (bool, error)) error {
	tenant, ok := tenancy.TenantFromContext(r.Context())
	if !ok {
		return ErrNoTenant
	}
	for _, allows := range allow {
		is, err := allows(r, tenant)
		if err != nil {
			return err
		}
		if !is {
			return ErrForbidden
		}
	}
	return nil
}
