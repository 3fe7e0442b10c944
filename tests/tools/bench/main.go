// Command bench measures what tenants' statements cost with the plugin, next to what they cost in other ways, and writes
// the report docs/benchmark.md, its plots and its numbers:
//
//	go run ./tests/tools/bench          # under 20 minutes, on a machine that does nothing else
//	go run ./tests/tools/bench -quick   # under 2 minutes: the shape of the full report, less exact
//
// The tenants of very different sizes can be measured by themselves, in a few minutes. All else in the report stays as it is,
// by the numbers that the last full run has left:
//
//	go run ./tests/tools/bench -only skew -rest docs/benchmark.json
//
// What records of changes cost is measured by itself, too, and written to the standard output alone:
//
//	go run ./tests/tools/bench -only audit
//
// and so is what a key costs (tenancy.Config.SigningKeys), with the time of the function that verifies, alone:
//
//	go run ./tests/tools/bench -only signed
//
// and primary keys that hold the tenant (rls.Isolation.TenantKeys), with the sizes of the indexes:
//
//	go run ./tests/tools/bench -only tenantkeys
//
// Two more parts are measured by themselves, and write their sections of the report, which all other runs leave as they are: partitions by
// the hash of the tenant beside the same tables without, and what Config.Share does for the neighbours of a noisy tenant.
//
//	go run ./tests/tools/bench -only partitions
//	go run ./tests/tools/bench -only share
//
// It needs what the tests need: a PostgreSQL by one of the ways of internal/pgserver.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
)

func main() {
	// The benchmark looks at allocations in one place only, and wants no sampling of them elsewhere.
	runtime.MemProfileRate = 0

	s, err := readFlags(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, s)
		stop()
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	quick   bool
	audit   bool           // measure records of changes, and nothing else
	signed  bool           // measure statements with a key, and nothing else
	keys    bool           // measure primary keys that hold the tenant, and nothing else
	section string         // measure what this section is about, and nothing else
	only    *regexp.Regexp // tasks to run; nil for all
	samples int            // rounds of each cell, in place of a time; 0 for a time
	render  string         // a file of numbers to make the report from, without measuring
	rest    string         // a file of numbers to take those from that are not measured
	out     string         // the directory of the report
}

func readFlags(args []string) (s settings, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&s.quick, "quick", false, "take under 2 minutes: fewer samples, smaller tables")
	only := flags.String("only", "", "run only the tasks whose names match this regular expression; needs -out or -rest")
	flags.IntVar(&s.samples, "samples", 0, "take so many `rounds` of each comparison, in place of a time")
	flags.StringVar(&s.render, "render", "", "measure nothing, make the report from this `file` of numbers")
	flags.StringVar(&s.rest, "rest", "", "measure nothing but skew, and take all other numbers from this `file`; needs -only skew")
	flags.StringVar(&s.out, "out", "", "write to this `directory`, in place of docs")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if s.audit, s.signed, s.keys = *only == "audit", *only == "signed", *only == "tenantkeys"; s.audit || s.signed || s.keys {
		return s, nil
	}
	if slices.Contains(sectionNames, *only) {
		if s.section = *only; s.out == "" {
			s.out, err = docs()
		}
		return s, err
	}
	if *only != "" {
		if s.out == "" && s.rest == "" {
			return s, errors.New("-only needs -out: a part must not take the place of the report")
		}
		if s.only, err = regexp.Compile(*only); err != nil {
			return s, err
		}
	}
	if s.rest != "" && *only != "skew" {
		return s, errors.New("-rest needs -only skew: other parts have no place of their own in the report")
	}
	if s.out == "" {
		s.out, err = docs()
	}
	return s, err
}

// docs is the directory docs of the repository that the command is run in.
func docs() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return filepath.Join(dir, "docs"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the repository, or say -out")
		}
	}
}

func run(ctx context.Context, s settings) error {
	if s.audit {
		return measureAudit(ctx, os.Stdout, s)
	}
	if s.signed {
		return measureSigned(ctx, os.Stdout, s)
	}
	if s.keys {
		return measureTenantKeys(ctx, os.Stdout, s)
	}
	switch s.section {
	case "partitions":
		return measurePartitions(ctx, s)
	case "share":
		return measureShare(ctx, s)
	}
	var r *results
	var err error
	if s.render != "" {
		r, err = readResults(s.render)
	} else {
		r, err = measure(ctx, s)
	}
	if err == nil && s.rest != "" {
		err = r.takeRest(s.rest)
	}
	if err != nil {
		return err
	}
	return write(r, s.out)
}
