// Package bench compares what tenants' statements take with the plugin and without.
package bench

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) {
	code := pgserver.Run(m)
	// GORM never ends the goroutine of its statement cache.
	if err := goleak.Find(goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
