package pgserver

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unobtainable is an environment that asks for a server that cannot be had, and what the error says.
type unobtainable struct {
	name string
	env  map[string]string
	want []string
}

// unobtainables are all of them, one with an empty directory.
func unobtainables(empty string) []unobtainable {
	return []unobtainable{
		{
			"unknown source",
			map[string]string{"TENANCY_PG": "oracle"},
			[]string{"TENANCY_PG=oracle is unknown", "local, docker, download"},
		},
		{
			"server and source",
			map[string]string{"TENANCY_PG": "local", "TENANCY_DSN": "postgres://localhost/x"},
			[]string{"TENANCY_DSN and TENANCY_PG contradict each other"},
		},
		{
			"no version",
			map[string]string{"TENANCY_PG_VERSION": "17.2"},
			[]string{"TENANCY_PG_VERSION=17.2 is not a supported major version"},
		},
		{
			"old version",
			map[string]string{"TENANCY_PG_VERSION": "13"},
			[]string{"14 or newer"},
		},
		{
			"version that is not installed",
			map[string]string{"TENANCY_PG": "local", "TENANCY_PG_VERSION": "99"},
			[]string{"TENANCY_PG is set: local: ", "TENANCY_PG_VERSION wants 99"},
		},
		{
			"version that cannot be downloaded",
			map[string]string{"TENANCY_PG": "download", "TENANCY_PG_VERSION": "99"},
			[]string{"no download of PostgreSQL 99"},
		},
		{
			"directory without binaries",
			map[string]string{"TENANCY_PG_BINDIR": empty},
			[]string{"TENANCY_PG_BINDIR is set", "no initdb in " + empty},
		},
		{
			"server that does not answer",
			map[string]string{"TENANCY_DSN": "postgres://me:secret@127.0.0.1:1/x"},
			[]string{"TENANCY_DSN: ", "127.0.0.1:1"},
		},
		{
			"malformed login",
			map[string]string{"TENANCY_DSN": "postgres://me:secret@127.0.0.1:none/x"},
			[]string{"TENANCY_DSN is malformed"},
		},
		{
			"login as key=value pairs, of a server that does not answer",
			map[string]string{"TENANCY_DSN": "host=127.0.0.1 port=1 user=me password=secret"},
			[]string{"TENANCY_DSN: ", "127.0.0.1:1"},
		},
	}
}

func TestWhatIsAskedForAndCantBeHadIsAnError(t *testing.T) {
	for _, test := range unobtainables(t.TempDir()) {
		t.Run(test.name, func(t *testing.T) {
			clean(t)
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			_, err := Start(t.Context())
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestNoSourceAtAllNamesEachAndEveryRemedy(t *testing.T) {
	clean(t)
	nothingInstalled(t)
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "docker.sock"))
	repositoryAt(t, "http://127.0.0.1:1")

	_, err := Start(t.Context())
	for _, want := range []string{
		"no source of PostgreSQL works",
		"local: no initdb and postgres in PATH", "/usr/lib/postgresql/*/bin",
		"docker: no daemon answers at unix://",
		"download: PostgreSQL 17.", "unable to connect to http://127.0.0.1:1",
		"apt install postgresql", "brew install", "start Docker", "TENANCY_DSN", "TENANCY_PG_BINDIR", "allow",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestSilentDockerIsGivenUpInTime(t *testing.T) {
	clean(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are taken by the kernel and answered by nobody
	require.NoError(t, err)
	defer silent.Close()
	t.Setenv("TENANCY_PG", "docker")
	t.Setenv("DOCKER_HOST", "tcp://"+silent.Addr().String())

	begun := time.Now()
	_, err = Start(t.Context())
	require.ErrorContains(t, err, "no daemon answers at")
	require.ErrorContains(t, err, "deadline exceeded")
	require.Less(t, time.Since(begun), dockerPing+time.Second)
}

// nothingInstalled hides the local binaries.
func nothingInstalled(t *testing.T) {
	t.Helper()
	places := usualPlaces
	usualPlaces = []string{filepath.Join(t.TempDir(), "usr/lib/postgresql/*/bin")}
	t.Cleanup(func() { usualPlaces = places })
	t.Setenv("PATH", t.TempDir())
	t.Setenv("TENANCY_PG_BINDIR", "")
}
