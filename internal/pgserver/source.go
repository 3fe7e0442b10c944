package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// defaultMajor is the version of PostgreSQL that is fetched when TENANCY_PG_VERSION names no other.
const defaultMajor = "17"

// ErrNoLogs is returned by Logs for the server of TENANCY_DSN, whose log cannot be read.
var ErrNoLogs = errors.New("pgserver: the server's log cannot be read")

// sources are tried in this order; TENANCY_PG chooses by name.
var sources = []source{
	{"local", startLocal},
	{"docker", startDocker},
	{"download", startDownload},
}

type source struct {
	name  string
	start func(context.Context, config) (instance, error)
}

// provide starts the first source that works, or the one that the environment insists on.
func provide(ctx context.Context, cfg config) (instance, error) {
	dsn, forced := os.Getenv("TENANCY_DSN"), os.Getenv("TENANCY_PG")
	if err := checkMajor(); err != nil {
		return nil, err
	}
	switch {
	case dsn != "" && forced != "":
		return nil, errors.New("TENANCY_DSN and TENANCY_PG contradict each other: unset one")
	case dsn != "":
		return externalServer(dsn)
	case forced != "":
		return startForced(ctx, cfg, "TENANCY_PG", forced)
	case os.Getenv("TENANCY_PG_BINDIR") != "":
		return startForced(ctx, cfg, "TENANCY_PG_BINDIR", "local")
	}
	var failed noServer
	for _, source := range sources {
		instance, err := source.start(ctx, cfg)
		if err == nil {
			return instance, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		failed = append(failed, fmt.Errorf("%s: %w", source.name, err))
	}
	return nil, failed
}

func startForced(ctx context.Context, cfg config, variable, name string) (instance, error) {
	var names []string
	for _, source := range sources {
		if source.name == name {
			instance, err := source.start(ctx, cfg)
			if err != nil {
				return nil, fmt.Errorf("%s is set: %s: %w", variable, name, err)
			}
			return instance, nil
		}
		names = append(names, source.name)
	}
	return nil, fmt.Errorf("%s=%s is unknown: use one of %s", variable, name, strings.Join(names, ", "))
}

// noServer is the error of having tried every source.
type noServer []error

func (e noServer) Unwrap() []error { return e }

func (e noServer) Error() string {
	var b strings.Builder
	b.WriteString("no source of PostgreSQL works on this machine\n")
	for _, err := range e {
		fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(err.Error(), "\n", "\n    "))
	}
	b.WriteString(`any one of these helps:
  install PostgreSQL 14 or newer: "apt install postgresql" or "brew install postgresql@17"
  start Docker
  set TENANCY_DSN to a login of a running server that may create roles and databases
  set TENANCY_PG_BINDIR to the directory that holds the programs initdb and postgres
  allow this machine to download from ` + repository)
	return b.String()
}

// wantedMajor is the major version that TENANCY_PG_VERSION insists on, or empty.
func wantedMajor() string { return os.Getenv("TENANCY_PG_VERSION") }

// fetchedMajor is the major version to fetch when none is installed.
func fetchedMajor() string {
	if major := wantedMajor(); major != "" {
		return major
	}
	return defaultMajor
}

var twoDigits = regexp.MustCompile(`^[1-9][0-9]$`)

func checkMajor() error {
	if major := wantedMajor(); major != "" && (!twoDigits.MatchString(major) || major < "14") {
		return fmt.Errorf("TENANCY_PG_VERSION=%s is not a supported major version: use 14 or newer, such as %s", major, defaultMajor)
	}
	return nil
}

// progress writes to the terminal what takes long.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "pgserver: "+format+"\n", args...)
}
