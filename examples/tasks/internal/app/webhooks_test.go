package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/app"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// safeBuffer is a log that is written and read at a time.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// hooked is the application, which delivers webhooks to this machine.
type hooked struct {
	handler http.Handler
	log     safeBuffer
}

func startHooked(t *testing.T, loopback bool) *hooked {
	t.Helper()
	h := &hooked{}
	d := pgserver.New(t)
	a, err := app.Start(t.Context(), app.Config{
		Owner: app.Login(d.Owner), App: app.Login(d.App), Worker: app.Login(d.Worker), Admin: d.Admin.Role, Lookup: d.Lookup.Role,
		Log: slog.New(slog.NewTextHandler(&h.log, nil)), Demo: true, DangerouslyAllowLoopbackWebhooks: loopback,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	h.handler = a.Handler()
	return h
}

// hookCall sends a request, and decodes the answer into the type.
func hookCall[T any](t *testing.T, h *hooked, key, method, path, body string, status int) (out T) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/v1"+path, strings.NewReader(body))
	r.Header.Set("X-API-Key", key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	require.Equal(t, status, w.Code, "%s %s %s: %s\n%s", method, path, body, w.Body, &h.log)
	if status >= 400 {
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), path)
	}
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
	}
	return out
}

type endpointJSON struct {
	ID, URL, Secret, Breaker string
	Version                  int
	Disabled                 bool
}

type deliveryJSON struct {
	ID         string
	EventID    string `json:"event_id"`
	EventType  string `json:"event_type"`
	EndpointID string `json:"endpoint_id"`
	Status     string
	Round      int
}

type listJSON[T any] struct {
	Items []T
	Next  string
}

