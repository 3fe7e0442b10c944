// Package telemetry makes traces and metrics of requests, statements and jobs, by OpenTelemetry.
//
// Spans have the id of their tenant (tenant.id). Metrics have it for a bounded number of tenants, and "other" beyond, because each value of an
// attribute of a metric takes memory for as long as the process lives. Neither has the text of a statement, a value of one, the text of an
// error, a header or a body: those can hold what is a tenant's, or a secret.
//
// By default nothing is exported. The variables of OpenTelemetry say where to
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables): OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318
// exports all, OTEL_TRACES_EXPORTER=console prints spans, and OTEL_METRICS_EXPORTER=prometheus serves metrics at localhost:9464/metrics.
package telemetry

import (
	"context"
	"errors"
	"os"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/gormtenancy/tenancy/tenancyotel"
)

const scope = "github.com/gormtenancy/tenancy/examples/tasks"

// Config says where traces and metrics go. The zero value asks the environment.
type Config struct {
	Spans   sdktrace.SpanExporter
	Metrics sdkmetric.Reader
	// Tenants is the number of tenants whose ids metrics show: the first ones that are seen. Zero means 100.
	Tenants int
}

// Errors of the environment. What it says is not in them, because an endpoint can hold a password.
var (
	errTraces   = errors.New("telemetry: the exporter of traces cannot be made: check OTEL_TRACES_EXPORTER (otlp, console, none) and OTEL_EXPORTER_OTLP_*")
	errMetrics  = errors.New("telemetry: the exporter of metrics cannot be made: check OTEL_METRICS_EXPORTER (otlp, prometheus, console, none) and OTEL_EXPORTER_OTLP_*")
	errResource = errors.New("telemetry: OTEL_RESOURCE_ATTRIBUTES must be name=value pairs, separated by commas")
)

// Telemetry makes spans and counts. It is safe for concurrent use. It has the functions of tenancyotel: OnEvent, OnRefuse, OnBypass.
type Telemetry struct {
	*tenancyotel.Telemetry
	traces   *sdktrace.TracerProvider
	metrics  *sdkmetric.MeterProvider
	tracer   trace.Tracer
	tenants  *tenants
	requests metric.Int64Counter
	jobs     metric.Int64Counter
}

// Start starts exporting. An error says which variable of the environment is wrong.
func Start(ctx context.Context, cfg Config) (_ *Telemetry, err error) {
	if cfg.Tenants <= 0 {
		cfg.Tenants = 100
	}
	if cfg.Spans == nil {
		if cfg.Spans, err = spanExporter(ctx); err != nil {
			return nil, errTraces
		}
	}
	if cfg.Metrics == nil {
		if cfg.Metrics, err = metricReader(ctx); err != nil {
			err = errMetrics
			if cfg.Spans != nil {
				err = errors.Join(err, cfg.Spans.Shutdown(ctx))
			}
			return nil, err
		}
	}
	// Not the process's arguments, in which passwords may stand.
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "tasks")), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		err = errors.Join(errResource, cfg.Metrics.Shutdown(ctx))
		if cfg.Spans != nil {
			err = errors.Join(err, cfg.Spans.Shutdown(ctx))
		}
		return nil, err
	}
	t := &Telemetry{tenants: &tenants{max: cfg.Tenants, known: map[string]struct{}{}}}
	exported := sdktrace.WithSampler(sdktrace.NeverSample())
	if cfg.Spans != nil && !autoexport.IsNoneSpanExporter(cfg.Spans) {
		exported = sdktrace.WithBatcher(cfg.Spans)
	}
	t.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(about), exported)
	t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithResource(about), sdkmetric.WithReader(cfg.Metrics))
	t.tracer = t.traces.Tracer(scope)
	meter := t.metrics.Meter(scope)
	var errs [3]error
	t.requests, errs[0] = meter.Int64Counter("tasks.requests", metric.WithUnit("{request}"), metric.WithDescription("Requests, by tenant and class of status"))
	t.jobs, errs[1] = meter.Int64Counter("tasks.jobs", metric.WithUnit("{job}"), metric.WithDescription("Jobs that were worked, by tenant, kind and outcome"))
	t.Telemetry, errs[2] = tenancyotel.New(t.metrics)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, t.Close(ctx))
	}
	return t, nil
}

// Close exports what is left, and ends. It returns the context's error if that ends first.
func (t *Telemetry) Close(ctx context.Context) error {
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx))
}

// isConfigured reports whether the environment names an OTLP endpoint for a signal.
func isConfigured(signal string) bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// spanExporter returns nil where nothing is configured.
func spanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if isConfigured("TRACES") || os.Getenv("OTEL_TRACES_EXPORTER") != "" {
		return autoexport.NewSpanExporter(ctx)
	}
	return nil, nil //nolint:nilnil // as it says
}

func metricReader(ctx context.Context) (sdkmetric.Reader, error) {
	if isConfigured("METRICS") || os.Getenv("OTEL_METRICS_EXPORTER") != "" {
		return autoexport.NewMetricReader(ctx)
	}
	return sdkmetric.NewManualReader(), nil // which nothing reads
}
