package tenanthttp_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// setting answers with headers, given as "Name: value".
func setting(lines ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Add(name, value)
		}
		_, _ = io.WriteString(w, "page")
	})
}

// TestResponseStaysPrivate: whatever a handler says about caching, no shared cache may keep a tenant's page.
func TestResponseStaysPrivate(t *testing.T) {
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())
	for says, want := range map[string]string{
		"":                                 "private",
		"max-age=60":                       "private, max-age=60",
		"public":                           "private",
		"Public, Max-Age=60":               "private, Max-Age=60",
		"s-maxage=60, max-age=5":           "private, max-age=5",
		"s-maxage = 60":                    "private",
		"private":                          "private",
		`private="Set-Cookie", max-age=60`: "private, max-age=60",
		"no-cache":                         "private, no-cache",
		"no-store":                         "no-store",
		"max-age=60, NO-STORE":             "no-store",
		"immutable, must-revalidate":       "private, immutable, must-revalidate",
		`ext="no-store, private", public`:  `private, ext="no-store, private"`,
		`ext="a\", no-store", max-age=1`:   `private, ext="a\", no-store", max-age=1`,
		`ext="no-store`:                    "private",
		" , ,":                             "private",
	} {
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", says)
			w.WriteHeader(http.StatusOK)
		})
		w := serve(mw, handler, request(header("X-Tenant-ID", "acme")))
		require.Equal(t, []string{want}, w.Result().Header["Cache-Control"], says)
	}
	w := serve(mw, setting("Cache-Control: public", "Cache-Control: s-maxage=60"), request(header("X-Tenant-ID", "acme")))
	require.Equal(t, []string{"private"}, w.Result().Header["Cache-Control"], "Add and Add")
}

// TestResponseCommandsNoCDN: these headers overrule Cache-Control.
func TestResponseCommandsNoCDN(t *testing.T) {
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())
	lines := []string{"CDN-Cache-Control: max-age=60", "Cloudflare-CDN-Cache-Control: public", "Surrogate-Control: max-age=60",
		"Edge-Control: max-age=60", "X-Accel-Expires: 60"}
	w := serve(mw, setting(lines...), request(header("X-Tenant-ID", "acme")))
	for _, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		require.Empty(t, w.Result().Header.Values(name), name)
	}
}

func TestResponseVaries(t *testing.T) {
	everyone := tenanthttp.Authorize(func(*http.Request, string) (bool, error) { return true, nil })
	trust := tenanthttp.DangerouslyTrustResolver()
	tokens := newTokens(t, "HS256", secret)
	propagator := newPropagator(t, secret)
	for name, test := range map[string]struct {
		resolve tenanthttp.Resolver
		option  tenanthttp.Option
		handler http.Handler
		want    []string
	}{
		"header":         {byHeader, trust, echo, []string{"X-Tenant-Id"}},
		"cookie":         {tenanthttp.Cookie("tenant"), trust, echo, []string{"Cookie"}},
		"host":           {tenanthttp.Subdomain("example.com"), trust, echo, []string{"Host"}},
		"token":          {tokens.Claim("tenant"), trust, echo, []string{"Authorization"}},
		"session":        {tenanthttp.Func(func(*http.Request) string { return "acme" }), trust, echo, []string{"Authorization", "Cookie"}},
		"propagator":     {propagator.Resolver("x"), trust, echo, []string{"X-Tenant-Token"}},
		"sender":         {byHeader, everyone, echo, []string{"X-Tenant-Id", "Authorization", "Cookie"}},
		"both asked":     {tenanthttp.FirstOf(tenanthttp.Cookie("tenant"), byHeader), trust, echo, []string{"Cookie", "X-Tenant-Id"}},
		"handler's own":  {byHeader, trust, setting("Vary: Accept, x-tenant-id"), []string{"X-Tenant-Id", "Accept, x-tenant-id"}},
		"handler's star": {byHeader, trust, setting("Vary: *"), []string{"X-Tenant-Id", "*"}},
		"handler's Set": {byHeader, trust, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Vary", "Accept")
		}), []string{"Accept", "X-Tenant-Id"}},
	} {
		for _, r := range []*http.Request{request(header("X-Tenant-ID", "acme")), request()} {
			w := httptest.NewRecorder()
			tenanthttp.Middleware(test.resolve, test.option, tenanthttp.Optional())(test.handler).ServeHTTP(w, r)
			if w.Code == http.StatusOK {
				require.Equal(t, test.want, w.Header()["Vary"], name)
			} else {
				require.NotEmpty(t, w.Header()["Vary"], name)
			}
		}
	}
}

