package tenanthttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

func newPropagator(t testing.TB, keys ...[]byte) *tenanthttp.Propagator {
	t.Helper()
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: keys})
	require.NoError(t, err)
	return propagator
}

// TestPropagatorBetweenServices sends requests from one service to two others, of which one is not on the list.
func TestPropagatorBetweenServices(t *testing.T) {
	propagator := newPropagator(t, secret)
	service := func() (*httptest.Server, string) {
		var handler http.Handler
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
		t.Cleanup(server.Close)
		name := must(url.Parse(server.URL)).Host
		mux := http.NewServeMux()
		mux.Handle("/", tenanthttp.Middleware(propagator.Resolver(name), tenanthttp.DangerouslyTrustResolver())(echo))
		mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) })
		mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusTemporaryRedirect)
		})
		handler = mux
		return server, name
	}
	billing, billingHost := service()
	evil, _ := service()
	client := &http.Client{Transport: propagator.Transport(nil, strings.ToUpper(billingHost))}
	t.Cleanup(client.CloseIdleConnections)

	get := func(ctx context.Context, url string, change ...func(*http.Request)) (int, string) {
		r := must(http.NewRequestWithContext(ctx, http.MethodGet, url, nil))
		for _, c := range change {
			c(r)
		}
		before := r.Header.Clone()
		response, err := client.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, before, r.Header, "a RoundTripper must not change the request")
		return response.StatusCode, string(must(io.ReadAll(response.Body)))
	}
	acme := tenancy.WithTenant(t.Context(), "acme")

	status, body := get(acme, billing.URL)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "acme", body)

	for name, url := range map[string]string{
		"not on the list":   evil.URL + "/headers",
		"redirected out":    billing.URL + "/away?to=" + url.QueryEscape(evil.URL+"/headers"),
		"without a tenant ": billing.URL + "/headers",
	} {
		ctx := acme
		if strings.HasPrefix(name, "without") {
			ctx = tenancy.WithoutTenant(acme)
		}
		_, body = get(ctx, url, header("X-Tenant-Token", "of the request that came in"))
		require.NotContains(t, body, "X-Tenant-Token", name)
	}
	status, _ = get(tenancy.WithoutTenant(acme), billing.URL)
	require.Equal(t, http.StatusUnauthorized, status)
}

// TestPropagatorTokens: a token is good for one audience, for a short time, and only if a service of ours signed it.
func TestPropagatorTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		propagator := newPropagator(t, secret)
		acme := tenancy.WithTenant(t.Context(), "Zürich AG")
		token, err := propagator.Inject(acme, "mail")
		require.NoError(t, err)

		ctx, err := propagator.Extract(t.Context(), token, "mail")
		require.NoError(t, err)
		tenant, ok := tenancy.TenantFromContext(ctx)
		require.True(t, ok)
		require.Equal(t, "Zürich AG", tenant)

		refused := func(token, audience, name string) {
			t.Helper()
			ctx, err := propagator.Extract(t.Context(), token, audience)
			require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, name)
			require.Nil(t, ctx, name)
		}
		refused(token, "billing", "other audience")
		refused(token, "", "no audience")
		refused("", "mail", "no token")
		refused(strings.Repeat("a", 10<<10), "mail", "10 kB")
		now := time.Now()
		own := jwt.MapClaims{"iss": "tenancy", "aud": "token mail", "tenant": "acme", "exp": now.Add(time.Minute).Unix()}
		signed := func(method jwt.SigningMethod, key any, change ...func(jwt.MapClaims)) string {
			c := jwt.MapClaims{}
			for k, v := range own {
				c[k] = v
			}
			for _, f := range change {
				f(c)
			}
			token := jwt.NewWithClaims(method, c)
			token.Header["typ"] = "tenancy+jwt"
			return must(token.SignedString(key))
		}
		_, err = propagator.Extract(t.Context(), signed(jwt.SigningMethodHS256, secret), "mail")
		require.NoError(t, err)
		refused(signed(jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32))), "mail", "other key")
		refused(signed(jwt.SigningMethodHS512, secret), "mail", "other algorithm")
		refused(signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType), "mail", "none")
		refused(signed(jwt.SigningMethodHS256, secret, without("exp")), "mail", "never expires")
		refused(signed(jwt.SigningMethodHS256, secret, with("iss", "login")), "mail", "made for something else")
		refused(signed(jwt.SigningMethodHS256, secret, without("tenant")), "mail", "no tenant")
		refused(signed(jwt.SigningMethodHS256, secret, with("tenant", 7)), "mail", "not text")

		time.Sleep(time.Minute)
		refused(token, "mail", "expired")
	})

	propagator := newPropagator(t, secret)
	_, err := propagator.Inject(t.Context(), "mail")
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	_, err = propagator.Inject(tenancy.WithoutTenant(t.Context()), "mail")
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
}

func TestPropagatorResolver(t *testing.T) {
	propagator := newPropagator(t, secret)
	sent := sentThrough(t, propagator, http.MethodGet, "https://orders.internal/")
	token := sent.Header.Get("X-Tenant-Token")
	resolve := propagator.Resolver("Orders.internal")

	tenant, err := resolve(request(header("X-Tenant-Token", token)))
	require.NoError(t, err)
	require.Equal(t, "acme", tenant)
	_, err = resolve(request())
	require.ErrorIs(t, err, tenanthttp.ErrNoTenant)
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)
	_, err = resolve(request(header("X-Tenant-Token", token, token)))
	require.ErrorIs(t, err, tenanthttp.ErrMalformed)
	_, err = resolve(request(header("X-Tenant-Token", "acme")))
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)
}

