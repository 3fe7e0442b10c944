package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/telemetry"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// observed starts the application, and returns what it has exported once it is closed by the returned function.
func observed(t *testing.T, tenants int) (a *App, end func() (spans tracetest.SpanStubs, metrics string)) {
	t.Helper()
	exporter := kept{InMemoryExporter: tracetest.NewInMemoryExporter()}
	reader := sdkmetric.NewManualReader()
	a = start(t, func(_ *pgserver.Database, cfg *Config) {
		cfg.Telemetry = telemetry.Config{Spans: exporter, Metrics: reader, Tenants: tenants}
	})
	return a, func() (tracetest.SpanStubs, string) {
		var all metricdata.ResourceMetrics
		require.NoError(t, reader.Collect(t.Context(), &all))
		text, err := json.Marshal(all)
		require.NoError(t, err)
		require.NoError(t, a.telemetry.Close(t.Context()))
		a.telemetry = nil
		return exporter.GetSpans(), string(text)
	}
}

// kept keeps spans after its end.
type kept struct{ *tracetest.InMemoryExporter }

func (kept) Shutdown(context.Context) error { return nil }

func attributesOf(span tracetest.SpanStub) map[string]string {
	m := map[string]string{}
	for _, a := range span.Attributes {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

// TestSpansHaveTheirTenant: each span of a tenant's request has the tenant, those of statements are below that of the request, and no span has
// another's.
func TestSpansHaveTheirTenant(t *testing.T) {
	a, end := observed(t, 0)
	acme, globex := clients(t, a)
	for _, c := range []client{acme, globex} {
		c.want(http.StatusCreated, http.MethodPost, "/v1/projects", object{"name": "Observed"})
	}
	spans, _ := end()
	requests := map[string]string{} // trace to tenant
	for _, s := range spans {
		if s.Name == "POST /v1/projects" {
			require.Equal(t, "/v1/projects", attributesOf(s)["http.route"])
			requests[s.SpanContext.TraceID().String()] = attributesOf(s)["tenant.id"]
		}
	}
	require.Len(t, requests, 2)
	inserts := map[string]int{}
	for _, s := range spans {
		tenant, ok := requests[s.SpanContext.TraceID().String()]
		if !ok {
			continue
		}
		if of, ok := attributesOf(s)["tenant.id"]; ok {
			require.Equal(t, tenant, of, s.Name)
		}
		if s.Name == "INSERT" && attributesOf(s)["db.collection.name"] == "projects" {
			require.True(t, s.Parent.IsValid())
			require.Equal(t, "1", attributesOf(s)["db.response.returned_rows"])
			inserts[tenant]++
		}
	}
	require.Equal(t, map[string]int{"acme": 1, "globex": 1}, inserts)
}

// TestTelemetryHasNoValues: what is a tenant's or a secret is in neither spans nor metrics, whatever becomes of the request. Nor does a client
// decide how many values an attribute of a metric has.
func TestTelemetryHasNoValues(t *testing.T) {
	a, end := observed(t, 0)
	acme, _ := clients(t, a)
	const secret = "hunter2"
	acme.want(http.StatusCreated, http.MethodPost, "/v1/projects", object{"name": secret + " project"})
	acme.want(http.StatusConflict, http.MethodPost, "/v1/projects", object{"name": secret + " project"})
	acme.do(http.MethodPost, "/v1/projects", object{"name": secret + "\x00"})
	acme.do(http.MethodPost, "/v1/projects", `{"`+secret+`": }`)
	acme.do(http.MethodGet, "/v1/projects?q="+secret+"&cursor="+secret, nil, "Cookie", secret, "Authorization", "Bearer "+secret, "Baggage", "a="+secret)
	acme.do(http.MethodGet, "/v1/projects", nil, "X-API-Key", "tasks_demo_"+secret)
	acme.do("HUNTER2", "/v1/projects", nil)
	require.Error(t, a.db.WithContext(tenancy.WithTenant(t.Context(), "acme")).Exec("SELECT '"+secret+"'::integer").Error)
	require.Error(t, a.db.Exec("SELECT '"+secret+"'").Error, "without a tenant")
	spans, metrics := end()
	require.Greater(t, len(spans), 10)
	for _, s := range spans {
		text := strings.ToLower(fmt.Sprint(s.Name, s.Attributes, s.Events, s.Links, s.Status))
		if method := "http.request.method_original"; strings.Contains(text, method) {
			continue // the method that the client has made up, as OpenTelemetry demands
		}
		require.NotContains(t, text, secret, s.Name)
		require.NotContains(t, text, strings.ToLower(AcmeKey))
	}
	require.NotContains(t, strings.ToLower(metrics), secret)
	require.Contains(t, metrics, "tasks.requests")
	require.Contains(t, metrics, "tenancy.refusals")
}

// TestMetricsAreBounded: with tenants that sign up, and names that a client makes up, there are no more series.
func TestMetricsAreBounded(t *testing.T) {
	a, end := observed(t, 1)
	acme, globex := clients(t, a)
	anyone := client{t, a.Handler(), ""}
	for n := range 20 {
		signed := anyone.do(http.MethodPost, "/v1/signup", object{"tenant": fmt.Sprint("made-up-", n), "name": "Made up"})
		require.Equal(t, http.StatusCreated, signed.status, signed.text)
	}
	acme.want(http.StatusOK, http.MethodGet, "/v1/projects", nil)
	for n := range 20 {
		globex.do(http.MethodGet, fmt.Sprint("/v1/made-up-", n), nil)
		globex.do(fmt.Sprint("MADE-UP-", n), "/v1/projects", nil)
		globex.want(http.StatusOK, http.MethodGet, "/v1/projects", nil)
	}
	_, metrics := end()
	require.NotContains(t, strings.ToLower(metrics), "made-up")
	require.Contains(t, metrics, `"acme"`)
	require.NotContains(t, metrics, `"globex"`, "the bound is 1")
	require.Contains(t, metrics, "(other tenants)")
}
