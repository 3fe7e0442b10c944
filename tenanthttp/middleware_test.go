package tenanthttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

var byHeader = tenanthttp.Header("X-Tenant-ID")

// echo answers with the tenant of the request's context, or with a dash.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	tenant, ok := tenancy.TenantFromContext(r.Context())
	if !ok {
		tenant = "-"
	}
	_, _ = w.Write([]byte(tenant))
})

// serve sends a request through a middleware to a handler.
func serve(mw func(http.Handler) http.Handler, next http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	mw(next).ServeHTTP(w, r)
	return w
}

func requireProblem(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	require.Equal(t, status, w.Code)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var body struct {
		Type, Title, Detail string
		Status              int
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	require.Equal(t, status, body.Status)
	require.Equal(t, http.StatusText(status), body.Title)
	require.NotEmpty(t, body.Detail)
	require.Equal(t, "about:blank", body.Type)
}

func TestMiddlewarePutsTheTenantIntoTheContext(t *testing.T) {
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())
	w := serve(mw, echo, request(header("X-Tenant-ID", "acme")))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "acme", w.Body.String())
	require.Equal(t, "private", w.Header().Get("Cache-Control"), "a shared cache must not serve it to others")
}

// TestMiddlewareKeepsAStricterCacheControl: what an outer middleware has said is not weakened, and not taken for enough.
func TestMiddlewareKeepsAStricterCacheControl(t *testing.T) {
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())
	for said, want := range map[string]string{
		"no-store": "no-store", "private, no-store": "no-store", "public, max-age=60": "private, max-age=60", "": "private",
	} {
		w := serve(func(next http.Handler) http.Handler {
			inner := mw(next)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", said)
				inner.ServeHTTP(w, r)
			})
		}, echo, request(header("X-Tenant-ID", "acme")))
		require.Equal(t, want, w.Header().Get("Cache-Control"), said)
	}
}

// TestMiddlewareAsksForADecision: without Authorize or DangerouslyTrustResolver a header alone would open every tenant.
func TestMiddlewareAsksForADecision(t *testing.T) {
	authorize := tenanthttp.Authorize(func(*http.Request, string) (bool, error) { return true, nil })
	for name, build := range map[string]func(){
		"neither":       func() { tenanthttp.Middleware(byHeader) },
		"both":          func() { tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver(), authorize) },
		"nil Authorize": func() { tenanthttp.Middleware(byHeader, tenanthttp.Authorize(nil)) },
		"no resolver":   func() { tenanthttp.Middleware(nil, tenanthttp.DangerouslyTrustResolver()) },
		"bad pattern":   func() { tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver(), tenanthttp.Skip("GET")) },
	} {
		require.Panics(t, build, name)
	}
}

func TestAuthorize(t *testing.T) {
	gone := errors.New("the database is gone")
	mw := tenanthttp.Middleware(byHeader, tenanthttp.Authorize(func(r *http.Request, tenant string) (bool, error) {
		_, has := tenancy.TenantFromContext(r.Context())
		require.False(t, has, "it is not decided yet whose rows may be seen")
		switch {
		case r.Header.Get("X-User") == "":
			return false, tenanthttp.ErrUnauthenticated
		case r.Header.Get("X-User") == "broken":
			return true, gone
		default:
			return tenant == "acme", nil
		}
	}))
	get := func(user, tenant string) *httptest.ResponseRecorder {
		return serve(mw, echo, request(header("X-User", user), header("X-Tenant-ID", tenant)))
	}
	require.Equal(t, "acme", get("ann", "acme").Body.String())
	requireProblem(t, get("ann", "globex"), http.StatusForbidden)
	requireProblem(t, get("", "acme"), http.StatusUnauthorized)
	logged := logTo(t)
	requireProblem(t, get("broken", "acme"), http.StatusInternalServerError)
	require.NotContains(t, get("broken", "acme").Body.String(), gone.Error())
	require.Contains(t, logged.String(), gone.Error())
}

// TestLogQuotesNoValues: PostgreSQL's messages do, such as the id that a uuid column did not take.
func TestLogQuotesNoValues(t *testing.T) {
	logged := logTo(t)
	err := fmt.Errorf("lookup: %w", &pgconn.PgError{Code: "22P02", Message: `invalid input syntax for type uuid: "acme"`})
	mw := tenanthttp.Middleware(answer("", err), tenanthttp.DangerouslyTrustResolver())
	requireProblem(t, serve(mw, echo, request()), http.StatusInternalServerError)
	require.Contains(t, logged.String(), "22P02")
	require.NotContains(t, logged.String(), "acme")
}

