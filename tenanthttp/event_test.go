package tenanthttp_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

func TestEvents(t *testing.T) {
	logTo(t)
	var events []tenanthttp.Event
	observe := tenanthttp.OnEvent(func(_ context.Context, e tenanthttp.Event) { events = append(events, e) })
	members := tenanthttp.Authorize(func(r *http.Request, tenant string) (bool, error) { return tenant == "1", nil })
	find := tenanthttp.Lookup(byHeader, newDirectory(map[string]string{"acme": "1", "globex": "2"}))
	name := func(name string) *http.Request { return request(header("X-Tenant-ID", name)) }
	never := tenanthttp.Require(func(*http.Request, string) (bool, error) { return false, nil })(echo)
	for kind, test := range map[tenanthttp.EventKind]struct {
		resolve tenanthttp.Resolver
		request *http.Request
		handler http.Handler
		tenant  string
	}{
		tenanthttp.EventAccepted:        {find, name("acme"), echo, "1"},
		tenanthttp.EventAnonymous:       {find, request(), echo, ""},
		tenanthttp.EventMalformed:       {find, name(".."), echo, ""},
		tenanthttp.EventUnauthenticated: {answer("", tenanthttp.ErrUnauthenticated), request(), echo, ""},
		tenanthttp.EventUnknownTenant:   {find, name("missing"), echo, ""},
		tenanthttp.EventMismatch:        {tenanthttp.CrossCheck(find, answer("2", nil)), name("acme"), echo, ""},
		tenanthttp.EventForbidden:       {find, name("globex"), echo, ""},
		tenanthttp.EventFailed:          {answer("", errors.New("gone")), request(), echo, ""},
	} {
		events = nil
		serve(tenanthttp.Middleware(test.resolve, members, observe, tenanthttp.Optional()), test.handler, test.request)
		require.Len(t, events, 1, kind)
		require.Equal(t, kind, events[0].Kind)
		require.Equal(t, test.tenant, events[0].Tenant, kind)
		require.Equal(t, test.request.Method, events[0].Request.Method)
		passed := kind == tenanthttp.EventAccepted || kind == tenanthttp.EventAnonymous
		require.Equal(t, passed, events[0].Err == nil, kind)
	}
	events = nil
	serve(tenanthttp.Middleware(find, members, observe), echo, request())
	serve(tenanthttp.Middleware(find, members, observe, tenanthttp.Skip("/")), echo, request())
	serve(tenanthttp.Middleware(find, members, observe), never, name("acme"))
	var kinds []tenanthttp.EventKind
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	require.Equal(t, []tenanthttp.EventKind{tenanthttp.EventNoTenant, tenanthttp.EventSkipped, tenanthttp.EventAccepted, tenanthttp.EventForbidden}, kinds)
	require.Equal(t, "1", events[3].Tenant, "Require refuses within the tenant")
}

// TestLogEvents: the log has what happened, and nothing that a client has made up.
func TestLogEvents(t *testing.T) {
	var logged bytes.Buffer
	logger := slog.New(tenanthttp.LogHandler(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	find := tenanthttp.Lookup(byHeader, newDirectory(map[string]string{"acme": "1"}))
	mw := tenanthttp.Middleware(find, tenanthttp.DangerouslyTrustResolver(), tenanthttp.OnEvent(tenanthttp.LogEvents(logger)))
	for _, test := range []struct{ tenant, method, want string }{
		{"acme", "GET", `level=DEBUG msg="tenanthttp: request passed" event=accepted tenant=1`},
		{"missing", "GET", `level=WARN msg="tenanthttp: request refused" event=unknown_tenant method=GET status=403`},
		{"", "POST", `level=INFO msg="tenanthttp: request refused" event=no_tenant method=POST status=400`},
		{"missing", "MADEUP", `event=unknown_tenant method=other status=403`},
	} {
		logged.Reset()
		r := request(header("X-Tenant-ID", test.tenant))
		r.Method, r.URL.Path = test.method, "/made-up"
		serve(mw, echo, r)
		require.Contains(t, logged.String(), test.want)
		require.NotContains(t, logged.String(), "missing")
		require.NotContains(t, logged.String(), "made-up")
		require.NotContains(t, logged.String(), "MADEUP")
	}
	require.NotPanics(t, func() { tenanthttp.LogEvents(nil)(t.Context(), tenanthttp.Event{Request: request()}) })
}
