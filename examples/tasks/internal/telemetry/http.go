package telemetry

import (
	"context"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// request is what becomes known of a request only within.
type request struct{ tenant string }

type requestKey struct{}

// Middleware makes a span of each request, and counts it. It belongs within chi's router, around everything else.
//
// A trace that a client names becomes a link: it does not decide what is sampled, and joins no trace of another tenant. What a client names as
// Host is not in metrics, because a client can send any number of names.
func (t *Telemetry) Middleware(next http.Handler) http.Handler {
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		about := &request{}
		answer := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		next.ServeHTTP(answer, r.WithContext(context.WithValue(r.Context(), requestKey{}, about)))
		route := "(no route)"
		if c := chi.RouteContext(r.Context()); c != nil && c.RoutePattern() != "" {
			route = c.RoutePattern()
		}
		span := trace.SpanFromContext(r.Context())
		span.SetName(methodOf(r) + " " + route)
		span.SetAttributes(attribute.String("http.route", route))
		if labels, ok := otelhttp.LabelerFromContext(r.Context()); ok {
			labels.Add(attribute.String("http.route", route))
		}
		class := "2xx"
		if status := answer.Status(); status > 0 {
			class = strconv.Itoa(status/100) + "xx"
		}
		t.requests.Add(r.Context(), 1, metric.WithAttributes(t.tenants.label(about.tenant), attribute.String("http.status_class", class)))
	})
	return otelhttp.NewHandler(counted, "request",
		otelhttp.WithTracerProvider(t.traces), otelhttp.WithMeterProvider(t.metrics),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return true }),
		otelhttp.WithServerName("tasks:0"),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return methodOf(r) }))
}

// OnTenant is for api.Seams: it notes the tenant of a request.
func (t *Telemetry) OnTenant(ctx context.Context, tenant string) context.Context {
	if about, ok := ctx.Value(requestKey{}).(*request); ok {
		about.tenant = tenant
	}
	trace.SpanFromContext(ctx).SetAttributes(tenantID.String(tenant))
	return ctx
}

// methodOf returns the method, or "HTTP" for one that a client has made up.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	default:
		return "HTTP"
	}
}
