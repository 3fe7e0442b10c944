// Package compat checks that tenants stay apart, and that other parts do their work, whatever pool GORM is given,
// however GORM is configured, and whichever plugins stand beside this one, before it or after it.
package compat

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) {
	code := pgserver.Run(m)
	if err := goleak.Find(endless...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// endless are goroutines that others start and never end: those of GORM's statement stores, and the clock of the
// prometheus plugin.
var endless = []goleak.Option{
	goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1"),
	goleak.IgnoreAnyFunction("gorm.io/plugin/prometheus.(*Prometheus).Initialize.func1.1"),
	goleak.IgnoreAnyFunction("gorm.io/plugin/prometheus.(*Postgres).Metrics.func1"),
}
