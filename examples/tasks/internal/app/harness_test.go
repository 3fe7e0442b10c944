package app

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/limit"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// quiet is a log that is not read.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// configure makes a database, and the configuration of an application on it with the tenants of the demo.
func configure(t *testing.T) (*pgserver.Database, Config) {
	t.Helper()
	d := pgserver.New(t)
	return d, Config{
		Owner: Login(d.Owner), App: Login(d.App), Worker: Login(d.Worker), Admin: d.Admin.Role, Lookup: d.Lookup.Role,
		Log: quiet, Demo: true, Secret: make([]byte, 32),
		Limits: limit.Config{Address: limit.Rate{Burst: 100_000, Every: time.Millisecond}}, // all tests have one address
	}
}

// run runs the application until the test ends.
func run(t *testing.T, cfg Config) *App {
	t.Helper()
	a, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// start runs the application on a database of its own.
func start(t *testing.T, change ...func(*pgserver.Database, *Config)) *App {
	t.Helper()
	d, cfg := configure(t)
	for _, c := range change {
		c(d, &cfg)
	}
	return run(t, cfg)
}

// client sends requests with a key.
type client struct {
	t   *testing.T
	h   http.Handler
	key string
}

// clients are those of the two tenants of the demo.
func clients(t *testing.T, a *App) (acme, globex client) {
	return client{t, a.Handler(), AcmeKey}, client{t, a.Handler(), GlobexKey}
}

// answer is what a request got. Body is nil without one.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func (a answer) id() string { return a.body["id"].(string) }

func (a answer) items() []any { return a.body["items"].([]any) }

// do sends a request. Headers are pairs of name and value.
func (c client) do(method, path string, body any, headers ...string) answer {
	c.t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		require.NoError(c.t, err)
		content = bytes.NewReader(text)
	}
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, content)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		r.Header.Set("X-API-Key", c.key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), text: w.Body.String()}
	if strings.Contains(w.Header().Get("Content-Type"), "json") {
		require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &a.body), a.text)
	}
	if a.status >= 400 {
		require.Equal(c.t, "application/problem+json", a.header.Get("Content-Type"), a.text)
		require.EqualValues(c.t, a.status, a.body["status"], a.text)
	}
	return a
}

// want is do that requires a status.
func (c client) want(status int, method, path string, body any, headers ...string) answer {
	c.t.Helper()
	a := c.do(method, path, body, headers...)
	require.Equal(c.t, status, a.status, "%s %s: %s", method, path, a.text)
	return a
}

type object = map[string]any

// project, task, comment, label and attachment make one each.
func (c client) project(name string) answer {
	c.t.Helper()
	return c.want(http.StatusCreated, http.MethodPost, "/v1/projects", object{"name": name})
}

func (c client) task(project answer, title string) answer {
	c.t.Helper()
	return c.want(http.StatusCreated, http.MethodPost, "/v1/tasks", object{"project_id": project.id(), "title": title})
}

func (c client) comment(task answer, text string) answer {
	c.t.Helper()
	return c.want(http.StatusCreated, http.MethodPost, "/v1/tasks/"+task.id()+"/comments", object{"text": text})
}

func (c client) label(name string) answer {
	c.t.Helper()
	return c.want(http.StatusCreated, http.MethodPost, "/v1/labels", object{"name": name})
}

func (c client) attachment(task answer, name string) answer {
	c.t.Helper()
	return c.want(http.StatusCreated, http.MethodPost, "/v1/tasks/"+task.id()+"/attachments",
		object{"name": name, "content_type": "text/plain", "size": 1, "sha256": strings.Repeat("a", 64)})
}

// remove deletes a row in its newest version.
func (c client) remove(kind, id string) {
	c.t.Helper()
	if kind == "comments" || kind == "attachments" || kind == "labels" {
		c.want(http.StatusNoContent, http.MethodDelete, "/v1/"+kind+"/"+id, nil, "If-Match", `"1"`)
		return
	}
	etag := c.want(http.StatusOK, http.MethodGet, "/v1/"+kind+"/"+id, nil).header.Get("ETag")
	c.want(http.StatusNoContent, http.MethodDelete, "/v1/"+kind+"/"+id, nil, "If-Match", etag)
}

// names returns a field of the items of a list.
func (c client) names(path, field string) (names []string) {
	c.t.Helper()
	for _, item := range c.want(http.StatusOK, http.MethodGet, path, nil).items() {
		names = append(names, item.(object)[field].(string))
	}
	return names
}
