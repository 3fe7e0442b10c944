package compat

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	client "github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/plugin/opentelemetry/metrics"
	"gorm.io/plugin/opentelemetry/tracing"
	"gorm.io/plugin/prometheus"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// driverTracer is what a tracer of pgx sees: the span that was current when a statement was sent.
type driverTracer struct{ parents []trace.SpanID }

func (d *driverTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	d.parents = append(d.parents, trace.SpanContextFromContext(ctx).SpanID())
	return ctx
}

func (d *driverTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// below counts the statements that were sent below one of these spans.
func (d *driverTracer) below(spans map[trace.SpanID]bool) (n int) {
	for _, parent := range d.parents {
		if spans[parent] {
			n++
		}
	}
	return n
}

// traced are operations, and the spans below that of the request.
var traced = []struct {
	name string
	run  func(db *gorm.DB) error
	want []string
}{
	{"First", func(db *gorm.DB) error { return db.First(&Order{}).Error }, []string{"select orders"}},
	{"Create", func(db *gorm.DB) error { return db.Create(&Order{}).Error }, []string{"insert orders"}},
	{"Update", func(db *gorm.DB) error {
		return db.Model(&Order{}).Where("true").Update("item", "x").Error
	}, []string{"update orders"}},
	{"Delete", func(db *gorm.DB) error { return db.Delete(&Order{}, 0).Error }, []string{"delete orders"}},
	{"Exec", func(db *gorm.DB) error { return db.Exec("SELECT 1").Error }, []string{"gorm.Raw"}},
	{"Row", func(db *gorm.DB) error {
		return db.Model(&Order{}).Select("1").Row().Scan(new(int))
	}, []string{"select orders"}},
	{"Transaction", func(db *gorm.DB) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Order{}).Error; err != nil {
				return err
			}
			return tx.Last(&Order{}).Error
		})
	}, []string{"insert orders", "select orders"}},
	{"a statement used twice", func(db *gorm.DB) error {
		var n int64
		tx := db.Model(&Order{}).Where("item <> ''")
		if err := tx.Count(&n).Error; err != nil {
			return err
		}
		return tx.Find(&[]Order{}).Error
	}, []string{"select orders", "select orders"}},
}

func TestTracing(t *testing.T) { testdb.InBothForms(t, testTracing) }

func testTracing(t *testing.T) {
	d := newDatabase(t)
	for _, a := range arrangements {
		t.Run(a.String(), func(t *testing.T) {
			recorder := tracetest.NewSpanRecorder()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
			plugin := tracing.NewPlugin(tracing.WithTracerProvider(provider), tracing.WithoutMetrics())
			requireGuarded(t, d, a.open(t, d.dsn, d.Config(), plugin), nothing)

			db, sent := a.openTraced(t, d, plugin)
			two := d.newPair(t)
			require.NoError(t, db.WithContext(two.ctx()).First(&Order{}).Error, "the proof is out of the way")
			tracer := provider.Tracer("test")
			for _, s := range traced {
				for name, db := range map[string]*gorm.DB{"tenant": db, "bypass": tenancy.Bypass(db, "test")} {
					recorder.Reset()
					sent.parents = nil
					ctx, root := tracer.Start(two.ctx(), "request")
					require.NoError(t, s.run(db.WithContext(ctx)), s.name)
					root.End()
					names, below := spansBelow(t, recorder, root, name+", "+s.name)
					require.Equal(t, s.want, names, "%s, %s", name, s.name)
					if name == "tenant" || !d.Signed() { // AdminDB is a pool whose driver is not traced
						require.Equal(t, len(s.want), sent.below(below), "%s, %s: statements that the driver sent below a span", name, s.name)
					}
				}
			}

			// A refusal is an error of its span.
			recorder.Reset()
			require.ErrorIs(t, db.First(&Order{}).Error, tenancy.ErrNoTenant)
			for _, span := range recorder.Ended() {
				require.Equal(t, codes.Error, span.Status().Code)
				require.Contains(t, span.Status().Description, tenancy.ErrNoTenant.Error())
			}
			require.Equal(t, len(recorder.Started()), len(recorder.Ended()), "spans that never end")
		})
	}
}

// openTraced opens a client with tenancy and a plugin that traces, and shows what the driver sends.
func (a arrangement) openTraced(t *testing.T, d *database, plugin gorm.Plugin) (*gorm.DB, *driverTracer) {
	t.Helper()
	cfg, err := pgx.ParseConfig(d.dsn)
	require.NoError(t, err)
	sent := &driverTracer{}
	cfg.Tracer = sent
	db := open(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*cfg)}), gorm.Config{PrepareStmt: a.prepare})
	plugins := []gorm.Plugin{plugin, tenancy.New(d.Config())}
	if a.tenancyFirst {
		plugins[0], plugins[1] = plugins[1], plugins[0]
	}
	require.NoError(t, db.Use(plugins[0]))
	require.NoError(t, db.Use(plugins[1]))
	return db, sent
}

// spansBelow returns the names and ids of the spans that have ended, without the root. It requires that they are its
// children and no errors.
func spansBelow(t *testing.T, recorder *tracetest.SpanRecorder, root trace.Span, what string) (names []string, below map[trace.SpanID]bool) {
	t.Helper()
	below = map[trace.SpanID]bool{}
	for _, span := range recorder.Ended() {
		if span.SpanContext().SpanID() == root.SpanContext().SpanID() {
			continue
		}
		names = append(names, span.Name())
		below[span.SpanContext().SpanID()] = true
		require.Equal(t, root.SpanContext().SpanID(), span.Parent().SpanID(), "%s: parent", what)
		require.Equal(t, codes.Unset, span.Status().Code)
	}
	return names, below
}

