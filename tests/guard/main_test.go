// Package guard_test shows against a real PostgreSQL that a guarded pool does what pgx's own database/sql driver does,
// for the tenant in the context and for no other.
package guard_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) {
	code := pgserver.Run(m, pgserver.WithStatementLog())
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}