// TestWebhookRoutes walks through all of them, as a tenant and as another one that knows the ids.
func TestWebhookRoutes(t *testing.T) {
	h := startHooked(t, true)
	type message struct {
		header http.Header
		body   []byte
	}
	messages := make(chan message, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		messages <- message{r.Header.Clone(), body}
	}))
	defer server.Close()
	create := fmt.Sprintf(`{"url":%q,"types":["*"]}`, server.URL)
	made := hookCall[endpointJSON](t, h, app.AcmeKey, "POST", "/webhooks/endpoints", create, 201)
	require.NotEmpty(t, made.Secret)

	shown := hookCall[map[string]any](t, h, app.AcmeKey, "GET", "/webhooks/endpoints/"+made.ID, "", 200)
	require.NotContains(t, shown, "secret")
	require.Equal(t, "closed", shown["breaker"])
	listed := hookCall[listJSON[map[string]any]](t, h, app.AcmeKey, "GET", "/webhooks/endpoints", "", 200)
	require.Len(t, listed.Items, 1)
	require.NotContains(t, listed.Items[0], "secret")

	delivery := hookCall[deliveryJSON](t, h, app.AcmeKey, "POST", "/webhooks/endpoints/"+made.ID+"/test", "", 202)
	got := <-messages
	webhook, err := standardwebhooks.NewWebhook(made.Secret)
	require.NoError(t, err)
	require.NoError(t, webhook.Verify(got.body, got.header))
	require.Equal(t, delivery.EventID, got.header.Get("webhook-id"))
	require.Eventually(t, func() bool {
		return hookCall[deliveryJSON](t, h, app.AcmeKey, "GET", "/webhooks/deliveries/"+delivery.ID, "", 200).Status == "delivered"
	}, time.Minute, 10*time.Millisecond)
	deliveries := hookCall[listJSON[deliveryJSON]](t, h, app.AcmeKey, "GET", "/webhooks/deliveries?filter=status:eq:delivered&filter=endpoint_id:eq:"+made.ID, "", 200)
	require.Len(t, deliveries.Items, 1)
	require.Equal(t, "webhook.test", deliveries.Items[0].EventType)
	require.Empty(t, hookCall[listJSON[deliveryJSON]](t, h, app.AcmeKey, "GET", "/webhooks/deliveries?filter=status:eq:dead", "", 200).Items)
	attempts := hookCall[listJSON[struct{ Status, Number int }]](t, h, app.AcmeKey, "GET", "/webhooks/deliveries/"+delivery.ID+"/attempts", "", 200)
	require.Len(t, attempts.Items, 1)
	require.Equal(t, 200, attempts.Items[0].Status)

	again := hookCall[deliveryJSON](t, h, app.AcmeKey, "POST", "/webhooks/deliveries/"+delivery.ID+"/redeliver", "", 202)
	require.Equal(t, 1, again.Round)
	require.Equal(t, delivery.EventID, (<-messages).header.Get("webhook-id"))
	rotated := hookCall[struct{ Secret string }](t, h, app.AcmeKey, "POST", "/webhooks/endpoints/"+made.ID+"/rotate", `{"overlap_seconds":60}`, 200)
	require.NotEqual(t, made.Secret, rotated.Secret)
	since := hookCall[struct {
		Begun int
		More  bool
	}](t, h, app.AcmeKey, "POST", "/webhooks/endpoints/"+made.ID+"/redeliver", `{"since":"2026-01-01T00:00:00Z"}`, 202)
	require.Zero(t, since.Begun)
	require.False(t, since.More)

	update := fmt.Sprintf(`{"url":%q,"types":["task.created"],"disabled":true}`, server.URL)
	changed := hookCall[endpointJSON](t, h, app.AcmeKey, "PUT", "/webhooks/endpoints/"+made.ID+"?version=1", update, 200)
	require.True(t, changed.Disabled)
	require.Equal(t, 2, changed.Version)
	hookCall[any](t, h, app.AcmeKey, "PUT", "/webhooks/endpoints/"+made.ID+"?version=1", update, 412)
	hookCall[any](t, h, app.AcmeKey, "POST", "/webhooks/endpoints/"+made.ID+"/test", "", 409)

	// Another tenant that knows all ids.
	require.Empty(t, hookCall[listJSON[any]](t, h, app.GlobexKey, "GET", "/webhooks/endpoints", "", 200).Items)
	require.Empty(t, hookCall[listJSON[any]](t, h, app.GlobexKey, "GET", "/webhooks/deliveries?filter=endpoint_id:eq:"+made.ID, "", 200).Items)
	for _, request := range [][3]string{
		{"GET", "/webhooks/endpoints/" + made.ID, ""}, {"PUT", "/webhooks/endpoints/" + made.ID, update}, {"DELETE", "/webhooks/endpoints/" + made.ID, ""},
		{"POST", "/webhooks/endpoints/" + made.ID + "/rotate", `{"overlap_seconds":0}`}, {"POST", "/webhooks/endpoints/" + made.ID + "/test", ""},
		{"POST", "/webhooks/endpoints/" + made.ID + "/redeliver", `{"since":"2026-01-01T00:00:00Z"}`},
		{"GET", "/webhooks/deliveries/" + delivery.ID, ""}, {"GET", "/webhooks/deliveries/" + delivery.ID + "/attempts", ""},
		{"POST", "/webhooks/deliveries/" + delivery.ID + "/redeliver", ""},
	} {
		hookCall[any](t, h, app.GlobexKey, request[0], request[1], request[2], 404)
	}
	hookCall[any](t, h, app.AcmeKey, "DELETE", "/webhooks/endpoints/"+made.ID, "", 204)
	hookCall[any](t, h, app.AcmeKey, "GET", "/webhooks/endpoints/"+made.ID, "", 404)
	for _, secret := range []string{made.Secret, rotated.Secret, app.AcmeKey} {
		require.NotContains(t, h.log.String(), secret)
	}
}

// TestWebhookListsArePaged, the newest first.
func TestWebhookListsArePaged(t *testing.T) {
	h := startHooked(t, true)
	var want []string
	for range 5 {
		made := hookCall[endpointJSON](t, h, app.AcmeKey, "POST", "/webhooks/endpoints", `{"url":"http://127.0.0.1:1","types":["*"]}`, 201)
		want = append([]string{made.ID}, want...)
	}
	var got []string
	path := "/webhooks/endpoints?limit=2"
	for after := ""; ; {
		page := hookCall[listJSON[endpointJSON]](t, h, app.AcmeKey, "GET", path+after, "", 200)
		for _, item := range page.Items {
			got = append(got, item.ID)
		}
		if page.Next == "" {
			break
		}
		after = "&cursor=" + page.Next
	}
	require.Equal(t, want, got)
	next := hookCall[listJSON[endpointJSON]](t, h, app.AcmeKey, "GET", path, "", 200).Next
	hookCall[any](t, h, app.GlobexKey, "GET", path+"&cursor="+next, "", 422) // another tenant's
	for range 15 {
		hookCall[any](t, h, app.AcmeKey, "POST", "/webhooks/endpoints", `{"url":"http://127.0.0.1:1","types":["*"]}`, 201)
	}
	hookCall[any](t, h, app.AcmeKey, "POST", "/webhooks/endpoints", `{"url":"http://127.0.0.1:1","types":["*"]}`, 409)
	hookCall[any](t, h, app.GlobexKey, "POST", "/webhooks/endpoints", `{"url":"http://127.0.0.1:1","types":["*"]}`, 201)
}