// busy calls fn while one tenant's transaction holds a connection, of a pool that may have four.
func busy(t *testing.T, d *database, db *gorm.DB, fn func()) {
	t.Helper()
	pool, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	pool.SetMaxOpenConns(4)
	two := d.newPair(t)
	require.NoError(t, db.WithContext(two.ctx()).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.First(&Order{}).Error)
		fn()
		return nil
	}))
}

// TestOpenTelemetryMetrics reads what the plugin reports of the pool it was given, in either order.
func TestOpenTelemetryMetrics(t *testing.T) {
	d := newDatabase(t)
	t.Cleanup(func() { otel.SetMeterProvider(noop.NewMeterProvider()) })
	gauges := []string{"go.sql.connections_max_open", "go.sql.connections_in_use", "go.sql.connections_idle"}
	for _, s := range []struct {
		name string
		open func(t *testing.T) *gorm.DB
		want []int64
	}{
		{"before tenancy", func(t *testing.T) *gorm.DB {
			return arrangement{}.open(t, d.dsn, d.Config(), tracing.NewPlugin())
		}, []int64{4, 1, 1}},
		{"after tenancy", func(t *testing.T) *gorm.DB {
			return arrangement{tenancyFirst: true}.open(t, d.dsn, d.Config(), tracing.NewPlugin())
		}, []int64{4, 1, 1}},
		{"of tenancy.UnguardedPool", func(t *testing.T) *gorm.DB {
			db := arrangement{}.open(t, d.dsn, d.Config(), tracing.NewPlugin(tracing.WithoutMetrics()))
			pool, err := tenancy.UnguardedPool(db)
			require.NoError(t, err)
			metrics.ReportDBStatsMetrics(pool)
			return db
		}, []int64{4, 1, 1}},
	} {
		t.Run(s.name, func(t *testing.T) {
			reader := sdkmetric.NewManualReader()
			otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
			db := s.open(t)
			requireGuarded(t, d, db, nothing)

			// A second connection, which is idle when the first is in use.
			pool, err := tenancy.UnguardedPool(db)
			require.NoError(t, err)
			conn, err := pool.Conn(t.Context())
			require.NoError(t, err)
			other, err := pool.Conn(t.Context())
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			require.NoError(t, other.Close())

			busy(t, d, db, func() {
				var all metricdata.ResourceMetrics
				require.NoError(t, reader.Collect(t.Context(), &all))
				got := map[string]int64{}
				for _, scope := range all.ScopeMetrics {
					for _, m := range scope.Metrics {
						if gauge, ok := m.Data.(metricdata.Gauge[int64]); ok {
							got[m.Name] = gauge.DataPoints[0].Value
						}
					}
				}
				var values []int64
				for _, name := range gauges {
					values = append(values, got[name])
				}
				require.Equal(t, s.want, values, "%v", gauges)
			})
		})
	}
}

// TestPrometheus reads the numbers that the plugin refreshes each second. It asks db.DB() each time, which is the
// guarded pool in either order.
func TestPrometheus(t *testing.T) {
	d := newDatabase(t)
	for _, a := range arrangements {
		t.Run(a.String(), func(t *testing.T) {

			plugin := prometheus.New(prometheus.Config{DBName: fmt.Sprint(a), RefreshInterval: 1})
			db := a.open(t, d.dsn, d.Config(), plugin)
			requireGuarded(t, d, db, nothing)
			busy(t, d, db, func() {
				require.Eventually(t, func() bool { return value(t, plugin.InUse) == 1 }, 20*time.Second, 10*time.Millisecond)
				require.EqualValues(t, 1, value(t, plugin.OpenConnections))
				require.Zero(t, value(t, plugin.Idle))
				require.EqualValues(t, 4, value(t, plugin.MaxOpenConnections))
			})
		})
	}
}

// TestPrometheusQueries lets the plugin's collector query PostgreSQL's statistics. It uses the context of the *gorm.DB
// that it is given, which has to say that no tenant is needed.
func TestPrometheusQueries(t *testing.T) {
	d := newDatabase(t)
	for _, s := range []struct {
		name    string
		ctx     context.Context
		queries bool
	}{
		{"without a decision", context.Background(), false},
		{"without a tenant", tenancy.WithoutTenant(context.Background()), true},
	} {
		t.Run(s.name, func(t *testing.T) {
			db := open(t, postgres.Open(d.dsn), gorm.Config{})
			require.NoError(t, db.Use(tenancy.New(d.Config())))
			plugin := prometheus.New(prometheus.Config{
				DBName:           s.name,
				RefreshInterval:  3600,
				MetricsCollector: []prometheus.MetricsCollector{&prometheus.Postgres{Prefix: "compat_"}},
			})
			sent := d.traffic.RoundTrips()
			require.NoError(t, db.WithContext(s.ctx).Use(plugin))
			require.Equal(t, s.queries, len(plugin.Collectors) > 0)
			require.Equal(t, s.queries, d.traffic.RoundTrips() > sent)
		})
	}
}

func value(t *testing.T, gauge client.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	require.NoError(t, gauge.Write(&m))
	return m.GetGauge().GetValue()
}
