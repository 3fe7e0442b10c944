// Package tenancyotel reports to OpenTelemetry what package tenancy refuses and bypasses, and what package tenanthttp decides about
// requests: as counters, and as attributes of the current span.
//
//	telemetry, err := tenancyotel.New(nil)
//	db.Use(tenancy.New(tenancy.Config{OnBypass: telemetry.OnBypass, OnRefuse: telemetry.OnRefuse}))
//	withTenant := tenanthttp.Middleware(resolve, authorize, tenanthttp.OnEvent(telemetry.OnEvent))
//
// The attributes of counters have few values: kinds of events, operations and reasons. No tenant's id is among them, and no name that a client
// has sent. Spans have the id of the tenant of requests that were accepted. Only the gauges of ObserveBusiest name tenants, and few of them.
package tenancyotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// Telemetry has the functions to report to. It is safe for concurrent use.
type Telemetry struct {
	requests, refusals, bypasses metric.Int64Counter
	meter                        metric.Meter
}

// New makes the counters tenancy.requests, tenancy.refusals and tenancy.bypasses. Nil means the global provider of package otel. The errors are
// those of the provider.
func New(provider metric.MeterProvider) (*Telemetry, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter("github.com/gormtenancy/tenancy/tenancyotel")
	requests, err1 := meter.Int64Counter("tenancy.requests", metric.WithUnit("{request}"), metric.WithDescription("Requests, by what was decided about their tenant"))
	refusals, err2 := meter.Int64Counter("tenancy.refusals", metric.WithUnit("{statement}"), metric.WithDescription("Statements that were refused, by operation and reason"))
	bypasses, err3 := meter.Int64Counter("tenancy.bypasses", metric.WithUnit("{statement}"), metric.WithDescription("Statements of the bypass client"))
	return &Telemetry{requests, refusals, bypasses, meter}, errors.Join(err1, err2, err3)
}

// OnEvent is for tenanthttp.OnEvent.
func (t *Telemetry) OnEvent(ctx context.Context, e tenanthttp.Event) {
	kind := attribute.String("tenancy.event", string(e.Kind))
	t.requests.Add(ctx, 1, metric.WithAttributes(kind))
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(kind)
	if e.Tenant != "" {
		span.SetAttributes(attribute.String("tenant.id", e.Tenant))
	}
}

// OnRefuse is for tenancy.Config.OnRefuse.
func (t *Telemetry) OnRefuse(ctx context.Context, r tenancy.Refusal) {
	attributes := []attribute.KeyValue{attribute.String("tenancy.operation", r.Operation), attribute.String("tenancy.reason", reason(r.Err))}
	t.refusals.Add(ctx, 1, metric.WithAttributes(attributes...))
	trace.SpanFromContext(ctx).AddEvent("tenancy.refused", trace.WithAttributes(attributes...))
}

// OnBypass is for tenancy.Config.OnBypass. It counts a statement when its outcome is known, and tells the span the reason of Bypass.
func (t *Telemetry) OnBypass(ctx context.Context, e tenancy.BypassEvent) {
	if e.Phase == tenancy.BypassBegin {
		return
	}
	t.bypasses.Add(ctx, 1, metric.WithAttributes(attribute.Bool("tenancy.read_only", e.ReadOnly), attribute.Bool("tenancy.failed", e.Failed)))
	trace.SpanFromContext(ctx).AddEvent("tenancy.bypass", trace.WithAttributes(
		attribute.String("tenancy.reason", e.Reason), attribute.Bool("tenancy.read_only", e.ReadOnly), attribute.Bool("tenancy.failed", e.Failed)))
}

// reason names the sentinel in an error.
func reason(err error) string {
	for _, r := range []struct {
		err  error
		name string
	}{
		{tenancy.ErrNoTenant, "no_tenant"},
		{tenancy.ErrTenantMismatch, "mismatch"},
		{tenancy.ErrInvalidTenant, "invalid_tenant"},
		{tenancy.ErrNotIsolated, "not_isolated"},
		{tenancy.ErrUnsafeRole, "unsafe_role"},
		{tenancy.ErrUnsafeDatabase, "unsafe_database"},
		{tenancy.ErrNoAdminRole, "no_admin_role"},
		{tenancy.ErrForeignCallback, "foreign_callback"},
		{tenancy.ErrInTransaction, "in_transaction"},
	} {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "other"
}
