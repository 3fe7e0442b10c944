package tenancyotel

import (
	"context"
	"errors"
	"fmt"
	"math"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/gormtenancy/tenancy"
)

// ObserveBusiest makes the gauges tenancy.connections.used and tenancy.connections.waiting: how many connections tenants use, and how many of their
// statements and transactions wait for one, at the moment of each collection. busiest is the method of the plugin, which counts nothing without
// tenancy.Config.Share:
//
//	registration, err := telemetry.ObserveBusiest(plugin.Busiest, 10)
//
// The busiest n tenants, n being 1 to 100, are named in the attribute tenant.id. All others, and statements under WithoutTenant, are summed up in
// the series whose attribute tenancy.tenants is "other". So a collection has at most n+1 series of each gauge, however many tenants there are. A
// backend keeps the series of earlier collections, too: over time there are as many as tenants have been among the busiest. Unregister
// ends the gauges.
func (t *Telemetry) ObserveBusiest(busiest func(n int) []tenancy.TenantLoad, n int) (metric.Registration, error) {
	if n < 1 || n > maxBusiest {
		return nil, fmt.Errorf("tenancyotel: ObserveBusiest of %d tenants: must be 1 to %d", n, maxBusiest)
	}
	used, err1 := t.meter.Int64ObservableGauge("tenancy.connections.used", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections that the busiest tenants use, and all others together"))
	waiting, err2 := t.meter.Int64ObservableGauge("tenancy.connections.waiting", metric.WithUnit("{request}"),
		metric.WithDescription("Statements and transactions of tenants that wait for a connection"))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return t.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		var others tenancy.TenantLoad
		for i, load := range busiest(math.MaxInt) {
			if i >= n || load.Tenant == "" {
				others.InUse += load.InUse
				others.Waiting += load.Waiting
				continue
			}
			of := metric.WithAttributes(attribute.String("tenant.id", load.Tenant))
			to.ObserveInt64(used, int64(load.InUse), of)
			to.ObserveInt64(waiting, int64(load.Waiting), of)
		}
		of := metric.WithAttributes(attribute.String("tenancy.tenants", "other"))
		to.ObserveInt64(used, int64(others.InUse), of)
		to.ObserveInt64(waiting, int64(others.Waiting), of)
		return nil
	}, used, waiting)
}

// maxBusiest bounds the number of series.
const maxBusiest = 100
