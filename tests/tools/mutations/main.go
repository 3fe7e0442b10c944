// Command mutations breaks the code that isolates on purpose, one way after another, and runs the tests on each broken copy: tests that
// pass there would prove nothing.
//
//	go run ./tests/tools/mutations             # writes the table in docs/faults.md
//	go run ./tests/tools/mutations -run bypass # only mutations whose names match that, and no table
//	go run ./tests/tools/mutations -from CALL  # from that on, after a run that was stopped
//
// It works on a copy of the files that git tracks, in a temporary directory, and takes two hours on two cores. It fails if a mutation is
// not noticed, or no longer applies to the code. Mutations that name tests must be noticed by these, and all others by one of the suites.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	only := flag.String("run", "", "run only mutations whose names match this regular `expression`")
	from := flag.String("from", "", "begin with the first mutation whose name contains `text`; no table is written")
	in := flag.String("suites", strings.Join(suites, ","), "packages of tests/ to run, in this order, until one fails")
	document := flag.String("doc", "docs/faults.md", "the `file` whose table is written, unless -run is given")
	flag.Parse()
	suites = strings.Split(*in, ",")
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *only, *from, *document)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutations:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only, from, document string) error {
	matches, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := root(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutations")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyTracked(ctx, root, dir); err != nil {
		return err
	}

	if err := applyEach(dir); err != nil {
		return err
	}
	if only == "" && from == "" {
		if err := tryAsIs(ctx, dir); err != nil {
			return err
		}
	}
	table, err := tryEach(ctx, dir, matches, from)
	if err != nil {
		return err
	}
	if only != "" || from != "" {
		return nil
	}
	return writeTable(filepath.Join(root, document), table)
}

// applyEach fails if a mutation no longer applies to the code. It leaves the code as it is.
func applyEach(dir string) error {
	for _, m := range mutations {
		undo, err := apply(filepath.Join(dir, "internal"), m.edits)
		if err == nil {
			err = undo()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// tryAsIs fails if a test fails without a mutation.
func tryAsIs(ctx context.Context, dir string) error {
	all := mutation{}
	for _, suite := range suites {
		all.by = append(all.by, "tests/"+suite+" Test")
	}
	for _, m := range mutations {
		for _, tests := range m.by {
			if !slices.Contains(all.by, tests) {
				all.by = append(all.by, tests)
			}
		}
	}
	failed, err := try(ctx, dir, all)
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("the code as it is fails %s", strings.Join(failed, ", "))
	}
	return nil
}

// tryEach returns the table of the mutations whose names match only, from the first on whose name contains from. It
// fails if one of them is not noticed.
func tryEach(ctx context.Context, dir string, only *regexp.Regexp, from string) (string, error) {
	var table strings.Builder
	table.WriteString("\n| mutation | noticed first by |\n|---|---|\n")
	survivors, begun := 0, false
	for _, m := range mutations {
		if !begun && !strings.Contains(m.name, from) || !only.MatchString(m.name) {
			continue
		}
		begun = true
		start := time.Now()
		failed, err := try(ctx, dir, m)
		if err != nil {
			return "", fmt.Errorf("%s: %w", m.name, err)
		}
		if len(failed) == 0 {
			survivors++
			failed = []string{"**nothing**"}
		}
		fmt.Fprintf(&table, "| %s | %s |\n", m.name, strings.Join(failed, ", "))
		fmt.Fprintf(os.Stderr, "%6.0f s  %s: %s\n", time.Since(start).Seconds(), m.name, strings.Join(failed, ", "))
	}
	table.WriteString("\n")
	if survivors > 0 {
		return "", fmt.Errorf("%d mutations were not noticed", survivors)
	}
	return table.String(), nil
}

const (
	beginTable = "<!-- mutations: begin -->\n"
	endTable   = "<!-- mutations: end -->\n"
)

// writeTable replaces the table in a document.
func writeTable(document, table string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(text), beginTable)
	_, after, ended := strings.Cut(rest, endTable)
	if !begun || !ended {
		return fmt.Errorf("%s has no table of mutations", document)
	}
	return os.WriteFile(document, []byte(before+beginTable+table+endTable+after), 0o644) //nolint:gosec // a document
}