// logTo sends the default logger's output to a buffer until the test ends.
func logTo(t *testing.T) *bytes.Buffer {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	var logged bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	return &logged
}

func TestStatuses(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
	}{
		{tenanthttp.ErrNoTenant, 400},
		{tenanthttp.ErrMalformed, 400},
		{tenanthttp.ErrUnauthenticated, 401},
		{errors.Join(tenanthttp.ErrNoTenant, tenanthttp.ErrUnauthenticated), 401},
		{tenanthttp.ErrForbidden, 403},
		{tenanthttp.ErrUnknownTenant, 403},
		{errors.New("other"), 500},
	} {
		logTo(t)
		w := serve(tenanthttp.Middleware(answer("acme", test.err), tenanthttp.DangerouslyTrustResolver()), echo, request())
		requireProblem(t, w, test.status)
		require.Equal(t, test.status == 401, w.Header().Get("WWW-Authenticate") == "Bearer")
		require.NotContains(t, w.Body.String(), "acme")
	}
	w := serve(tenanthttp.Middleware(answer("", nil), tenanthttp.DangerouslyTrustResolver()), echo, request())
	requireProblem(t, w, http.StatusBadRequest)
}

// TestExistenceIsHidden compares whole answers: unknown tenants and other people's look the same, unless asked otherwise.
func TestExistenceIsHidden(t *testing.T) {
	resolve := tenanthttp.Lookup(byHeader, newDirectory(map[string]string{"acme": "1", "globex": "2"}))
	mine := tenanthttp.Authorize(func(_ *http.Request, tenant string) (bool, error) { return tenant == "1", nil })
	others, unknown := request(header("X-Tenant-ID", "globex")), request(header("X-Tenant-ID", "nobody"))

	mw := tenanthttp.Middleware(resolve, mine)
	require.Equal(t, serve(mw, echo, others), serve(mw, echo, unknown))
	requireProblem(t, serve(mw, echo, unknown), http.StatusForbidden)

	mw = tenanthttp.Middleware(resolve, mine, tenanthttp.RevealTenants())
	requireProblem(t, serve(mw, echo, others), http.StatusForbidden)
	requireProblem(t, serve(mw, echo, unknown), http.StatusNotFound)

	agree := tenanthttp.CrossCheck(resolve, answer("1", nil))
	mw = tenanthttp.Middleware(agree, tenanthttp.DangerouslyTrustResolver())
	require.Equal(t, serve(mw, echo, others), serve(mw, echo, unknown))

	agree = tenanthttp.CrossCheck(resolve, answer("", tenanthttp.ErrUnauthenticated))
	mw = tenanthttp.Middleware(agree, tenanthttp.DangerouslyTrustResolver())
	require.Equal(t, serve(mw, echo, others), serve(mw, echo, unknown))
	requireProblem(t, serve(mw, echo, unknown), http.StatusUnauthorized)
}

func TestOptional(t *testing.T) {
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver(), tenanthttp.Optional())
	require.Equal(t, "acme", serve(mw, echo, request(header("X-Tenant-ID", "acme"))).Body.String())
	require.Equal(t, "-", serve(mw, echo, request()).Body.String())
	requireProblem(t, serve(mw, echo, request(header("X-Tenant-ID", ".."))), http.StatusBadRequest)

	tokens := tenanthttp.Middleware(newTokens(t, "HS256", secret).Claim("tenant"), tenanthttp.DangerouslyTrustResolver(), tenanthttp.Optional())
	require.Equal(t, "-", serve(tokens, echo, request()).Body.String(), "no token")
	requireProblem(t, serve(tokens, echo, request(authorization("garbage"))), http.StatusUnauthorized)
}

func TestSkip(t *testing.T) {
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver(),
		tenanthttp.Skip("GET /healthz", "POST /login"), tenanthttp.Skip("/static/"))
	for _, test := range []struct {
		method, path string
		passes       bool
	}{
		{"GET", "/healthz", true},
		{"POST", "/login", true},
		{"GET", "/static/app.css", true},
		{"GET", "/login", false},
		{"POST", "/healthz", false},
		{"GET", "/healthz/", false},
		{"GET", "/", false},
		{"GET", "/static", false},
		{"GET", "/static/../orders", false},
		{"GET", "/static/%2e%2e/orders", false},
		{"GET", "//healthz", false},
		{"GET", "/static//../../orders", false},
	} {
		w := serve(mw, echo, httptest.NewRequest(test.method, test.path, nil))
		if test.passes {
			require.Equal(t, "-", w.Body.String(), test.path)
			require.Empty(t, w.Header().Get("Cache-Control"), "passes as it is")
		} else {
			require.Equal(t, http.StatusBadRequest, w.Code, "%s %s", test.method, test.path)
		}
	}
}

