package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const module = "github.com/gormtenancy/tenancy"

// suite is a package with tests that need a server.
type suite struct {
	path string // of the package
	name string // for people: "guard" for tests/guard, "examples/api"
}

// excluded are packages that measure, or that are about this command and not about PostgreSQL.
var excluded = []string{"bench", "soak", "matrix"}

// repositoryRoot is where the workspace is.
func repositoryRoot(ctx context.Context) (string, error) {
	out, err := goList(ctx, "", "-m", "-f", "{{.Dir}}", module)
	if err != nil || len(out) != 1 {
		return "", errors.Join(errors.New("run this within the repository"), err)
	}
	return out[0], nil
}

// listSuites finds the packages below tests and examples that have tests, so that a new one is not forgotten.
func listSuites(ctx context.Context, root, only string) ([]suite, error) {
	const withTests = "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"
	paths, err := goList(ctx, root, "-f", withTests, module+"/tests/...", module+"/examples/...")
	if err != nil {
		return nil, err
	}
	var suites []suite
	for _, path := range paths {
		name := strings.TrimPrefix(strings.TrimPrefix(path, module+"/"), "tests/")
		first, _, _ := strings.Cut(name, "/")
		if !slices.Contains(excluded, first) && chosen(name, only) {
			suites = append(suites, suite{path: path, name: name})
		}
	}
	if len(suites) == 0 {
		return nil, fmt.Errorf("-only %s: there is no such suite", only)
	}
	return suites, nil
}

// chosen tells whether a suite, or one it is below, is on a list; an empty list has all.
func chosen(name, only string) bool {
	if only == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(only, ","), func(o string) bool {
		return name == o || strings.HasPrefix(name, o+"/")
	})
}

func goList(ctx context.Context, dir string, args ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	return strings.Fields(string(bytes.TrimSpace(out))), nil
}
