package tenanthttp

import (
	"context"
	"errors"
	"net/http"
	"path"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp/internal/decoy"
	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// middleware is the configuration that Middleware makes of its options. Only the decoy changes afterwards.
type middleware struct {
	resolve   Resolver
	authorize func(*http.Request, string) (bool, error)
	trust     bool
	optional  bool
	skip      *http.ServeMux
	reveal    bool
	onError   func(http.ResponseWriter, *http.Request, error)
	onTenant  func(context.Context, string) context.Context
	observe   func(context.Context, Event)
	shared    bool
	decoy     decoy.Decoy
}

// An Option changes what [Middleware] does.
type Option func(*middleware)

// Authorize makes the middleware ask whether the sender of the request may act for the tenant. If not, the answer is
// [ErrForbidden]. The sender must be known by then: authenticate in a middleware before this one, or by a token. The request's
// context is one of tenancy.WithoutTenant, because the tenant is not decided yet: a table of memberships must be one that can be
// read then (tenancy.OwnRowsModel, tenancy.Config.LookupRole).
//
// Ask the database, not only the session or the token, so that a revoked membership ends with the next request.
//
// Without [RevealTenants] it is also called for a tenant that does not exist, with an id that no tenant has, because otherwise the
// time of the answer would show which tenants exist. The request is refused whatever it returns.
func Authorize(is func(r *http.Request, tenant string) (bool, error)) Option {
	return func(m *middleware) { m.authorize = is }
}

// DangerouslyTrustResolver lets any sender act for the tenant that the request names. That is right for public pages, and for
// tenants that come from a signed token. With [Header], [Cookie], [PathValue] or [Subdomain] alone, every sender can act for
// every tenant.
func DangerouslyTrustResolver() Option {
	return func(m *middleware) { m.trust = true }
}

// Optional lets requests pass that name no tenant. Their context says nothing about a tenant: statements are refused until the
// handler uses tenancy.WithoutTenant, and then see shared tables and what a lookup role may read. Use [Require] on routes that need a tenant.
func Optional() Option {
	return func(m *middleware) { m.optional = true }
}

// Skip makes the middleware pass on requests unchanged that match one of the patterns of [http.ServeMux], such as "GET /healthz"
// or "/static/".
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

// RevealTenants answers 404 for a tenant that does not exist. Without it the answer is 403, as for a tenant that the sender may
// not act for, so that guessing does not show which tenants exist.
func RevealTenants() Option {
	return func(m *middleware) { m.reveal = true }
}

// OnError replaces the answer to requests that are refused, by the middleware or by a [Require] inside it. The default is
// [Problem]. [Status] and errors.Is tell the errors of this package from those of the server, whose text is not for clients.
func OnError(answer func(w http.ResponseWriter, r *http.Request, err error)) Option {
	return func(m *middleware) { m.onError = answer }
}

// OnTenant is called with each request's context once it has its tenant, and returns the context that the handler gets. Use it
// to add the tenant to traces and logs.
//
//	tenanthttp.OnTenant(func(ctx context.Context, tenant string) context.Context {
//		trace.SpanFromContext(ctx).SetAttributes(attribute.String("tenant.id", tenant))
//		return ctx
//	})
func OnTenant(hook func(ctx context.Context, tenant string) context.Context) Option {
	return func(m *middleware) { m.onTenant = hook }
}

// Middleware puts the tenant of each request into its context, as tenancy.WithTenant does, and answers requests that it refuses.
//
// It makes responses private, so that no shared cache serves one tenant's page to another: Cache-Control has "private" or
// "no-store" whatever the handler sets ("max-age=60" becomes "private, max-age=60"), headers that command a CDN apart from it are
// removed, and Vary names the request headers that the tenant and its sender were found by, so that a browser keeps tenants apart
// as well. [DangerouslyAllowSharedCaching] leaves Cache-Control to the handler. The handler's ResponseWriter is a [http.Flusher],
// [http.Hijacker] or [http.Pusher] if the server's is one.
//
// It needs either [Authorize] or [DangerouslyTrustResolver], and panics otherwise, as it does for a nil resolver or a bad
// pattern of [Skip]. If one middleware is inside another, both must find the same tenant.
func Middleware(resolve Resolver, options ...Option) func(http.Handler) http.Handler {
	m := &middleware{resolve: resolve}
	for _, option := range options {
		option(m)
	}
	switch {
	case resolve == nil:
		panic("tenanthttp: Middleware has no Resolver: pass one, such as tenanthttp.Header")
	case (m.authorize == nil) == !m.trust:
		panic("tenanthttp: Middleware needs either Authorize, which says who may act for a tenant, or DangerouslyTrustResolver")
	}
	if m.onError == nil {
		m.onError = m.problem
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if m.skips(r) {
				m.event(r, Event{Kind: EventSkipped})
				next.ServeHTTP(w, r)
				return
			}
			m.serve(w, r, next)
		})
	}
}

// serve passes a request on with its tenant, or answers it.
func (m *middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	ctx, notes := request.With(r.Context())
	ctx, err := m.context(r.WithContext(ctx))
	ctx = context.WithValue(ctx, refuseKey{}, m)
	if m.authorize != nil {
		notes.DependsOn("Authorization", "Cookie") // by which the sender may be known
	}
	private := newPrivate(w, notes.Vary(), m.shared)
	defer private.fix() // of a handler that writes nothing
	r = r.WithContext(ctx)
	if err != nil {
		m.refuse(private.writer(), r, err)
		return
	}
	m.accept(r)
	next.ServeHTTP(private.writer(), r)
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

// context returns the context of a request with its tenant, or the request's own context if it is refused.
func (m *middleware) context(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	lookup := tenancy.WithoutTenant(ctx)
	tenant, err := m.tenant(r.WithContext(lookup))
	if err != nil {
		request.Of(ctx).Refuse(lookup)
	}
	if m.optional && errors.Is(err, ErrNoTenant) {
		return ctx, nil
	}
	if err != nil {
		return ctx, err
	}
	if outer, ok := tenancy.TenantFromContext(ctx); ok && outer != tenant {
		return ctx, ErrMismatch
	}
	ctx = tenancy.WithTenant(ctx, tenant)
	if m.onTenant != nil {
		ctx = m.onTenant(ctx, tenant)
	}
	return ctx, nil
}

// tenant finds out which tenant the request is for, and whether its sender may act for it.
func (m *middleware) tenant(r *http.Request) (string, error) {
	tenant, err := m.resolve(r)
	switch {
	case err != nil && m.authorize != nil && !m.reveal && (errors.Is(err, ErrUnknownTenant) || errors.Is(err, ErrForbidden)):
		return "", m.authorizeDecoy(r, err)
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
		m.decoy.Learn(tenant)
		return tenant, nil
	}
}

// authorizeDecoy asks about a tenant that does not exist, and returns the error of that question, or why the request is refused.
func (m *middleware) authorizeDecoy(r *http.Request, refused error) error {
	id, fits := m.decoy.ID()
	_, err := m.authorize(r, id)
	if err != nil && (fits || Status(err) < http.StatusInternalServerError) {
		return err
	}
	return refused
}

// Require lets a request pass only if its context has a tenant and each function allows it, for example by the sender's role.
// The functions' statements run for that tenant. Otherwise the answer is [ErrNoTenant], [ErrForbidden], or the function's error,
// in the form of the [Middleware] around it.
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
