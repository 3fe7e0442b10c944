package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// report is the outcome of all suites on all versions.
type report struct {
	suites  []suite
	results []*result
}

func newReport(suites []suite, results []*result) report { return report{suites, results} }

// err is errFailed if a test failed anywhere.
func (r report) err() error {
	for _, result := range r.results {
		if result.failed() {
			return errFailed
		}
	}
	return nil
}

const intro = `# Versions of PostgreSQL

This table is written by ` + "`make matrix`" + `, which runs the integration suites on real servers of every supported major version:
the binaries of the npm package ` + "`" + npmPackage + "`" + `, pinned by version and checksum. It counts the tests that passed, without
those that only sum up their subtests, and says so if one failed.

`

func (r report) markdown() string {
	var b strings.Builder
	b.WriteString(intro)
	r.table(&b)
	r.modes(&b)
	r.differences(&b)
	b.WriteString(`
## Environments

- **PgBouncer** in transaction mode stands before each of these servers in the suite ` + "`pgbouncer`" + `, with two server connections
  for ten clients.
- **A streaming replica** of each of these servers is read through dbresolver in the suites ` + "`compat`" + ` and ` + "`compat/replica`" + `.
- **Docker**: where a daemon answers, ` + "`TENANCY_PG=docker make test`" + ` runs everything on ` + "`postgres:<version>-alpine`" + `, and
  ` + "`TENANCY_PG_VERSION`" + ` chooses the version. The table was not made with it.
`)
	return b.String()
}

// table has a row for each suite and a column for each version.
func (r report) table(b *strings.Builder) {
	b.WriteString("| suite |")
	for _, result := range r.results {
		fmt.Fprintf(b, " %s |", result.server)
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(r.results)) + "\n")
	totals := make([]counts, len(r.results))
	for _, s := range r.suites {
		fmt.Fprintf(b, "| `%s` |", s.name)
		for i, result := range r.results {
			c := result.suites[s.name].count()
			totals[i].passed += c.passed
			totals[i].failed += c.failed
			totals[i].skipped += c.skipped
			fmt.Fprintf(b, " %s |", c)
		}
		b.WriteString("\n")
	}
	b.WriteString("| **all** |")
	for _, c := range totals {
		fmt.Fprintf(b, " **%s** |", c)
	}
	b.WriteString("\n")
}

func (c counts) String() string {
	s := fmt.Sprint(c.passed)
	if c.failed > 0 {
		s += fmt.Sprintf(", %d failed", c.failed)
	}
	if c.skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.skipped)
	}
	return s
}

// execModes are those of pgx, as tests name them.
var execModes = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// modes counts the tests that name the execution mode they run in.
func (r report) modes(b *strings.Builder) {
	b.WriteString("\n## Execution modes of pgx\n\nTests that are repeated in each mode, of the suites above. " +
		"`simple_protocol` is what GORM's `PreferSimpleProtocol: true` chooses, and\n`cache_statement` what it is without.\n\n| mode |")
	for _, result := range r.results {
		fmt.Fprintf(b, " %s |", result.server)
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(r.results)) + "\n")
	for _, mode := range execModes {
		fmt.Fprintf(b, "| `%s` |", mode)
		for _, result := range r.results {
			fmt.Fprintf(b, " %s |", result.countIn(mode))
		}
		b.WriteString("\n")
	}
}

// countIn counts the tests that have the mode as a part of their names.
func (r *result) countIn(mode string) (c counts) {
	for _, o := range r.suites {
		for name := range o.leaves() {
			if !slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool {
				first, _, _ := strings.Cut(part, ",")
				return first == mode || strings.TrimPrefix(first, "mode=") == mode
			}) {
				continue
			}
			switch o.tests[name] {
			case "pass":
				c.passed++
			case "fail":
				c.failed++
			case "skip":
				c.skipped++
			}
		}
	}
	return c
}

// differences lists the tests that not all versions have.
func (r report) differences(b *strings.Builder) {
	b.WriteString("\n## Tests of some versions only\n\n")
	on := make(map[string][]string) // servers, by test
	for _, s := range r.suites {
		for _, result := range r.results {
			for name := range result.suites[s.name].leaves() {
				name = "`" + s.name + "`: " + strings.ReplaceAll(name, "_", " ")
				on[name] = append(on[name], strings.TrimPrefix(result.server, "PostgreSQL "))
			}
		}
	}
	some := false
	for _, name := range slices.Sorted(maps.Keys(on)) {
		if len(on[name]) < len(r.results) {
			some = true
			fmt.Fprintf(b, "- %s: on %s\n", name, strings.Join(on[name], ", "))
		}
	}
	if !some {
		b.WriteString("None.\n")
	}
}
