package telemetry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/gormtenancy/tenancy"
)

// Jobs is a middleware of River's that makes a span of each job and counts it. Put it after the middleware that gives a job its tenant. In a
// client that inserts jobs, it notes the trace of the request, which the job's span then links to.
//
// River's own middleware for OpenTelemetry (otelriver) puts the texts of errors into spans, and tags, which are anything, into metrics.
func (t *Telemetry) Jobs() rivertype.Middleware { return &jobs{telemetry: t} }

type jobs struct {
	river.MiddlewareDefaults
	telemetry *Telemetry
}

// parentKey is where the metadata of a job have the trace of who inserted it (W3C Trace Context).
const parentKey = "traceparent"

// InsertMany notes the trace.
func (j *jobs) InsertMany(ctx context.Context, params []*rivertype.JobInsertParams, insert func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	trace := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, trace)
	if parent := trace[parentKey]; parent != "" {
		for _, p := range params {
			metadata := map[string]json.RawMessage{}
			if len(p.Metadata) > 0 && json.Unmarshal(p.Metadata, &metadata) != nil {
				continue // River says what is wrong with it
			}
			metadata[parentKey], _ = json.Marshal(parent)
			if with, err := json.Marshal(metadata); err == nil {
				p.Metadata = with
			}
		}
	}
	return insert(ctx)
}

// Work makes the span.
func (j *jobs) Work(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) (err error) {
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("job.kind", job.Kind), attribute.String("job.queue", job.Queue), attribute.Int("job.attempt", job.Attempt), attribute.Int64("job.id", job.ID))}
	var metadata struct {
		Parent string `json:"traceparent"`
	}
	if json.Unmarshal(job.Metadata, &metadata) == nil {
		from := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{parentKey: metadata.Parent}))
		if from.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
		}
	}
	tenant, _ := tenancy.TenantFromContext(ctx)
	if tenant != "" {
		options = append(options, trace.WithAttributes(tenantID.String(tenant)))
	}
	ctx, span := j.telemetry.tracer.Start(ctx, "job "+job.Kind, options...)
	outcome := "panicked"
	defer func() {
		if outcome != "done" {
			span.SetStatus(codes.Error, "")
		}
		span.End()
		j.telemetry.jobs.Add(ctx, 1, metric.WithAttributes(
			j.telemetry.tenants.label(tenant), attribute.String("job.kind", job.Kind), attribute.String("job.outcome", outcome)))
	}()
	if err = work(ctx); err != nil {
		outcome = "failed"
		span.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", err)))
		return err
	}
	outcome = "done"
	return nil
}
