package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/internal/passwords"
	"github.com/gormtenancy/tenancy/examples/internal/readme"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

func TestReadme(t *testing.T) {
	program := readme.Start(t, "-txt", "dns.txt")
	program.Check(t, "README.md")
	require.Contains(t, program.Said, "curl -s http://acme.localhost:")
	require.NotContains(t, program.Log(), "level=ERROR")
}

// fixture is the API with its two tenants, and some tokens.
type fixture struct {
	*api
	server   *httptest.Server
	database *pgserver.Database
	dns      dns
	log      *buffer

	ann, bob, eve, zoe string // tokens: of acme's admin, of its members, of globex's admin; zoe's is acme's
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	w := &fixture{database: pgserver.New(t), dns: dns{records: map[string][]string{}}, log: &buffer{}}
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w.api, err = newAPI(t.Context(), w.database, config{
		log:       slog.New(slog.NewTextHandler(w.log, nil)),
		key:       key,
		passwords: passwords.NewWeak(),
		txt:       &w.dns,
	})
	require.NoError(t, err)
	w.server = httptest.NewServer(w.handler())
	t.Cleanup(func() {
		w.server.Close()
		require.NoError(t, w.close())
	})
	w.ann, w.bob = w.token(t, "acme", "ann@acme.example"), w.token(t, "acme", "bob@acme.example")
	w.eve, w.zoe = w.token(t, "globex", "eve@globex.example"), w.token(t, "acme", "zoe@example.com")
	return w
}

// token logs in.
func (w *fixture) token(t *testing.T, slug, email string) string {
	t.Helper()
	got := w.do(t, request{host: slug + ".localhost", method: "POST", path: "/login",
		body: fmt.Sprintf(`{"email":%q,"password":"open sesame"}`, email)})
	require.Equal(t, http.StatusOK, got.status, got.body)
	var out struct{ Token string }
	require.NoError(t, json.Unmarshal([]byte(got.body), &out))
	return out.Token
}

// request is sent to acme, as a GET, unless it says otherwise.
type request struct {
	host, token, method, path, body string
	header                          http.Header
}

type response struct {
	status int
	body   string
	header http.Header
}

func (w *fixture) do(t *testing.T, q request) response {
	t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), q.method, w.server.URL+q.path, strings.NewReader(q.body))
	require.NoError(t, err)
	r.Host = q.host
	if q.host == "" {
		r.Host = "acme.localhost"
	}
	for name, values := range q.header {
		r.Header[name] = values
	}
	if q.token != "" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	resp, err := w.server.Client().Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode >= 400 {
		require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	}
	return response{resp.StatusCode, strings.TrimSpace(string(body)), resp.Header}
}

// dns is a DNS that the test fills.
type dns struct {
	mu      sync.Mutex
	records map[string][]string
	err     error
}

func (d *dns) LookupTXT(_ context.Context, name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	if found := d.records[name]; found != nil {
		return found, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (d *dns) set(name string, values ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records[name] = values
}

func (d *dns) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
