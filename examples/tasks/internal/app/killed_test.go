package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// serverEnv has the logins of a process that serves, and works, until it is killed.
const serverEnv = "TASKS_TEST_SERVER"

// logins are what such a process needs.
type logins struct {
	Owner, App, Worker Login
	Admin, Lookup      string
}

// serve is that process. It writes its address.
func serve() error {
	var l logins
	if err := json.Unmarshal([]byte(os.Getenv(serverEnv)), &l); err != nil {
		return err
	}
	a, err := Start(context.Background(), Config{
		Owner: l.Owner, App: l.App, Worker: l.Worker, Admin: l.Admin, Lookup: l.Lookup, Log: slog.New(slog.DiscardHandler), Secret: make([]byte, 32),
		Limits: unlimited(), DangerouslyAllowLoopbackWebhooks: true, hooks: soon(), rescue: 3 * time.Second,
	})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Println(listener.Addr()); err != nil {
		return err
	}
	return http.Serve(listener, a.Handler()) //nolint:gosec // its clients are those of a test
}

// process is one that serves.
type process struct {
	command *exec.Cmd
	address string
}

func startProcess(t *testing.T, d *pgserver.Database) *process {
	t.Helper()
	text, err := json.Marshal(logins{Login(d.Owner), Login(d.App), Login(d.Worker), d.Admin.Role, d.Lookup.Role})
	require.NoError(t, err)
	p := &process{command: exec.Command(os.Args[0])} // it outlives no test: it is killed
	p.command.Env, p.command.Stderr = append(os.Environ(), serverEnv+"="+string(text)), os.Stderr
	out, err := p.command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.command.Start())
	t.Cleanup(func() { p.kill(t) })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	p.address = strings.TrimSpace(line)
	return p
}

// kill ends the process in the middle of what it does. A second time does nothing.
func (p *process) kill(t *testing.T) {
	if p.command.ProcessState != nil {
		return
	}
	require.NoError(t, p.command.Process.Kill())
	_ = p.command.Wait() // says that it was killed
	require.Equal(t, syscall.SIGKILL, p.command.ProcessState.Sys().(syscall.WaitStatus).Signal())
}

// remote sends requests to processes that come and go.
type remote struct {
	mu      sync.Mutex
	address string
	created map[string]int // the tenant of each project whose creation was answered
	allowed int            // how many there may be for now, so that the end comes soon
	changed *sync.Cond
}

// allow allows more projects, and returns when half of them are there.
func (r *remote) allow(more int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.created) + more/2
	r.allowed = len(r.created) + more
	r.changed.Broadcast()
	for len(r.created) < n {
		r.changed.Wait()
	}
}

// admit waits until there may be one more, and returns the address to send it to. It returns "" at the end.
func (r *remote) admit(ctx context.Context) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.created) >= r.allowed && ctx.Err() == nil {
		r.changed.Wait()
	}
	if ctx.Err() != nil {
		return ""
	}
	return r.address
}

func (r *remote) at(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.address = address
	r.changed.Broadcast()
}

// create asks for a project, and remembers it if it was answered.
func (r *remote) create(ctx context.Context, c *http.Client, l *loader, address string) {
	body, _ := json.Marshal(object{"name": l.text()})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/projects", bytes.NewReader(body))
	if err != nil {
		return
	}
	request.Header = http.Header{"X-Api-Key": {l.key}, "Content-Type": {"application/json"}}
	response, err := c.Do(request)
	if err != nil {
		return // it was killed, or is not there yet
	}
	defer response.Body.Close()
	var project struct{ ID string }
	if response.StatusCode != http.StatusCreated || json.NewDecoder(response.Body).Decode(&project) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.created[project.ID] = l.tenant
	r.changed.Broadcast()
}

// TestProcessesThatAreKilledLoseNothing: server and worker are killed in the middle of requests and jobs, and started again. The event of each
// project whose creation was answered is delivered at least once, and none to the endpoint of another tenant.
func TestProcessesThatAreKilledLoseNothing(t *testing.T) {
	const tenants, kills, between = 6, 3, 30
	d, cfg := configure(t)
	cfg.DangerouslyAllowLoopbackWebhooks, cfg.Limits, cfg.hooks, cfg.rescue = true, unlimited(), soon(), 3*time.Second
	super, i := superuser(t, d), newInbox(t)
	first, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	all := loaders(t, first.Handler(), i, tenants)
	require.NoError(t, first.Close())

	r := &remote{created: map[string]int{}}
	r.changed = sync.NewCond(&r.mu)
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	p := startProcess(t, d)
	r.at(p.address)
	for _, l := range all {
		clients.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			defer c.CloseIdleConnections()
			for address := r.admit(ctx); address != ""; address = r.admit(ctx) {
				r.create(ctx, c, l, address)
			}
		})
	}
	interrupted := 0
	for range kills {
		release := i.hold()
		r.allow(between)
		require.Eventually(t, i.holds, time.Minute, time.Millisecond)
		r.allow(between)
		p.kill(t)
		release()
		var running int
		require.NoError(t, super.Raw("SELECT count(*) FROM river_job WHERE state = 'running'").Scan(&running).Error)
		require.Positive(t, running, "jobs that were in the middle")
		interrupted += running
		require.NoError(t, super.Exec("DELETE FROM river_leader").Error) // as if the time of the one that was killed had passed
		p = startProcess(t, d)
		r.at(p.address)
	}
	r.allow(between)
	stop()
	r.at("") // so that those that wait see the end
	clients.Wait()
	t.Logf("%d projects, %d jobs that were in the middle", len(r.created), interrupted)

	var projects []string
	for id := range r.created {
		projects = append(projects, id)
	}
	require.Eventually(t, func() bool { return i.missing(projects) == 0 }, 2*time.Minute, 20*time.Millisecond, "all events are delivered")
	i.mu.Lock()
	defer i.mu.Unlock()
	require.Empty(t, i.wrong)
}
