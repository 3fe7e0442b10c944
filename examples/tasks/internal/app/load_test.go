package app

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/limit"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/webhooks"
)

// loadFor is how long TestLoad sends requests. For the figures of the README:
//
//	go test -run TestLoad -v ./internal/app -load 60s
var loadFor = flag.Duration("load", 2*time.Second, "how long TestLoad sends requests")

// mark is in each text of a tenant: "mark-7-".
var mark = regexp.MustCompile(`mark-(\d+)-`)

// foreign returns a mark in a text that is not the tenant's, or "".
func foreign(text string, tenant int) string {
	for _, found := range mark.FindAllStringSubmatch(text, -1) {
		if found[1] != fmt.Sprint(tenant) {
			return found[0]
		}
	}
	return ""
}

// inbox receives the webhooks of all tenants, each at the path of its number, and checks whose they are.
type inbox struct {
	*httptest.Server
	mu       sync.Mutex
	down     time.Time                   // until then; zero: it is not
	refused  int                         // requests while it was down
	verify   []*standardwebhooks.Webhook // by tenant
	projects map[string]bool             // that came in an event
	messages int
	wrong    []string
	gate     chan struct{} // see hold
	held     int
}

// newInbox starts one.
func newInbox(t *testing.T) *inbox {
	t.Helper()
	i := &inbox{projects: map[string]bool{}}
	i.Server = httptest.NewServer(http.HandlerFunc(i.receive))
	t.Cleanup(i.Close)
	return i
}

// closeUntil has it be down until a time, and at least for one request.
func (i *inbox) closeUntil(at time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down, i.refused = at, 0
}

// hold lets requests wait for their answer until the returned function is called.
func (i *inbox) hold() (release func()) {
	gate := make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gate, i.held = gate, 0
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.gate = nil
		close(gate)
	}
}

// holds reports whether a request waits.
func (i *inbox) holds() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.held > 0
}

// wait waits where hold was called, and reports whether the sender still does.
func (i *inbox) wait(r *http.Request) bool {
	i.mu.Lock()
	gate := i.gate
	if gate != nil {
		i.held++
	}
	i.mu.Unlock()
	if gate == nil {
		return true
	}
	select {
	case <-gate:
	case <-r.Context().Done():
	}
	return r.Context().Err() == nil
}

