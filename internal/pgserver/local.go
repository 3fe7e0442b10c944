package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// startLocal runs the binaries that are installed on this machine.
func startLocal(ctx context.Context, cfg config) (instance, error) {
	if dir := os.Getenv("TENANCY_PG_BINDIR"); dir != "" {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		if err := suitable(ctx, dir); err != nil {
			return nil, err
		}
		return startCluster(ctx, cfg, dir, "local")
	}
	var unsuitable []error
	for _, dir := range candidates(ctx) {
		err := suitable(ctx, dir)
		if err == nil {
			return startCluster(ctx, cfg, dir, "local")
		}
		unsuitable = append(unsuitable, err)
	}
	if len(unsuitable) > 0 {
		return nil, errors.Join(unsuitable...)
	}
	return nil, fmt.Errorf("no initdb and postgres in PATH, where pg_config says, or in %s",
		strings.Join(usualPlaces, ", "))
}

// usualPlaces is where distributions put the binaries of their versions of PostgreSQL.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",                             // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                      // Red Hat, by the PostgreSQL project
	"/opt/homebrew/opt/postgresql@*/bin",                    // Homebrew
	"/usr/local/opt/postgresql@*/bin",                       // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin",    // Postgres.app
	"/usr/local/pgsql/bin",                                  // built from source
	"/usr/libexec/postgresql*",                              // Alpine
	filepath.FromSlash("C:/Program Files/PostgreSQL/*/bin"), // Windows installer
}

// candidates lists the directories that hold the programs, best first.
func candidates(ctx context.Context) []string {
	var dirs []string
	add := func(dir string) {
		if has(dir, "initdb") && has(dir, "postgres") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target // a link in PATH may stand alone, without initdb beside it
		}
		add(filepath.Dir(path))
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		add(strings.TrimSpace(string(out)))
	}
	for _, place := range usualPlaces {
		found, _ := filepath.Glob(place)
		slices.SortFunc(found, func(a, b string) int { return cmp.Compare(b, a) }) // newest first
		for _, dir := range found {
			add(dir)
		}
	}
	return dirs
}

func has(dir, program string) bool {
	_, err := os.Stat(executable(dir, program))
	return err == nil
}

func executable(dir, program string) string {
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	return filepath.Join(dir, program)
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ([0-9]+)`)

// suitable returns an error if the binaries in dir cannot be run, or have an unwanted version.
func suitable(ctx context.Context, dir string) error {
	for _, program := range []string{"initdb", "postgres"} {
		if !has(dir, program) {
			return fmt.Errorf("no %s in %s", program, dir)
		}
	}
	out, err := command(ctx, executable(dir, "postgres"), "--version")
	if err != nil {
		return err
	}
	version := versionPattern.FindStringSubmatch(out)
	switch {
	case version == nil:
		return fmt.Errorf("%s does not hold PostgreSQL: its version is %q", dir, strings.TrimSpace(out))
	case len(version[1]) < 2 || version[1] < "14":
		return fmt.Errorf("%s holds PostgreSQL %s: 14 or newer is needed", dir, version[1])
	case wantedMajor() != "" && wantedMajor() != version[1]:
		return fmt.Errorf("%s holds PostgreSQL %s: TENANCY_PG_VERSION wants %s", dir, version[1], wantedMajor())
	}
	return nil
}