// TestPropagatorKeysRotate follows the steps that PropagatorConfig.Keys describes.
func TestPropagatorKeysRotate(t *testing.T) {
	older, newer := secret, []byte(strings.Repeat("n", 32))
	acme := tenancy.WithTenant(t.Context(), "acme")
	steps := []*tenanthttp.Propagator{newPropagator(t, older), newPropagator(t, older, newer), newPropagator(t, newer, older), newPropagator(t, newer)}
	for i := range steps[1:] {
		for _, pair := range [][2]*tenanthttp.Propagator{{steps[i], steps[i+1]}, {steps[i+1], steps[i]}} {
			_, err := pair[1].Extract(t.Context(), must(pair[0].Inject(acme, "mail")), "mail")
			require.NoError(t, err, "step %d", i)
		}
	}
	_, err := steps[3].Extract(t.Context(), must(steps[0].Inject(acme, "mail")), "mail")
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated)
}

func TestPropagatorConfig(t *testing.T) {
	for says, keys := range map[string][][]byte{
		"Keys is empty": nil,
		"Keys[0]":       {[]byte("short")},
		"Keys[1]":       {secret, nil},
	} {
		_, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: keys})
		require.ErrorContains(t, err, says)
	}
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{secret}, Header: "X-Other", TTL: time.Hour, DangerouslyAllowHTTP: true})
	require.NoError(t, err)
	boom := errors.New("boom")
	_, err = propagator.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		require.NotEmpty(t, r.Header.Get("X-Other"))
		return nil, boom
	}), "api.internal").RoundTrip(httptest.NewRequest(http.MethodGet, "http://api.internal/", nil).
		WithContext(tenancy.WithTenant(t.Context(), "acme")))
	require.ErrorIs(t, err, boom)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// sentThrough returns the request that leaves a transport for one of acme.
func sentThrough(t *testing.T, propagator *tenanthttp.Propagator, method, target string) *http.Request {
	t.Helper()
	var sent *http.Request
	capture := roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = r
		return nil, io.EOF
	})
	r := must(http.NewRequestWithContext(tenancy.WithTenant(t.Context(), "acme"), method, target, nil))
	_, err := propagator.Transport(capture, r.URL.Host).RoundTrip(r)
	require.ErrorIs(t, err, io.EOF)
	return sent
}

// TestPropagatorTokenIsForOneRequest replays the token of a request with everything that it is bound to changed.
func TestPropagatorTokenIsForOneRequest(t *testing.T) {
	propagator := newPropagator(t, secret)
	token := header("X-Tenant-Token", sentThrough(t, propagator, http.MethodGet, "https://orders.internal/orders/7?all=1").Header.Get("X-Tenant-Token"))
	replay := func(audience, method, uri string) error {
		r := httptest.NewRequest(method, uri, nil)
		token(r)
		r.URL.Path = "/stripped" // by a middleware
		_, err := propagator.Resolver(audience)(r)
		return err
	}
	require.NoError(t, replay("orders.internal", http.MethodGet, "/orders/7?all=1"))
	require.NoError(t, replay("orders.internal", http.MethodGet, "http://orders.internal/orders/7?all=1"), "through a proxy")
	for name, err := range map[string]error{
		"other method": replay("orders.internal", http.MethodDelete, "/orders/7?all=1"),
		"other path":   replay("orders.internal", http.MethodGet, "/orders/8?all=1"),
		"other query":  replay("orders.internal", http.MethodGet, "/orders/7?all=2"),
		"other host":   replay("billing.internal", http.MethodGet, "/orders/7?all=1"),
	} {
		require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, name)
	}
	_, err := propagator.Extract(t.Context(), strings.Join(sentThrough(t, propagator, "GET", "https://mail/").Header["X-Tenant-Token"], ""), "mail")
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, "a request is no token")

	loose, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{secret}, DangerouslyIgnoreURL: true})
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/rewritten", nil)
	r.Header = sentThrough(t, loose, http.MethodGet, "https://orders.internal/orders").Header
	_, err = loose.Resolver("orders.internal")(r)
	require.NoError(t, err)
	_, err = propagator.Resolver("orders.internal")(r)
	require.ErrorIs(t, err, tenanthttp.ErrUnauthenticated, "the receiver decides")
}

// TestPropagatorRefusesPlainHTTP: the network between two machines reads what is sent, and could use it.
func TestPropagatorRefusesPlainHTTP(t *testing.T) {
	propagator := newPropagator(t, secret)
	reached := false
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		reached = true
		return nil, io.EOF
	})
	for _, test := range []struct {
		url    string
		passes bool
	}{
		{"http://billing.internal/", false},
		{"http://10.0.0.7:80/", false},
		{"http://localhost.evil.example/", false},
		{"http://127.0.0.1.evil.example/", false},
		{"https://billing.internal/", true},
		{"http://localhost:8080/", true},
		{"http://127.0.0.1:8080/", true},
		{"http://[::1]:8080/", true},
	} {
		reached = false
		body := &closes{Reader: strings.NewReader("x")}
		r := must(http.NewRequestWithContext(tenancy.WithTenant(t.Context(), "acme"), http.MethodPost, test.url, body))
		_, err := propagator.Transport(base, r.URL.Host).RoundTrip(r)
		require.Equal(t, test.passes, reached, test.url)
		require.Equal(t, !test.passes, errors.Is(err, tenanthttp.ErrPlainHTTP), test.url)
		require.Equal(t, !test.passes, body.closed, "as RoundTripper demands")

		reached = false
		_, err = propagator.Transport(base, r.URL.Host).RoundTrip(r.WithContext(t.Context()))
		require.ErrorIs(t, err, io.EOF)
		require.True(t, reached, "without a tenant there is nothing to steal")
	}
}

type closes struct {
	io.Reader
	closed bool
}

func (c *closes) Close() error {
	c.closed = true
	return nil
}
