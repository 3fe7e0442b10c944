package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// suites are the packages of tests/ that are run, in this order, until one fails.
var suites = []string{"guard", "model", "faults", "plugin", "isolation", "statement", "roundtrip"}

// try runs the tests on a mutated copy: those that a mutation names, or the suites. It returns the tests that failed in the first package
// that had one. The copy is as it was when it returns.
func try(ctx context.Context, dir string, m mutation) (failed []string, err error) {
	undo, err := apply(filepath.Join(dir, "internal"), m.edits)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, undo()) }()
	if out, err := command(ctx, dir, "go", "build", "./...").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("it does not compile: %s", out)
	}
	by := m.by
	if by == nil {
		for _, suite := range suites {
			by = append(by, "tests/"+suite+" Test")
		}
	}
	for _, tests := range by {
		if failed, err := fails(ctx, dir, tests); err != nil || len(failed) > 0 {
			return failed, err
		}
	}
	return nil, nil
}

// fails runs tests, named as in mutation.by, and returns those that failed.
func fails(ctx context.Context, dir, tests string) (failed []string, err error) {
	pkg, names, _ := strings.Cut(tests, " ")
	args := []string{"test", "-json", "-count=1", "-failfast", "-timeout=5m", "-run=^(?:" + names + ")", "./" + pkg}
	if pkg == "tests/model" {
		args = append(args, "-rapid.shrinktime=1s", "-rapid.nofailfile")
	}
	out, err := command(ctx, dir, "go", args...).Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		if !bytes.Contains(out, []byte(`"Test":"`)) {
			return nil, fmt.Errorf("%s has no test that begins with %s", pkg, names)
		}
		return nil, nil
	}
	if failed = failures(out); len(failed) == 0 {
		failed = []string{"the package"} // it hung, or left something behind
	}
	for i := range failed {
		failed[i] = "`" + pkg + "`: " + failed[i]
	}
	return failed, nil
}

// failures returns the names of the tests that failed, without their subtests.
func failures(events []byte) (names []string) {
	for line := range bytes.Lines(events) {
		var e struct{ Action, Test string }
		if json.Unmarshal(line, &e) != nil || e.Action != "fail" || e.Test == "" {
			continue
		}
		name, _, _ := strings.Cut(e.Test, "/")
		if name = "`" + name + "`"; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// apply edits files, and returns what undoes it.
func apply(dir string, edits []edit) (undo func() error, err error) {
	originals := map[string][]byte{}
	undo = func() error {
		var errs []error
		for path, text := range originals {
			errs = append(errs, os.WriteFile(path, text, 0o600))
		}
		return errors.Join(errs...)
	}
	for _, e := range edits {
		path := filepath.Join(dir, e.file)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			return nil, errors.Join(fmt.Errorf("%s has %d times, not once: %s", e.file, n, e.old), undo())
		}
		if originals[path] == nil {
			originals[path] = text
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600); err != nil {
			return nil, errors.Join(err, undo())
		}
	}
	return undo, nil
}

// root is the directory of the repository.
func root(ctx context.Context) (string, error) {
	out, err := command(ctx, ".", "git", "rev-parse", "--show-toplevel").Output()
	return strings.TrimSpace(string(out)), err
}

// copyTracked copies the files that git tracks, as they are now.
func copyTracked(ctx context.Context, from, to string) error {
	out, err := command(ctx, from, "git", "ls-files", "-z").Output()
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd
}
