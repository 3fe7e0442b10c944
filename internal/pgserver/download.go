package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// downloads are the versions that can be fetched.
var downloads = map[string]embeddedpostgres.PostgresVersion{
	"14": embeddedpostgres.V14,
	"15": embeddedpostgres.V15,
	"16": embeddedpostgres.V16,
	"17": embeddedpostgres.V17,
	"18": embeddedpostgres.V18,
}

// repository is where binaries are downloaded from.
var repository = "https://repo1.maven.org/maven2"

// startDownload runs binaries that it downloads once and keeps.
func startDownload(ctx context.Context, cfg config) (instance, error) {
	version, ok := downloads[fetchedMajor()]
	if !ok {
		return nil, fmt.Errorf("there is no download of PostgreSQL %s", fetchedMajor())
	}
	cache, err := downloadCache()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(cache, string(version), "bin")
	if !has(bin, "initdb") {
		if err := download(ctx, version, cache); err != nil {
			return nil, fmt.Errorf("PostgreSQL %s from %s: %w", version, repository, err)
		}
	}
	if err := suitable(ctx, bin); err != nil {
		return nil, err
	}
	return startCluster(ctx, cfg, bin, "downloaded")
}

// downloadCache is a directory that outlives the run.
func downloadCache() (string, error) {
	parent, err := cacheParent()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(parent, "tenancy-pg")
	return dir, os.MkdirAll(dir, 0o755)
}

// cacheParent is where programs keep what they can fetch again. The user that PostgreSQL runs as cannot enter root's.
var cacheParent = func() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache", nil
	}
	return os.UserCacheDir()
}

// download fetches a version into the directory cache/version. Several processes may do so at once: one prevails.
func download(ctx context.Context, version embeddedpostgres.PostgresVersion, cache string) error {
	progress("downloading PostgreSQL %s from %s", version, repository)
	begun := time.Now()
	report := time.NewTicker(5 * time.Second)
	defer report.Stop()
	done := make(chan error, 1)
	// The library takes no context: when ctx ends, the download goes on in the background.
	go func() { done <- fetch(version, cache) }()
	for {
		select {
		case err := <-done:
			if err == nil {
				progress("downloaded in %s", time.Since(begun).Round(100*time.Millisecond))
			}
			return err
		case <-report.C:
			progress("still downloading, for %s now", time.Since(begun).Round(time.Second))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetch lets the library download and extract the binaries, and not run them: it has its own ideas of users, ports and
// logs.
func fetch(version embeddedpostgres.PostgresVersion, cache string) error {
	work, err := os.MkdirTemp(cache, "fetching-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	port, err := freePort()
	if err != nil {
		return err
	}
	// The library has no function but Start, which would also run a server. With a data directory that only looks like a
	// cluster's, that step fails, after the download.
	data, extracted := filepath.Join(work, "data"), filepath.Join(work, "extracted")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(version), 0o600); err != nil {
		return err
	}
	err = embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).
		BinaryRepositoryURL(repository).
		CachePath(filepath.Join(work, "archive")).
		BinariesPath(extracted).
		RuntimePath(filepath.Join(work, "runtime")).
		DataPath(data).
		Port(uint32(port)).
		Logger(io.Discard)).Start()
	switch {
	case err == nil:
		return errors.New("the library started a server in no data directory")
	case !strings.HasPrefix(err.Error(), "could not start postgres"):
		return err
	}
	if err := os.Chmod(extracted, 0o755); err != nil {
		return err
	}
	kept := filepath.Join(cache, string(version))
	if err := os.Rename(extracted, kept); err != nil && !has(filepath.Join(kept, "bin"), "initdb") {
		return err
	}
	return nil
}
