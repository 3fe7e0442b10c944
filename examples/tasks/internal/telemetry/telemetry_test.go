package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/meter"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// kept keeps spans after its end.
type kept struct{ *tracetest.InMemoryExporter }

func (kept) Shutdown(context.Context) error { return nil }

// started returns a Telemetry, and functions that return what it has made.
func started(t *testing.T) (o *Telemetry, spans func() tracetest.SpanStubs, metrics func() string) {
	t.Helper()
	exporter, reader := kept{tracetest.NewInMemoryExporter()}, sdkmetric.NewManualReader()
	o, err := Start(t.Context(), Config{Spans: exporter, Metrics: reader, Tenants: 2})
	require.NoError(t, err)
	t.Cleanup(func() { _ = o.Close(context.Background()) })
	spans = func() tracetest.SpanStubs {
		require.NoError(t, o.traces.ForceFlush(t.Context()))
		return exporter.GetSpans()
	}
	metrics = func() string {
		var all metricdata.ResourceMetrics
		require.NoError(t, reader.Collect(t.Context(), &all))
		text, err := json.Marshal(all)
		require.NoError(t, err)
		return string(text)
	}
	return o, spans, metrics
}

func attributesOf(span tracetest.SpanStub) map[string]string {
	m := map[string]string{}
	for _, a := range span.Attributes {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

type Owl struct {
	ID       int64
	TenantID string
	Name     string `gorm:"uniqueIndex"`
}

// TestStatementsKeepTheirRoundTrips: a write is one round trip with spans, as without them, whichever plugin is installed first.
func TestStatementsKeepTheirRoundTrips(t *testing.T) {
	d := pgserver.New(t)
	owner, err := gorm.Open(postgres.Open(d.Owner.DSN), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	_, err = rls.Isolation{AppRole: d.App.Role}.Migrate(t.Context(), owner, &Owl{})
	require.NoError(t, err)
	closePool(t, owner)
	for n, name := range []string{"tenancy first", "telemetry first"} {
		t.Run(name, func(t *testing.T) {
			o, spans, _ := started(t)
			pool, err := meter.Open(d.App.DSN)
			require.NoError(t, err)
			pool.SetMaxOpenConns(1)
			db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
			require.NoError(t, err)
			defer closePool(t, db)
			plugins := []gorm.Plugin{tenancy.New(tenancy.Config{OnRefuse: o.OnRefuse}), o.GORM()}
			require.NoError(t, db.Use(plugins[n]))
			require.NoError(t, db.Use(plugins[1-n]))
			for _, run := range []string{"cold", "warm"} {
				ctx, counter := meter.WithCounter(tenancy.WithTenant(t.Context(), "hogwarts"))
				require.NoError(t, db.WithContext(ctx).Create(&Owl{Name: name + run}).Error)
				if run == "warm" {
					require.EqualValues(t, 1, counter.RoundTrips())
				}
			}
			ctx := tenancy.WithTenant(t.Context(), "hogwarts")
			require.Error(t, db.WithContext(ctx).Create(&Owl{Name: name + "warm"}).Error)
			require.ErrorIs(t, db.WithContext(ctx).First(&Owl{}, -1).Error, gorm.ErrRecordNotFound)
			require.ErrorIs(t, db.WithContext(t.Context()).First(&Owl{}).Error, tenancy.ErrNoTenant)
			require.NoError(t, db.WithContext(ctx).Table("(SELECT 'hunter2' AS name) AS owls").Find(&[]Owl{}).Error)
			var got []string
			for _, s := range spans() {
				a := attributesOf(s)
				got = append(got, fmt.Sprintf("%s %s %s %s", s.Name, a["db.collection.name"], a["tenant.id"], a["db.response.status_code"]))
				require.NotContains(t, fmt.Sprint(s.Attributes, s.Events, s.Status), "hunter2")
				require.NotContains(t, fmt.Sprint(s.Attributes, s.Events, s.Status), "duplicate")
			}
			require.Equal(t, []string{"INSERT owls hogwarts ", "INSERT owls hogwarts ", "INSERT owls hogwarts 23505", "SELECT owls hogwarts ",
				"SELECT owls  ", "SELECT owls hogwarts "}, got)
		})
	}
}

func closePool(t *testing.T, db *gorm.DB) {
	t.Helper()
	pool, err := db.DB()
	require.NoError(t, err)
	require.NoError(t, pool.Close())
}

// TestJobsHaveTheirTenant, an outcome, and a link to the trace that has inserted them; no error's text.
func TestJobsHaveTheirTenant(t *testing.T) {
	o, spans, metrics := started(t)
	m := o.Jobs().(*jobs)
	request, span := o.tracer.Start(t.Context(), "request")
	params := []*rivertype.JobInsertParams{{Metadata: []byte(`{"tenancy:tenant":"acme"}`)}, {}}
	_, err := m.InsertMany(request, params, func(context.Context) ([]*rivertype.JobInsertResult, error) { return nil, nil })
	require.NoError(t, err)
	span.End()
	require.Contains(t, string(params[0].Metadata), `"tenancy:tenant":"acme"`)
	broken := errors.New("cannot reach hunter2")
	for _, tenant := range []string{"acme", "globex", "initech", "hooli"} {
		job := &rivertype.JobRow{Kind: "mail", Queue: "default", Metadata: params[len(tenant)%2].Metadata}
		require.ErrorIs(t, m.Work(tenancy.WithTenant(t.Context(), tenant), job, func(ctx context.Context) error {
			require.True(t, trace.SpanFromContext(ctx).IsRecording())
			return broken
		}), broken)
	}
	require.NoError(t, m.Work(tenancy.WithoutTenant(t.Context()), &rivertype.JobRow{Kind: "purge", Metadata: []byte(`{"traceparent":"forged"}`)},
		func(context.Context) error { return nil }))
	require.Panics(t, func() {
		_ = m.Work(t.Context(), &rivertype.JobRow{Kind: "purge"}, func(context.Context) error { panic("hunter2") })
	})
	seen := map[string]int{}
	for _, s := range spans() {
		require.NotContains(t, fmt.Sprint(s.Attributes, s.Events, s.Status), "hunter2")
		if s.Name == "job mail" {
			seen[attributesOf(s)["tenant.id"]]++
			require.Len(t, s.Links, 1)
			require.Equal(t, span.SpanContext().TraceID(), s.Links[0].SpanContext.TraceID())
			require.NotEqual(t, span.SpanContext().TraceID(), s.SpanContext.TraceID())
		}
	}
	require.Equal(t, map[string]int{"acme": 1, "globex": 1, "initech": 1, "hooli": 1}, seen)
	text := metrics()
	require.Contains(t, text, `"globex"`)
	require.NotContains(t, text, `"initech"`, "the bound is 2")
	for _, outcome := range []string{"done", "failed", "panicked", other, none} {
		require.Contains(t, text, `"`+outcome+`"`)
	}
}

// TestMiddlewareTrustsNothingOfAClient: neither its trace, nor its Host.
func TestMiddlewareTrustsNothingOfAClient(t *testing.T) {
	o, spans, metrics := started(t)
	h := o.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := o.OnTenant(r.Context(), r.Header.Get("Tenant"))
		require.True(t, trace.SpanFromContext(ctx).IsRecording())
	}))
	const theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
	for n, tenant := range []string{"acme", "globex"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = fmt.Sprintf("made-up-%d.example:%d", n, 1000+n)
		r.Header.Set("Tenant", tenant)
		r.Header.Set("Traceparent", "00-"+theirs+"-00f067aa0ba902b7-00") // and says that it is not to be sampled
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	require.Len(t, spans(), 2)
	for _, s := range spans() {
		require.NotEqual(t, theirs, s.SpanContext.TraceID().String())
		require.Len(t, s.Links, 1)
	}
	text := metrics()
	require.NotContains(t, text, "made-up")
	require.NotContains(t, text, "1001")
	require.Contains(t, text, "http.server.request.duration")
}

// TestTenantsAreBounded, also when many come at once.
func TestTenantsAreBounded(t *testing.T) {
	many := &tenants{max: 10, known: map[string]struct{}{}}
	var all sync.WaitGroup
	var labels sync.Map
	for n := range 8 {
		all.Go(func() {
			for i := range 1000 {
				labels.Store(many.label(fmt.Sprint("tenant-", n*500+i)).Value.AsString(), true)
			}
		})
	}
	all.Wait()
	count := 0
	labels.Range(func(any, any) bool { count++; return true })
	require.Equal(t, 11, count)
	require.Equal(t, none, many.label("").Value.AsString())
}

// TestEnvironment: nothing is exported by default, and a wrong variable is an error that names it, or what it may be.
func TestEnvironment(t *testing.T) {
	for _, name := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"} {
		t.Setenv(name, "")
	}
	o, err := Start(t.Context(), Config{})
	require.NoError(t, err)
	_, span := o.tracer.Start(t.Context(), "dropped")
	require.False(t, span.IsRecording())
	require.NoError(t, o.Close(t.Context()))

	got := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.URL.Path }))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	o, err = Start(t.Context(), Config{})
	require.NoError(t, err)
	_, span = o.tracer.Start(t.Context(), "exported")
	span.End()
	o.requests.Add(t.Context(), 1)
	require.NoError(t, o.Close(t.Context()))
	close(got)
	paths := map[string]bool{}
	for path := range got {
		paths[path] = true
	}
	require.Equal(t, map[string]bool{"/v1/traces": true, "/v1/metrics": true}, paths)

	t.Setenv("OTEL_METRICS_EXPORTER", "hunter2")
	_, err = Start(t.Context(), Config{})
	require.ErrorContains(t, err, "OTEL_METRICS_EXPORTER")
	require.NotContains(t, err.Error(), "hunter2")
}
