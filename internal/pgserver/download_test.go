package pgserver

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/stretchr/testify/require"
)

// archive holds bin/initdb and bin/postgres, which are shell scripts that run the local ones, and bin/pg_ctl, which
// fails. It was made by: tar -cJf testdata/binaries.txz -C DIRECTORY bin
//
//go:embed testdata/binaries.txz
var archive []byte

func TestDownloadIsFetchedOnceAndRuns(t *testing.T) {
	cache, requests := downloading(t, jar(t, archive))
	binaries := candidates(t.Context())
	require.NotEmpty(t, binaries, "the archive runs the local binaries")
	t.Setenv("TENANCY_TEST_BINDIR", binaries[0])

	for range 2 {
		s, err := startDownload(t.Context(), config{})
		require.NoError(t, err)
		require.Regexp(t, `^downloaded PostgreSQL 1.2 \(.*/`+string(embeddedpostgres.V17)+`/bin\)$`, s.describe("1.2"))
		require.NoError(t, s.stop())
	}
	require.EqualValues(t, 2, requests.Load(), "the archive and its checksum")
	onlyKept(t, cache, string(embeddedpostgres.V17))
}

func TestDownloadsInParallelDoNotDisturbEachOther(t *testing.T) {
	cache, _ := downloading(t, jar(t, archive))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := download(t.Context(), embeddedpostgres.V17, cache); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	onlyKept(t, cache, string(embeddedpostgres.V17))
}

func TestFailedDownloadSaysWhyAndKeepsNothing(t *testing.T) {
	for _, test := range []struct {
		name string
		jar  []byte
		want string
	}{
		{"not found", nil, "no version found matching 17."},
		{"no archive", []byte("<html>"), "error fetching postgres"},
		{"truncated archive", jar(t, archive[:len(archive)/2]), "unable to extract postgres archive"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache, _ := downloading(t, test.jar)
			_, err := startDownload(t.Context(), config{})
			require.ErrorContains(t, err, "PostgreSQL 17.")
			require.ErrorContains(t, err, repository)
			require.ErrorContains(t, err, test.want)
			onlyKept(t, cache)
		})
	}
}

func TestDownloadHonoursItsContext(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-release
	}))
	defer server.Close()
	defer close(release)
	repositoryAt(t, server.URL)
	cache, err := os.MkdirTemp("", "pgserver-test-") // not the test's own: the download may still be writing
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	require.ErrorIs(t, download(ctx, embeddedpostgres.V17, cache), context.Canceled)
	t.Cleanup(func() {
		within(t, "the abandoned download cleans up", func() bool { return os.Remove(cache) == nil })
	})
}

// downloading makes a repository that offers the jar, and an empty cache. It counts the requests.
func downloading(t *testing.T, jar []byte) (cache string, requests *atomic.Int64) {
	t.Helper()
	clean(t)
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		switch {
		case jar == nil:
			http.NotFound(w, r)
		case strings.HasSuffix(r.URL.Path, ".sha256"):
			fmt.Fprintf(w, "%x", sha256.Sum256(jar))
		default:
			_, _ = w.Write(jar)
		}
	}))
	t.Cleanup(server.Close)
	repositoryAt(t, server.URL)
	dir, err := os.MkdirTemp("/tmp", "pgserver-test-") // where the user that PostgreSQL runs as may go
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	before := cacheParent
	cacheParent = func() (string, error) { return dir, nil }
	t.Cleanup(func() { cacheParent = before })
	cache, err = downloadCache()
	require.NoError(t, err)
	return cache, requests
}

func repositoryAt(t *testing.T, url string) {
	t.Helper()
	before := repository
	repository = url
	t.Cleanup(func() { repository = before })
}

// jar wraps the archive as the repository does.
func jar(t *testing.T, archive []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	w, err := z.Create("postgres-any.txz")
	require.NoError(t, err)
	_, err = w.Write(archive)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return out.Bytes()
}

// onlyKept asserts what is in the cache when all downloads are over.
func onlyKept(t *testing.T, cache string, names ...string) {
	t.Helper()
	within(t, fmt.Sprintf("only %q is kept", names), func() bool {
		entries, err := os.ReadDir(cache)
		if err != nil || len(entries) != len(names) {
			return false
		}
		for i, entry := range entries {
			if entry.Name() != names[i] {
				return false
			}
		}
		return true
	})
}