// TestWebhookInputIsChecked: private addresses without the loud option, and what is malformed.
func TestWebhookInputIsChecked(t *testing.T) {
	h := startHooked(t, false)
	for _, body := range []string{
		`{"url":"https://127.0.0.1","types":["*"]}`, `{"url":"https://[::ffff:10.0.0.1]","types":["*"]}`, `{"url":"https://169.254.169.254","types":["*"]}`,
		`{"url":"http://example.com","types":["*"]}`, `{"url":"https://localhost","types":["*"]}`, `{"url":"https://u:p@example.com","types":["*"]}`,
		`{"url":"https://93.184.215.14"}`, `{"url":"https://93.184.215.14","types":[]}`, `{"url":"https://93.184.215.14","types":null}`,
		`{"url":"https://93.184.215.14","types":["A B"]}`, `{"url":"https://93.184.215.14","types":[""]}`, `{"types":["*"]}`, `{}`, `[]`,
		`{"url":"https://93.184.215.14","types":["*"],"description":"\u0000"}`, `{"url":"https://93.184.215.14","types":["*"],"secret":"mine"}`,
		`{"url":"https://93.184.215.14","types":["*"],"description":"` + strings.Repeat("x", 201) + `"}`,
	} {
		hookCall[any](t, h, app.AcmeKey, "POST", "/webhooks/endpoints", body, 422)
	}
	hookCall[any](t, h, app.AcmeKey, "POST", "/webhooks/endpoints", `{"url":"https://93.184.215.14","types":["*"]}`, 201)
	for _, path := range []string{"/webhooks/endpoints/1", "/webhooks/deliveries?limit=101", "/webhooks/deliveries?cursor=x", "/webhooks/deliveries?filter=endpoint_id:eq:1", "/webhooks/deliveries?sort=reason",
		"/webhooks/endpoints?filter=sealed:eq:x"} {
		hookCall[any](t, h, app.AcmeKey, "GET", path, "", 422)
	}
	made := hookCall[listJSON[endpointJSON]](t, h, app.AcmeKey, "GET", "/webhooks/endpoints", "", 200).Items[0]
	ended := hookCall[struct {
		OldUntil time.Time `json:"old_until"`
	}](t, h, app.AcmeKey, "POST", "/webhooks/endpoints/"+made.ID+"/rotate", `{"overlap_seconds":0}`, 200)
	require.False(t, ended.OldUntil.After(time.Now()), "zero is no default")
	for _, body := range []string{`{}`, `{"overlap_seconds":-1}`, `{"overlap_seconds":604801}`, `{"overlap_seconds":"1"}`} {
		hookCall[any](t, h, app.AcmeKey, "POST", "/webhooks/endpoints/"+made.ID+"/rotate", body, 422)
	}
	for _, body := range []string{`{}`, `{"since":"yesterday"}`} {
		hookCall[any](t, h, app.AcmeKey, "POST", "/webhooks/endpoints/"+made.ID+"/redeliver", body, 422)
	}
}

// TestChangesOfRowsReachWebhooks of their tenant, and of no other.
func TestChangesOfRowsReachWebhooks(t *testing.T) {
	h := startHooked(t, true)
	got := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(body)
	}))
	defer server.Close()
	for tenant, key := range map[string]string{"acme": app.AcmeKey, "globex": app.GlobexKey} {
		hookCall[any](t, h, key, "POST", "/webhooks/endpoints", fmt.Sprintf(`{"url":"%s/%s","types":["project.created"]}`, server.URL, tenant), 201)
	}
	for tenant, key := range map[string]string{"acme": app.AcmeKey, "globex": app.GlobexKey} {
		hookCall[any](t, h, key, "POST", "/projects", `{"name":"of `+tenant+`"}`, 201)
		message := <-got
		require.True(t, strings.HasPrefix(message, "/"+tenant+" "), message)
		require.Contains(t, message, `"type":"project.created"`)
		require.Contains(t, message, `"name":"of `+tenant+`"`)
		require.NotContains(t, message, "tenant_id")
	}
	require.Empty(t, got)
}
