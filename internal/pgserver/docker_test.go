package pgserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDockerRunsThePinnedImage(t *testing.T) {
	docker := newFakeDocker(t)
	t.Setenv("TENANCY_PG", "docker")
	s, err := Start(t.Context(), WithStatementLog())
	require.NoError(t, err)
	defer s.Close()

	require.Equal(t, "docker postgres:17-alpine", s.Source())
	require.Contains(t, docker.calls, "POST /images/create?fromImage=postgres&tag=17-alpine")
	require.Equal(t, "postgres:17-alpine", docker.created.Image)
	require.Equal(t, "postgres", docker.created.Cmd[0])
	require.Contains(t, docker.created.Cmd, "log_statement=all")
	require.True(t, docker.created.HostConfig.AutoRemove)
	require.Equal(t, "127.0.0.1", docker.created.HostConfig.PortBindings["5432/tcp"][0].HostIP)
	within(t, "the container is made to expire", func() bool { return docker.expiring() })

	d, err := s.NewDatabase(t.Context())
	require.NoError(t, err)
	connect(t, d.App.DSN)
	require.NoError(t, s.Restart(t.Context()))
	require.NoError(t, connect(t, d.App.DSN).Ping(t.Context()))

	log, err := s.Logs(t.Context())
	require.NoError(t, err)
	require.Contains(t, log, "CREATE DATABASE "+d.Name)
	require.Empty(t, s.LogPath())

	require.NoError(t, s.Close())
	require.True(t, docker.process().ended())
}

func TestDockerVersionCanBeChosen(t *testing.T) {
	docker := newFakeDocker(t)
	t.Setenv("TENANCY_PG", "docker")
	t.Setenv("TENANCY_PG_VERSION", "16")
	s, err := Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "docker postgres:16-alpine", s.Source())
	require.Equal(t, "postgres:16-alpine", docker.created.Image)
	require.NoError(t, s.Close())
}

func TestDockerIsTakenWhenNothingIsInstalled(t *testing.T) {
	newFakeDocker(t)
	nothingInstalled(t)
	s, err := Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "docker postgres:17-alpine", s.Source())
	require.NoError(t, s.Close())
}

func TestContainerThatEndsAtOnceIsAnErrorWithItsLog(t *testing.T) {
	newFakeDocker(t)
	t.Setenv("TENANCY_PG", "docker")
	_, err := Start(t.Context(), func(c *config) { c.settings = append(c.settings, "no_such_setting=1") })
	require.ErrorContains(t, err, "postgres:17-alpine ended at once")
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
}

func TestRemoteDockerIsReachedWhereItRuns(t *testing.T) {
	for variable, want := range map[string]string{
		"":                            "127.0.0.1",
		"unix:///var/run/docker.sock": "127.0.0.1",
		"tcp://docker:2375":           "docker",
	} {
		t.Setenv("DOCKER_HOST", variable)
		require.Equal(t, want, dockerHost())
	}
}

// fakeDocker is a daemon with room for one container, which is a cluster of local binaries.
type fakeDocker struct {
	t       *testing.T
	bin     string
	calls   []string
	cluster *cluster
	stops   chan struct{} // one for each request to stop the container later
	created struct {
		Image      string
		Cmd        []string
		Env        []string
		HostConfig struct {
			AutoRemove   bool
			PortBindings map[string][]struct{ HostIP, HostPort string }
		}
	}
}

func newFakeDocker(t *testing.T) *fakeDocker {
	t.Helper()
	clean(t)
	binaries := candidates(t.Context())
	require.NotEmpty(t, binaries, "the container runs the local binaries")
	d := &fakeDocker{t: t, bin: binaries[0], stops: make(chan struct{}, 10)}
	if dir := os.Getenv("TENANCY_PG_BINDIR"); dir != "" {
		d.bin = dir
		t.Setenv("TENANCY_PG_BINDIR", "")
	}
	server := httptest.NewServer(d.handler())
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_HOST", "tcp://"+server.Listener.Addr().String())
	return d
}

func (d *fakeDocker) expiring() bool { return len(d.stops) > 0 }

// process is the one that runs, or ran last.
func (d *fakeDocker) process() *process {
	d.cluster.mu.Lock()
	defer d.cluster.mu.Unlock()
	return d.cluster.process
}

func (d *fakeDocker) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /images/{name}/json", http.NotFound)
	mux.HandleFunc("POST /images/create", func(w http.ResponseWriter, r *http.Request) {
		d.calls = append(d.calls, r.Method+" "+r.URL.String())
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"status":"Downloaded newer image"}`)
	})
	mux.HandleFunc("POST /containers/create", func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&d.created); err != nil {
			d.t.Error(err)
		}
		fmt.Fprintln(w, `{"Id":"c"}`)
	})
	mux.HandleFunc("POST /containers/c/start", func(_ http.ResponseWriter, r *http.Request) {
		d.start(r)
	})
	mux.HandleFunc("GET /containers/c/json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Id":"c","State":{"Running":%t},"NetworkSettings":{}}`, !d.process().ended())
	})
	mux.HandleFunc("POST /containers/c/restart", func(_ http.ResponseWriter, r *http.Request) {
		if err := d.cluster.restart(r.Context()); err != nil {
			d.t.Error(err)
		}
	})
	mux.HandleFunc("POST /containers/c/stop", func(_ http.ResponseWriter, r *http.Request) {
		if want := strconv.Itoa(int(dockerLifetime / time.Second)); r.URL.Query().Get("t") != want {
			d.t.Errorf("the container expires in %s seconds", r.URL.Query().Get("t"))
		}
		d.stops <- struct{}{}
		<-d.process().done
	})
	mux.HandleFunc("GET /containers/c/logs", func(w http.ResponseWriter, r *http.Request) {
		log, err := d.cluster.logs(r.Context())
		if err != nil {
			d.t.Error(err)
		}
		n := len(log)
		_, _ = w.Write([]byte{2, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) // on standard error
		fmt.Fprint(w, log)
	})
	mux.HandleFunc("DELETE /containers/c", func(http.ResponseWriter, *http.Request) {
		if err := d.cluster.stop(); err != nil {
			d.t.Error(err)
		}
	})
	return mux
}

// start does what the image's entry point does.
func (d *fakeDocker) start(r *http.Request) {
	dir, err := newRunDir(r.Context())
	if err != nil {
		d.t.Error(err)
		return
	}
	d.cluster = &cluster{bin: d.bin, dir: dir}
	for i, arg := range d.created.Cmd {
		if arg == "-c" {
			d.cluster.settings = append(d.cluster.settings, d.created.Cmd[i+1])
		}
	}
	for _, variable := range d.created.Env {
		if password, ok := strings.CutPrefix(variable, "POSTGRES_PASSWORD="); ok {
			d.cluster.password = password
		}
	}
	d.cluster.port, _ = strconv.Atoi(d.created.HostConfig.PortBindings["5432/tcp"][0].HostPort)
	d.cluster.log, err = os.Create(filepath.Join(dir.path, "log"))
	if err != nil {
		d.t.Error(err)
		return
	}
	if err := d.cluster.initialize(r.Context()); err != nil {
		d.t.Error(err)
	}
	_ = d.cluster.start(r.Context()) // if it fails, the client learns it from the container's state
}
