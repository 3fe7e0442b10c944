package tenancyotel_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenancyotel"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// counts returns the value of each counter by its attributes.
func counts(t *testing.T, reader *metric.ManualReader) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	all := map[string]int64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			}
			for _, point := range points {
				all[m.Name+" "+point.Attributes.Encoded(attribute.DefaultEncoder())] = point.Value
			}
		}
	}
	return all
}

// TestRequestsAreCounted: many made-up tenants are one series, and their names are nowhere.
func TestRequestsAreCounted(t *testing.T) {
	reader, spans := metric.NewManualReader(), tracetest.NewInMemoryExporter()
	telemetry, err := tenancyotel.New(metric.NewMeterProvider(metric.WithReader(reader)))
	require.NoError(t, err)
	tracer := trace.NewTracerProvider(trace.WithSyncer(spans)).Tracer("test")

	find := tenanthttp.FinderFunc(func(_ context.Context, name string) (string, error) {
		if name == "acme" {
			return "17", nil
		}
		return "", tenanthttp.ErrUnknownTenant
	})
	handler := tenanthttp.Middleware(tenanthttp.Lookup(tenanthttp.Header("X-Tenant"), find), tenanthttp.DangerouslyTrustResolver(),
		tenanthttp.OnEvent(telemetry.OnEvent))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	send := func(tenant string) {
		ctx, span := tracer.Start(t.Context(), "request")
		defer span.End()
		r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
		r.Header.Set("X-Tenant", tenant)
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	send("acme")
	for i := range 100 {
		send(fmt.Sprint("madeup", i))
	}
	require.Equal(t, map[string]int64{
		"tenancy.requests tenancy.event=accepted": 1, "tenancy.requests tenancy.event=unknown_tenant": 100,
	}, counts(t, reader))
	all := spans.GetSpans()
	require.ElementsMatch(t, []attribute.KeyValue{attribute.String("tenancy.event", "accepted"), attribute.String("tenant.id", "17")}, all[0].Attributes)
	require.Equal(t, []attribute.KeyValue{attribute.String("tenancy.event", "unknown_tenant")}, all[1].Attributes)
}

func TestRefusalsAndBypassesAreCounted(t *testing.T) {
	reader := metric.NewManualReader()
	telemetry, err := tenancyotel.New(metric.NewMeterProvider(metric.WithReader(reader)))
	require.NoError(t, err)
	telemetry.OnRefuse(t.Context(), tenancy.Refusal{Operation: "query", Table: "orders", Err: fmt.Errorf("x: %w", tenancy.ErrTenantMismatch)})
	telemetry.OnRefuse(t.Context(), tenancy.Refusal{Operation: "raw", Err: fmt.Errorf("another")})
	telemetry.OnRefuse(t.Context(), tenancy.Refusal{Operation: "resolve", Err: fmt.Errorf("x: %w", tenancy.ErrUnsafeRole)})
	telemetry.OnRefuse(t.Context(), tenancy.Refusal{Operation: "resolve", Err: fmt.Errorf("x: %w", tenancy.ErrUnsafeDatabase)})
	telemetry.OnBypass(t.Context(), tenancy.BypassEvent{Phase: tenancy.BypassBegin, Reason: "report"})
	telemetry.OnBypass(t.Context(), tenancy.BypassEvent{Phase: tenancy.BypassEnd, Reason: "report", ReadOnly: true})
	require.Equal(t, map[string]int64{
		"tenancy.refusals tenancy.operation=query,tenancy.reason=mismatch":          1,
		"tenancy.refusals tenancy.operation=raw,tenancy.reason=other":               1,
		"tenancy.refusals tenancy.operation=resolve,tenancy.reason=unsafe_role":     1,
		"tenancy.refusals tenancy.operation=resolve,tenancy.reason=unsafe_database": 1,
		"tenancy.bypasses tenancy.failed=false,tenancy.read_only=true":              1,
	}, counts(t, reader))
	_, err = tenancyotel.New(nil)
	require.NoError(t, err)
}

// TestBusiestTenantsAreFew: a thousand tenants are three series of a gauge, and those who are not busy any more are none.
func TestBusiestTenantsAreFew(t *testing.T) {
	reader := metric.NewManualReader()
	telemetry, err := tenancyotel.New(metric.NewMeterProvider(metric.WithReader(reader)))
	require.NoError(t, err)
	loads := []tenancy.TenantLoad{{Tenant: "acme", InUse: 4, Waiting: 60}, {Tenant: "globex", InUse: 2, Waiting: 1}, {Tenant: "", InUse: 1}}
	for i := range 1000 {
		loads = append(loads, tenancy.TenantLoad{Tenant: fmt.Sprint("tenant-", i), InUse: 1})
	}
	registration, err := telemetry.ObserveBusiest(func(n int) []tenancy.TenantLoad { return loads[:min(n, len(loads))] }, 2)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{
		"tenancy.connections.used tenant.id=acme":           4,
		"tenancy.connections.used tenant.id=globex":         2,
		"tenancy.connections.used tenancy.tenants=other":    1001,
		"tenancy.connections.waiting tenant.id=acme":        60,
		"tenancy.connections.waiting tenant.id=globex":      1,
		"tenancy.connections.waiting tenancy.tenants=other": 0,
	}, counts(t, reader))

	loads = []tenancy.TenantLoad{{Tenant: "", InUse: 1}, {Tenant: "initech", InUse: 1}}
	require.Equal(t, map[string]int64{
		"tenancy.connections.used tenant.id=initech":        1,
		"tenancy.connections.used tenancy.tenants=other":    1,
		"tenancy.connections.waiting tenant.id=initech":     0,
		"tenancy.connections.waiting tenancy.tenants=other": 0,
	}, counts(t, reader))
	require.NoError(t, registration.Unregister())
	require.Empty(t, counts(t, reader))
	for _, n := range []int{-1, 0, 101} {
		_, err := telemetry.ObserveBusiest(nil, n)
		require.ErrorContains(t, err, "must be 1 to 100")
	}
}
