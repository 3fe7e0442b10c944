// Package model drives several tenants at random over a small pool, and compares what each of them sees with a model of
// what it may see: a state machine of statements, transactions, savepoints, settings changed by hand, bypass, errors,
// panics, cancelled contexts and connections that are cut.
//
// Each run takes the same walks, so that it says the same of the same code; -walks=N takes others.
//
// A failure prints its seed and names a file with its steps, the fewest that were found, and is run again by
//
//	go test ./tests/model -rapid.seed=N
//	go test ./tests/model -rapid.failfile=…
package model

import (
	"flag"
	"strconv"
	"testing"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// walks is the seed of the first walk; the others count on from there.
var walks = flag.Int("walks", 1, "seed of the first walk; 0 draws all seeds")

func TestMain(m *testing.M) {
	set("rapid.checks", 2)
	set("rapid.steps", 250)
	flag.Parse()
	pgserver.Main(m)
}

// set sets one of rapid's flags, before those of the command line.
func set(name string, value int) {
	if err := flag.Set(name, strconv.Itoa(value)); err != nil {
		panic(err)
	}
}