func TestOnErrorAndOnTenant(t *testing.T) {
	type key struct{}
	var got error
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver(),
		tenanthttp.OnError(func(w http.ResponseWriter, r *http.Request, err error) {
			got = err
			w.WriteHeader(http.StatusTeapot)
		}),
		tenanthttp.OnTenant(func(ctx context.Context, tenant string) context.Context {
			return context.WithValue(ctx, key{}, "hook saw "+tenant)
		}))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Context().Value(key{}).(string)))
	})
	require.Equal(t, "hook saw acme", serve(mw, handler, request(header("X-Tenant-ID", "acme"))).Body.String())
	require.Equal(t, http.StatusTeapot, serve(mw, handler, request()).Code)
	require.ErrorIs(t, got, tenanthttp.ErrNoTenant)

	never := tenanthttp.Require(func(*http.Request, string) (bool, error) { return false, nil })(handler)
	require.Equal(t, http.StatusTeapot, serve(mw, never, request(header("X-Tenant-ID", "acme"))).Code)
	require.ErrorIs(t, got, tenanthttp.ErrForbidden)
}

// TestNestedMiddlewaresMustAgree: an inner middleware must not move a request to another tenant.
func TestNestedMiddlewaresMustAgree(t *testing.T) {
	outer := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver())
	inner := tenanthttp.Middleware(tenanthttp.Header("X-Inner"), tenanthttp.Authorize(func(r *http.Request, _ string) (bool, error) {
		_, has := tenancy.TenantFromContext(r.Context())
		require.False(t, has, "shared tables only, whatever the outer one has decided")
		return true, nil
	}))
	get := func(a, b string) *httptest.ResponseRecorder {
		return serve(outer, inner(echo), request(header("X-Tenant-ID", a), header("X-Inner", b)))
	}
	require.Equal(t, "acme", get("acme", "acme").Body.String())
	requireProblem(t, get("acme", "globex"), http.StatusForbidden)
}

func TestRequire(t *testing.T) {
	gone := errors.New("the database is gone")
	mw := tenanthttp.Middleware(byHeader, tenanthttp.DangerouslyTrustResolver(), tenanthttp.Optional())
	guarded := tenanthttp.Require(func(r *http.Request, tenant string) (bool, error) {
		current, _ := tenancy.TenantFromContext(r.Context())
		require.Equal(t, current, tenant, "it runs for the tenant")
		if r.Header.Get("X-Role") == "broken" {
			return true, gone
		}
		return r.Header.Get("X-Role") == "admin", nil
	}, func(r *http.Request, _ string) (bool, error) { return r.Header.Get("X-Locked") == "", nil })(echo)
	get := func(change ...func(*http.Request)) *httptest.ResponseRecorder {
		return serve(mw, guarded, request(change...))
	}

	require.Equal(t, "acme", get(header("X-Tenant-ID", "acme"), header("X-Role", "admin")).Body.String())
	requireProblem(t, get(header("X-Role", "admin")), http.StatusBadRequest)
	requireProblem(t, get(header("X-Tenant-ID", "acme")), http.StatusForbidden)
	requireProblem(t, get(header("X-Tenant-ID", "acme"), header("X-Role", "admin"), header("X-Locked", "yes")), http.StatusForbidden)
	logTo(t)
	requireProblem(t, get(header("X-Tenant-ID", "acme"), header("X-Role", "broken")), http.StatusInternalServerError)

	w := httptest.NewRecorder() // without a middleware around it
	tenanthttp.Require()(echo).ServeHTTP(w, request())
	requireProblem(t, w, http.StatusBadRequest)
}

func TestLogHandler(t *testing.T) {
	var logged strings.Builder
	logger := slog.New(tenanthttp.LogHandler(slog.NewTextHandler(&logged, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	acme := tenancy.WithTenant(t.Context(), "acme")
	logger.InfoContext(acme, "a", "n", 1)
	logger.InfoContext(t.Context(), "b")
	logger.InfoContext(tenancy.WithoutTenant(acme), "c")
	logger.With("k", "v").WithGroup("g").InfoContext(acme, "d", "n", 1)
	logger.Info("e")
	require.Equal(t, `level=INFO msg=a n=1 tenant=acme
level=INFO msg=b
level=INFO msg=c
level=INFO msg=d k=v g.n=1 g.tenant=acme
level=INFO msg=e
`, logged.String())
}
