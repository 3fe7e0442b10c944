package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSuitesAreFound lists the real ones.
func TestSuitesAreFound(t *testing.T) {
	root, err := repositoryRoot(t.Context())
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(root, "go.work"))
	all, err := listSuites(t.Context(), root, "")
	require.NoError(t, err)
	var names []string
	for _, s := range all {
		names = append(names, s.name)
	}
	require.Subset(t, names, []string{"guard", "isolation", "rls", "rls/check", "pgbouncer", "examples/quickstart"})
	require.False(t, slices.ContainsFunc(names, func(name string) bool {
		return name == "matrix" || name == "soak" || strings.HasPrefix(name, "bench")
	}), names)

	some, err := listSuites(t.Context(), root, "rls/check,guard")
	require.NoError(t, err)
	require.Len(t, some, 2)
	_, err = listSuites(t.Context(), root, "gard")
	require.ErrorContains(t, err, "there is no such suite")
}

func TestChosen(t *testing.T) {
	for only, want := range map[string]bool{"": true, "rls": true, "rls/check": true, "guard,rls": true, "rl": false, "rls/app": false} {
		require.Equal(t, want, chosen("rls/check", only), only)
	}
}

func TestWhatCannotBeDoneIsSaid(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), []string{"-versions", "13"}), `"13" is not one of 14, 15, 16, 17, 18`)
	require.NoError(t, fits("linux", "amd64"))
	err := fits("darwin", "arm64")
	require.ErrorContains(t, err, "this is darwin/arm64")
	require.ErrorContains(t, err, "-bindir 17=")
	t.Setenv("PATH", t.TempDir())
	_, err = npmPack(t.Context(), t.TempDir(), releaseOf("16"))
	require.ErrorContains(t, err, "npm is needed")
	require.ErrorContains(t, err, "-bindir 16=")
}

// two suites, and what go test says of them on two servers.
var suites = []suite{{module + "/tests/guard", "guard"}, {module + "/tests/rls", "rls"}}

const (
	events14 = `{"Action":"start","Package":"github.com/gormtenancy/tenancy/tests/guard"}
{"Action":"run","Package":"github.com/gormtenancy/tenancy/tests/guard","Test":"TestA"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard","Test":"TestA/exec/x"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard","Test":"TestA/exec"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard","Test":"TestA/simple_protocol"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard","Test":"TestA"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard","Elapsed":1.5}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/rls","Test":"TestB"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/rls","Elapsed":0.5}
`
	events15 = `{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard","Test":"TestA/exec/x"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard","Test":"TestA/simple_protocol"}
{"Action":"pass","Package":"github.com/gormtenancy/tenancy/tests/guard"}
{"Action":"output","Package":"github.com/gormtenancy/tenancy/tests/rls","Test":"TestB","Output":"no\n"}
{"Action":"fail","Package":"github.com/gormtenancy/tenancy/tests/rls","Test":"TestB"}
{"Action":"skip","Package":"github.com/gormtenancy/tenancy/tests/rls","Test":"TestC"}
{"Action":"fail","Package":"github.com/gormtenancy/tenancy/tests/rls"}
`
)

func resultOf(t *testing.T, server, events string) *result {
	t.Helper()
	r := &result{server: server, suites: map[string]*outcome{}}
	require.NoError(t, r.read(strings.NewReader(events), suites))
	return r
}

func TestReport(t *testing.T) {
	good := resultOf(t, "PostgreSQL 14.23", events14)
	require.False(t, good.failed())
	require.NoError(t, newReport(suites, []*result{good}).err())
	require.Contains(t, newReport(suites, []*result{good}).markdown(), "None.\n")

	bad := resultOf(t, "PostgreSQL 15.18", events15)
	require.True(t, bad.failed())
	both := newReport(suites, []*result{good, bad})
	require.ErrorIs(t, both.err(), errFailed)
	for _, line := range []string{
		"| suite | PostgreSQL 14.23 | PostgreSQL 15.18 |\n",
		"| `guard` | 2 | 2 |\n",
		"| `rls` | 1 | 0, 1 failed, 1 skipped |\n",
		"| **all** | **3** | **2, 1 failed, 1 skipped** |\n",
		"| `exec` | 1 | 1 |\n",
		"| `cache_describe` | 0 | 0 |\n",
		"- `rls`: TestC: on 15.18\n",
	} {
		require.Contains(t, both.markdown(), line)
	}
}

func TestPackageThatFailsWithoutATestCounts(t *testing.T) {
	r := resultOf(t, "PostgreSQL 18.4", `{"Action":"fail","Package":"github.com/gormtenancy/tenancy/tests/rls"}`)
	require.True(t, r.failed())
	require.Equal(t, counts{failed: 1}, r.suites["rls"].count())
}

func TestServerName(t *testing.T) {
	require.Equal(t, "PostgreSQL 15.18", serverName("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"))
	require.Equal(t, "PostgreSQL 18.4", serverName("postgres (PostgreSQL) 18.4\n"))
}

func TestUnpack(t *testing.T) {
	const links = `[{"source":"native/lib/libpq.so.5.16","target":"native/lib/libpq.so.5"}]`
	dir := filepath.Join(t.TempDir(), "package")
	require.NoError(t, unpack(archive(t, map[string]string{
		"package/native/bin/initdb": "program", "package/native/lib/libpq.so.5.16": "library",
		"package/native/pg-symlinks.json": links,
	}), dir))
	library, err := os.ReadFile(filepath.Join(dir, "native/lib/libpq.so.5"))
	require.NoError(t, err)
	require.Equal(t, "library", string(library))
	program, err := os.Stat(filepath.Join(dir, "native/bin/initdb"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), program.Mode().Perm())

	for name, files := range map[string]map[string]string{
		"file": {"package/../../evil": "x"},
		"link": {"package/native/pg-symlinks.json": `[{"source":"../../evil","target":"native/x"}]`},
	} {
		require.ErrorContains(t, unpack(archive(t, files), filepath.Join(t.TempDir(), "package")), "leads out of the archive", name)
	}
}

func TestVerify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "archive.tgz")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	const empty = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
	require.NoError(t, verify(file, empty))
	require.ErrorContains(t, verify(file, "sha512-x"), "instead of sha512-x")
}

// archive is what npm would make of the files.
func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "archive.tgz"))
	require.NoError(t, err)
	zipped := gzip.NewWriter(f)
	tarred := tar.NewWriter(zipped)
	for name, content := range files {
		require.NoError(t, tarred.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(tarred, content)
		require.NoError(t, err)
	}
	require.NoError(t, tarred.Close())
	require.NoError(t, zipped.Close())
	require.NoError(t, f.Close())
	return f.Name()
}