func (i *inbox) receive(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !i.wait(r) {
		return // it was killed, and has to send it again
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.down.IsZero() && (i.refused == 0 || time.Now().Before(i.down)) {
		i.refused++
		panic(http.ErrAbortHandler) // closes the connection
	}
	var tenant int
	var message struct{ Data struct{ ID string } }
	_, err := fmt.Sscanf(r.URL.Path, "/%d", &tenant)
	if err != nil || tenant >= len(i.verify) || json.Unmarshal(body, &message) != nil {
		i.wrong = append(i.wrong, r.URL.Path)
		return
	}
	if err := i.verify[tenant].Verify(body, r.Header); err != nil || foreign(string(body), tenant) != "" || mark.FindString(string(body)) == "" {
		i.wrong = append(i.wrong, fmt.Sprint(tenant, " ", string(body), err))
	}
	i.messages++
	i.projects[message.Data.ID] = true
}

// missing are those of the projects that have not come yet.
func (i *inbox) missing(projects []string) (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, id := range projects {
		if !i.projects[id] {
			n++
		}
	}
	return n
}

// loader is a client of one tenant.
type loader struct {
	client
	tenant   int
	projects []string // whose creation was answered with 201
	times    []time.Duration
	wrong    []string
}

// loaders signs up tenants, each with an endpoint in the inbox.
func loaders(t *testing.T, h http.Handler, i *inbox, n int) (all []*loader) {
	t.Helper()
	for tenant := range n {
		anyone := client{t, h, ""}
		signed := anyone.want(http.StatusCreated, http.MethodPost, "/v1/signup", object{"tenant": fmt.Sprintf("tenant-%d", tenant), "name": "Load"})
		l := &loader{client: client{t, h, signed.body["key"].(object)["key"].(string)}, tenant: tenant}
		hook := l.want(http.StatusCreated, http.MethodPost, "/v1/webhooks/endpoints",
			object{"url": fmt.Sprint(i.URL, "/", tenant), "types": []string{"project.created"}})
		verify, err := standardwebhooks.NewWebhook(hook.body["secret"].(string))
		require.NoError(t, err)
		i.mu.Lock()
		i.verify = append(i.verify, verify)
		i.mu.Unlock()
		all = append(all, l)
	}
	return all
}

// text is a new one of the tenant.
func (l *loader) text() string { return fmt.Sprintf("mark-%d-%s", l.tenant, fresh()) }

// ask sends a request, and checks its answer.
func (l *loader) ask(status int, method, path string, body any, headers ...string) (id string, ok bool) {
	began := time.Now()
	got := l.do(method, path, body, headers...)
	l.times = append(l.times, time.Since(began))
	if found := foreign(got.text, l.tenant); found != "" || got.status != status {
		l.wrong = append(l.wrong, fmt.Sprintf("%s %s: %d, a row of %q: %.300s", method, path, got.status, found, got.text))
		return "", false
	}
	id, _ = got.body["id"].(string)
	return id, true
}

// round is what a client does: it makes a project and what is below it, changes it, and looks at lists.
func (l *loader) round() {
	project, ok := l.ask(http.StatusCreated, http.MethodPost, "/v1/projects", object{"name": l.text()}, "Idempotency-Key", fresh())
	if !ok {
		return
	}
	l.projects = append(l.projects, project)
	task, ok := l.ask(http.StatusCreated, http.MethodPost, "/v1/tasks", object{"project_id": project, "title": l.text()})
	if !ok {
		return
	}
	l.ask(http.StatusCreated, http.MethodPost, "/v1/tasks/"+task+"/comments", object{"text": l.text()})
	l.ask(http.StatusOK, http.MethodPatch, "/v1/tasks/"+task, object{"status": "done"}, "If-Match", `"1"`)
	for _, path := range []string{
		"/v1/tasks?limit=100&sort=-created_at", "/v1/projects?page=1&limit=100", "/v1/tasks?filter=" + url.QueryEscape("title:contains:mark"),
		"/v1/audit?limit=100", "/v1/tasks/" + task + "/comments", "/v1/summary", "/v1/flags", "/v1/webhooks/deliveries?limit=100",
	} {
		l.ask(http.StatusOK, http.MethodGet, path, nil)
	}
	l.ask(http.StatusNoContent, http.MethodDelete, "/v1/tasks/"+task, nil, "If-Match", `"2"`)
}

// soon delivers again within seconds.
func soon() webhooks.Config {
	second := time.Second
	return webhooks.Config{
		Schedule: []time.Duration{second / 4, second / 2, second, 2 * second, 4 * second, 8 * second, 8 * second, 8 * second}, Timeout: 2 * second,
		BreakAfter: 5, BreakFor: second / 2,
	}
}

// unlimited are limits that no test reaches.
func unlimited() limit.Config {
	many := limit.Rate{Burst: 1_000_000, Every: time.Millisecond}
	return limit.Config{Tenant: many, Caller: many, Address: many}
}

// TestLoad has 50 clients of 50 tenants send requests at once, on 4 connections that the workers use, too. No answer has a row of another
// tenant. For a third of the time, of which 20 seconds are the most, the receiver of all webhooks is down; no event is lost for that, and none
// comes to the endpoint of another tenant.
func TestLoad(t *testing.T) {
	const tenants, connections = 50, 4
	_, cfg := configure(t)
	cfg.DangerouslyAllowLoopbackWebhooks, cfg.Limits, cfg.hooks = true, unlimited(), soon()
	a := run(t, cfg)
	pool, err := a.db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(connections)
	i := newInbox(t)
	all := loaders(t, a.Handler(), i, tenants)

	began := time.Now()
	i.closeUntil(began.Add(min(*loadFor/3, 20*time.Second)))
	var clients sync.WaitGroup
	for _, l := range all {
		clients.Go(func() {
			for time.Since(began) < *loadFor {
				l.round()
			}
		})
	}
	clients.Wait()
	sent := time.Since(began)
	var projects []string
	var times []time.Duration
	for _, l := range all {
		require.Empty(t, l.wrong)
		projects, times = append(projects, l.projects...), append(times, l.times...)
	}
	require.Eventually(t, func() bool { return i.missing(projects) == 0 }, 2*time.Minute, 20*time.Millisecond, "all events are delivered")
	delivered := time.Since(began)

	i.mu.Lock()
	defer i.mu.Unlock()
	require.Empty(t, i.wrong)
	require.Positive(t, i.refused, "the receiver was down")
	slices.Sort(times)
	at := func(part float64) time.Duration {
		return times[int(part*float64(len(times)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%d requests in %s, %.0f a second; half within %s, 95%% within %s, 99%% within %s, all within %s", len(times), sent.Round(100*time.Millisecond),
		float64(len(times))/sent.Seconds(), at(0.5), at(0.95), at(0.99), at(1))
	t.Logf("%d events, %d messages, and %d attempts while the receiver was down; all delivered after %s", len(projects), i.messages, i.refused,
		delivered.Round(100*time.Millisecond))
}
