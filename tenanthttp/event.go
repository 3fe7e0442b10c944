package tenanthttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/gormtenancy/tenancy"
)

// EventKind is what a [Middleware] did with a request. There are as many as constants, so that a kind can be the label of a metric.
type EventKind string

// The kinds of events.
const (
	// EventAccepted is a request that got its tenant.
	EventAccepted EventKind = "accepted"
	// EventAnonymous is a request without a tenant that [Optional] let pass.
	EventAnonymous EventKind = "anonymous"
	// EventSkipped is a request that [Skip] let pass.
	EventSkipped EventKind = "skipped"
	// EventNoTenant is a request that names no tenant ([ErrNoTenant]).
	EventNoTenant EventKind = "no_tenant"
	// EventMalformed is a request that names its tenant in a wrong way ([ErrMalformed]).
	EventMalformed EventKind = "malformed"
	// EventUnauthenticated is a request without a valid token ([ErrUnauthenticated]).
	EventUnauthenticated EventKind = "unauthenticated"
	// EventUnknownTenant is a request for a tenant that does not exist ([ErrUnknownTenant]).
	EventUnknownTenant EventKind = "unknown_tenant"
	// EventMismatch is a request whose parts name different tenants ([ErrMismatch]).
	EventMismatch EventKind = "mismatch"
	// EventForbidden is a request whose sender may not act for the tenant ([ErrForbidden]), or may not use the route ([Require]).
	EventForbidden EventKind = "forbidden"
	// EventFailed is a request that was refused because of an error of the server, such as a failed lookup.
	EventFailed EventKind = "failed"
)

// An Event is what a [Middleware] did with a request.
type Event struct {
	Kind EventKind
	// Request is the request. It must not be changed.
	Request *http.Request
	// Tenant is the request's tenant. It is empty for a request that was refused before it had one: a name that the client made
	// up must not become the label of a metric.
	Tenant string
	// Err is why the request was refused. It is nil if it passed. Its text may quote what the application's functions returned.
	Err error
}

// OnEvent calls a function for each request, when the middleware has decided about it, and again if [Require] refuses it. It
// is called on the request's goroutine, before the answer, and must be safe for concurrent use. [LogEvents] is one; module
// tenancyotel has one for OpenTelemetry.
func OnEvent(observe func(ctx context.Context, e Event)) Option {
	return func(m *middleware) { m.observe = observe }
}

func (m *middleware) event(r *http.Request, e Event) {
	if m.observe == nil {
		return
	}
	e.Request = r
	e.Tenant, _ = tenancy.TenantFromContext(r.Context())
	m.observe(r.Context(), e)
}

func (m *middleware) accept(r *http.Request) {
	kind := EventAccepted
	if _, ok := tenancy.TenantFromContext(r.Context()); !ok {
		kind = EventAnonymous
	}
	m.event(r, Event{Kind: kind})
}

func kindOf(err error) EventKind {
	for _, k := range []struct {
		err  error
		kind EventKind
	}{
		{ErrUnauthenticated, EventUnauthenticated},
		{ErrNoTenant, EventNoTenant},
		{ErrMalformed, EventMalformed},
		{tenancy.ErrInvalidTenant, EventMalformed},
		{ErrMismatch, EventMismatch},
		{ErrForbidden, EventForbidden},
		{ErrUnknownTenant, EventUnknownTenant},
	} {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return EventFailed
}

// LogEvents returns a function for [OnEvent] that writes what was refused to a log: mismatches, unknown tenants and what the
// sender may not do as warnings, other refusals as Info, and what passed as Debug. A record has the kind, the method and the status, and
// nothing that the client has written. [LogHandler] adds the tenant of requests that have one. Nil means the default logger.
func LogEvents(logger *slog.Logger) func(context.Context, Event) {
	if logger == nil {
		logger = slog.Default()
	}
	return func(ctx context.Context, e Event) {
		if e.Err == nil {
			logger.DebugContext(ctx, "tenanthttp: request passed", "event", string(e.Kind))
			return
		}
		level := slog.LevelInfo
		switch e.Kind {
		case EventMismatch, EventUnknownTenant, EventForbidden, EventFailed:
			level = slog.LevelWarn
		}
		logger.Log(ctx, level, "tenanthttp: request refused", "event", string(e.Kind), "method", method(e.Request), "status", Status(e.Err))
	}
}

// method returns a method that HTTP knows, because a client can make up any other.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	default:
		return "other"
	}
}
