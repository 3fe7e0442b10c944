package main

import (
	"cmp"
	"database/sql"
	"net/http"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/meter"
)

// costs adds up what requests have cost, by route and class of status. Their number is bounded by the routes of the
// program, and no key holds a tenant.
type costs struct {
	mu  sync.Mutex
	sum map[costKey]cost
}

type costKey struct {
	Route string // empty if no route matched
	Class string // "2xx", "3xx", …
}

// cost is a sum over requests.
type cost struct {
	Requests, Statements, RoundTrips int64
	Duration                         time.Duration
}

func newCosts() *costs { return &costs{sum: map[costKey]cost{}} }

// add adds a request that has ended.
func (c *costs) add(r meter.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := costKey{r.Route, string(rune('0'+r.Status/100)) + "xx"}
	sum := c.sum[key]
	sum.Requests++
	sum.Statements += r.Statements
	sum.RoundTrips += r.RoundTrips
	sum.Duration += r.Duration
	c.sum[key] = sum
}

// each calls f for every sum.
func (c *costs) each(f func(costKey, cost)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, sum := range c.sum {
		f(key, sum)
	}
}

// routeCost is a line of the page: means of a route's requests.
type routeCost struct {
	Route                  string
	Requests, Failed       int64 // Failed: those answered with 5xx
	Statements, RoundTrips float64
	Duration               time.Duration
}

func (c *costs) routes() (lines []routeCost) {
	sums, failed := map[string]cost{}, map[string]int64{}
	c.each(func(key costKey, one cost) {
		sum := sums[key.Route]
		sum.Requests += one.Requests
		sum.Statements += one.Statements
		sum.RoundTrips += one.RoundTrips
		sum.Duration += one.Duration
		sums[key.Route] = sum
		if key.Class == "5xx" {
			failed[key.Route] += one.Requests
		}
	})
	for route, sum := range sums {
		n := float64(sum.Requests)
		lines = append(lines, routeCost{
			Route: route, Requests: sum.Requests, Failed: failed[route],
			Statements: float64(sum.Statements) / n, RoundTrips: float64(sum.RoundTrips) / n,
			Duration: (sum.Duration / time.Duration(sum.Requests)).Round(10 * time.Microsecond),
		})
	}
	slices.SortFunc(lines, func(a, b routeCost) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Route, b.Route))
	})
	return lines
}

// clinicCount says how many rows a clinic has.
type clinicCount struct {
	Clinic                 Clinic `gorm:"embedded"`
	Patients, Appointments int64
}

// statsPage shows what it costs to serve all clinics from one database.
type statsPage struct {
	Pool    sql.DBStats
	Clinics []clinicCount
	Routes  []routeCost
}

func (a *app) stats(w http.ResponseWriter, r *http.Request) error {
	pool, err := tenancy.UnguardedPool(a.db)
	if err != nil {
		return err
	}
	page := statsPage{Pool: pool.Stats(), Routes: a.costs.routes()}
	err = a.bypass(r, "rows of each clinic", func(db *gorm.DB) error {
		return db.Model(&Clinic{}).Select("clinics.*, " +
			"(SELECT count(*) FROM patients WHERE tenant_id = clinics.id) AS patients, " +
			"(SELECT count(*) FROM appointments WHERE tenant_id = clinics.id) AS appointments").
			Order("clinics.id").Find(&page.Clinics).Error
	})
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, "stats", view{Title: "Statistics", Nav: "stats", Body: page})
}
