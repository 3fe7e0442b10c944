package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// result is what one version of PostgreSQL made of the suites.
type result struct {
	server string // "PostgreSQL 14.23"
	suites map[string]*outcome
}

// outcome is what became of the tests of one suite, by name: "pass", "fail" or "skip".
type outcome struct {
	tests   map[string]string
	failed  bool // the package, perhaps without a test that did
	elapsed time.Duration
}

// runSuites runs the suites on the server whose programs are in bin.
func runSuites(ctx context.Context, root, bin string, suites []suite, race bool) (*result, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(bin, "postgres"), err)
	}
	r := &result{server: serverName(string(out)), suites: make(map[string]*outcome, len(suites))}
	progress("%s", r.server)

	args := []string{"test", "-json", "-count=1", "-timeout=20m"}
	if race {
		args = append(args, "-race")
	}
	for _, s := range suites {
		args = append(args, s.path)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TENANCY_") && !strings.HasPrefix(v, "TENANCY_PGBOUNCER=")
	}), "TENANCY_PG_BINDIR="+bin)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	readErr := r.read(events, suites)
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if waitErr != nil && !r.failed() {
		return nil, fmt.Errorf("go test: %w", waitErr) // it did not come to run tests
	}
	return r, readErr
}

// serverName shortens what postgres --version says: "postgres (PostgreSQL) 14.23 (Debian 14.23-1)".
func serverName(version string) string {
	_, version, _ = strings.Cut(version, "(PostgreSQL) ")
	version, _, _ = strings.Cut(strings.TrimSpace(version), " ")
	return "PostgreSQL " + version
}

// event is one of those that go test -json prints; go doc test2json explains them.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

// read follows the events of go test, says how far it has come, and shows the output of what fails.
func (r *result) read(events io.Reader, suites []suite) error {
	names := make(map[string]string, len(suites))
	for _, s := range suites {
		names[s.path] = s.name
		r.suites[s.name] = &outcome{tests: make(map[string]string)}
	}
	said := make(map[string][]string) // by package and test
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			progress("%s", lines.Text()) // what fails to build is said in plain text
			continue
		}
		o := r.suites[names[e.Package]]
		if o == nil {
			if e.Output != "" {
				fmt.Fprint(os.Stderr, e.Output)
			}
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			said[key] = append(said[key], e.Output)
		case "pass", "fail", "skip":
			if e.Action == "fail" {
				fmt.Fprint(os.Stderr, strings.Join(said[key], ""))
			}
			delete(said, key)
			if e.Test != "" {
				o.tests[e.Test] = e.Action
				continue
			}
			o.failed = e.Action == "fail"
			o.elapsed = time.Duration(e.Elapsed * float64(time.Second))
			c := o.count()
			progress("  %-22s %5d passed  %d failed  %s", names[e.Package], c.passed, c.failed, o.elapsed.Round(100*time.Millisecond))
		}
	}
	return lines.Err()
}

// counts are of tests without subtests, for the others only sum these up.
type counts struct{ passed, failed, skipped int }

func (o *outcome) count() (c counts) {
	for name := range o.leaves() {
		switch o.tests[name] {
		case "pass":
			c.passed++
		case "fail":
			c.failed++
		case "skip":
			c.skipped++
		}
	}
	if o.failed && c.failed == 0 {
		c.failed = 1 // the package itself: it did not build, or leaked
	}
	return c
}

// leaves are the names of the tests without subtests.
func (o *outcome) leaves() map[string]bool {
	leaves := make(map[string]bool, len(o.tests))
	for name := range o.tests {
		leaves[name] = true
	}
	for name := range o.tests {
		for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
			delete(leaves, name[:at])
		}
	}
	return leaves
}

func (r *result) failed() bool {
	for _, o := range r.suites {
		if c := o.count(); c.failed > 0 {
			return true
		}
	}
	return false
}

var errFailed = errors.New("tests failed")
