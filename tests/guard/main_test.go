// Package guard_test shows against a real PostgreSQL that a guarded pool does what pgx's own database/sql driver does,
// for the tenant in the context and for no other.
package guard_test

import (
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m, pgserver.WithStatementLog()) }
