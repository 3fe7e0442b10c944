// Package compat checks that tenants stay apart, and that other parts do their work, whatever pool GORM is given,
// however GORM is configured, and whichever plugins stand beside this one, before it or after it.
package compat

import (
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m, pgserver.WithEndless(endless...)) }

// endless are functions on goroutines that others start and never end: those of GORM's statement stores, and the clock of
// the prometheus plugin.
var endless = []string{
	"gorm.io/gorm/internal/lru.NewLRU[...].func1",
	"gorm.io/plugin/prometheus.(*Prometheus).Initialize.func1.1",
	"gorm.io/plugin/prometheus.(*Postgres).Metrics.func1",
}