func TestSharedCachingCanBeAllowed(t *testing.T) {
	mw := tenanthttp.Middleware(tenanthttp.Subdomain("example.com"), tenanthttp.DangerouslyTrustResolver(), tenanthttp.DangerouslyAllowSharedCaching())
	w := serve(mw, setting("Cache-Control: public, max-age=60", "CDN-Cache-Control: max-age=60"), request(host("acme.example.com")))
	require.Equal(t, "public, max-age=60", w.Result().Header.Get("Cache-Control"))
	require.Equal(t, "max-age=60", w.Result().Header.Get("CDN-Cache-Control"))
	require.Equal(t, "Host", w.Result().Header.Get("Vary"))
}

// TestOuterNoStoreIsKept: an outer middleware has decided, and a handler inside cannot weaken it.
func TestOuterNoStoreIsKept(t *testing.T) {
	inner := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())(setting("Cache-Control: max-age=60"))
	w := httptest.NewRecorder()
	w.Header().Set("Cache-Control", "no-store")
	inner.ServeHTTP(w, request(header("X-Tenant-ID", "acme")))
	require.Equal(t, []string{"no-store"}, w.Result().Header["Cache-Control"])
}

// plain is a ResponseWriter without optional interfaces.
type plain struct{ http.ResponseWriter }

type hijacker struct{}

func (hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, io.ErrClosedPipe }

type pusher struct{}

func (pusher) Push(string, *http.PushOptions) error { return io.ErrClosedPipe }

type flusherFunc func()

func (f flusherFunc) Flush() { f() }

// TestResponseWriterKeepsItsInterfaces, and claims none that it has not.
func TestResponseWriterKeepsItsInterfaces(t *testing.T) {
	none := func() {}
	for name, w := range map[string]http.ResponseWriter{
		"nothing": plain{httptest.NewRecorder()},
		"flush": struct {
			plain
			flusherFunc
		}{plain{httptest.NewRecorder()}, none},
		"hijack": struct {
			plain
			hijacker
		}{plain{httptest.NewRecorder()}, hijacker{}},
		"push": struct {
			plain
			pusher
		}{plain{httptest.NewRecorder()}, pusher{}},
		"HTTP/1": struct {
			plain
			flusherFunc
			hijacker
		}{plain{httptest.NewRecorder()}, none, hijacker{}},
		"HTTP/2": struct {
			plain
			flusherFunc
			pusher
		}{plain{httptest.NewRecorder()}, none, pusher{}},
		"hijack and push": struct {
			plain
			hijacker
			pusher
		}{plain{httptest.NewRecorder()}, hijacker{}, pusher{}},
		"all": struct {
			plain
			flusherFunc
			hijacker
			pusher
		}{plain{httptest.NewRecorder()}, none, hijacker{}, pusher{}},
	} {
		handler := http.HandlerFunc(func(inner http.ResponseWriter, _ *http.Request) {
			_, want := w.(http.Flusher)
			_, has := inner.(http.Flusher)
			require.Equal(t, want, has, name)
			require.Equal(t, !want, http.NewResponseController(inner).Flush() != nil, name)
			_, want = w.(http.Hijacker)
			_, has = inner.(http.Hijacker)
			require.Equal(t, want, has, name)
			_, _, err := http.NewResponseController(inner).Hijack()
			require.Equal(t, want, err == io.ErrClosedPipe, name) //nolint:errorlint // it must be unwrapped
			_, want = w.(http.Pusher)
			_, has = inner.(http.Pusher)
			require.Equal(t, want, has, name)
			require.Implements(t, (*io.ReaderFrom)(nil), inner)
			n, err := io.Copy(inner, strings.NewReader("body"))
			require.NoError(t, err)
			require.EqualValues(t, 4, n)
		})
		tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())(handler).ServeHTTP(w, request(header("X-Tenant-ID", "acme")))
	}
}

// TestServerKeepsStreamsAndWebSockets sends them through a real server.
func TestServerKeepsStreamsAndWebSockets(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Cache-Control", "public, max-age=60")
		_, _ = io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public")
		_, _ = io.Copy(w, strings.NewReader("file"))
	})
	mux.HandleFunc("/flush", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public")
		_ = http.NewResponseController(w).Flush()
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "public") })
	mux.HandleFunc("/socket", func(w http.ResponseWriter, _ *http.Request) {
		conn, buffer, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = buffer.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello")
		_ = buffer.Flush()
	})
	server := httptest.NewServer(tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())(mux))
	defer server.Close()
	for path, want := range map[string]string{"/stream": "first", "/file": "file", "/flush": "", "/silent": "", "/socket": "hello"} {
		r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil))
		r.Header.Set("X-Tenant-ID", "acme")
		if path == "/socket" {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "chat")
		}
		response, err := server.Client().Do(r)
		require.NoError(t, err, path)
		got := make([]byte, len(want))
		_, err = io.ReadFull(response.Body, got)
		require.NoError(t, err, path)
		require.Equal(t, want, string(got), path)
		if path != "/socket" {
			require.True(t, strings.HasPrefix(response.Header.Get("Cache-Control"), "private"), path)
			require.NotContains(t, response.Header.Get("Cache-Control"), "public", path)
		}
		require.NoError(t, response.Body.Close())
	}
}
