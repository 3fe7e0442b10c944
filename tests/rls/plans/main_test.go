// Package plans shows what policies cost: the plans that PostgreSQL makes under them, and the pages that it reads.
//
// The tests assert nodes of plans and buffers, never a time. With -report they also measure times, and write all of it into
// a document:
//
//	go test ./tests/rls/plans -rows 1000000 -report ../../../docs/policies.md -timeout 30m
package plans

import (
	"flag"
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

var (
	rows   = flag.Int("rows", 100_000, "rows of each table; at least 100,000, for an index to matter")
	report = flag.String("report", "", "the document to write the measurements into, as a path from this package")
)

// tenants is how many tenants share a table, with an equal number of rows each.
const tenants = 1000

func TestMain(m *testing.M) { pgserver.Main(m) }
