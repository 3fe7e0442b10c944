package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gormtenancy/tenancy"
)

// metrics is for Prometheus: the pool's statistics, and what requests cost.
func (a *app) metrics() (page, error) {
	pool, err := tenancy.UnguardedPool(a.db)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{collectors.NewDBStatsCollector(pool, "clinic"), a.costs} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return func(w http.ResponseWriter, r *http.Request) error {
		handler.ServeHTTP(w, r)
		return nil
	}, nil
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"route", "status"}, nil)
}

var (
	requestsDesc   = describe("clinic_http_requests_total", "Requests answered.")
	secondsDesc    = describe("clinic_http_request_seconds_total", "Time taken to answer requests.")
	statementsDesc = describe("clinic_sql_statements_total", "Statements sent to PostgreSQL for requests.")
	roundTripsDesc = describe("clinic_sql_round_trips_total", "Round trips to PostgreSQL that requests waited for.")
)

// Describe makes it a prometheus.Collector.
func (c *costs) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, secondsDesc, statementsDesc, roundTripsDesc} {
		to <- d
	}
}

// Collect makes it a prometheus.Collector.
func (c *costs) Collect(to chan<- prometheus.Metric) {
	c.each(func(key costKey, sum cost) {
		for d, value := range map[*prometheus.Desc]float64{
			requestsDesc:   float64(sum.Requests),
			secondsDesc:    sum.Duration.Seconds(),
			statementsDesc: float64(sum.Statements),
			roundTripsDesc: float64(sum.RoundTrips),
		} {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, key.Route, key.Class)
		}
	})
}
