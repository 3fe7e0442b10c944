// Package faults breaks things on purpose, between GORM and PostgreSQL: it cuts connections at every message of the
// protocol, ends backends, lets the network fall silent, fills the disk. After each fault no row may have crossed between
// tenants, no transaction may be half there or there twice, the error must be one that a program can read, and the next
// tenant must be served.
//
// docs/faults.md has the table of what was done, made by
//
//	go test ./tests/faults -update
package faults

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

var update = flag.Bool("update", false, "write the table in docs/faults.md")

func TestMain(m *testing.M) {
	if dsn := os.Getenv(victimDSN); dsn != "" {
		fmt.Fprintln(os.Stderr, die(dsn, os.Getenv("TENANCY_TEST_VICTIM_MARK")))
		os.Exit(1)
	}
	flag.Parse()
	code := pgserver.Run(m)
	everything := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.list").Value.String() == ""
	if code == 0 && everything {
		if err := book.compare("../../docs/faults.md", *update); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
