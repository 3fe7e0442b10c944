package app

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/limit"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

const (
	acmeSubject   = "key:00000000-0000-4000-8000-00000000ac3e"
	globexSubject = "key:00000000-0000-4000-8000-00000000610b"
)

// call sends a request, and returns the status and the body.
func call(t *testing.T, h http.Handler, key, method, path, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("X-API-Key", key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", fmt.Sprintf("%x", sha256.Sum256([]byte(method+path+body))))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// flagOf returns what GET /v1/flags says of a flag.
func flagOf(t *testing.T, h http.Handler, key, flag string) (value any, reason string) {
	t.Helper()
	status, body := call(t, h, key, http.MethodGet, "/v1/flags", "")
	require.Equal(t, 200, status, body)
	var answer struct {
		Items []struct {
			Key    string
			Value  any
			Reason string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	for _, f := range answer.Items {
		if f.Key == flag {
			return f.Value, f.Reason
		}
	}
	require.Fail(t, "no such flag", body)
	return nil, ""
}

// TestFlagIsOverriddenForOneTenant: the other tenant keeps the default, and sees no override. The change comes with an Idempotency-Key, so that
// it is committed after the handler.
func TestFlagIsOverriddenForOneTenant(t *testing.T) {
	h := start(t).Handler()
	for _, key := range []string{AcmeKey, GlobexKey} {
		value, reason := flagOf(t, h, key, "theme")
		require.Equal(t, "light", value)
		require.Equal(t, "STATIC", reason)
	}
	status, body := call(t, h, GlobexKey, http.MethodPut, "/v1/flags/theme/override", `{"variant":"dark"}`)
	require.Equal(t, 204, status, body)
	value, reason := flagOf(t, h, GlobexKey, "theme")
	require.Equal(t, "dark", value, "at once")
	require.Equal(t, "TARGETING_MATCH", reason)
	value, _ = flagOf(t, h, AcmeKey, "theme")
	require.Equal(t, "light", value)

	_, body = call(t, h, AcmeKey, http.MethodGet, "/v1/flags/overrides", "")
	require.JSONEq(t, `{"items":[]}`, body)
	status, _ = call(t, h, AcmeKey, http.MethodDelete, "/v1/flags/theme/override", "")
	require.Equal(t, 404, status, "another tenant's override")
	// An override for the user of another tenant is of one's own tenant, and reaches no user there.
	status, _ = call(t, h, AcmeKey, http.MethodPut, "/v1/flags/theme/override", `{"variant":"light","subject":"`+globexSubject+`"}`)
	require.Equal(t, 204, status)
	value, _ = flagOf(t, h, GlobexKey, "theme")
	require.Equal(t, "dark", value)

	status, _ = call(t, h, GlobexKey, http.MethodDelete, "/v1/flags/theme/override", "")
	require.Equal(t, 204, status)
	value, _ = flagOf(t, h, GlobexKey, "theme")
	require.Equal(t, "light", value)
	status, body = call(t, h, GlobexKey, http.MethodPut, "/v1/flags/theme/override", `{"variant":"dark","percent":0}`)
	require.Equal(t, 204, status, body)
	value, reason = flagOf(t, h, GlobexKey, "theme")
	require.Equal(t, "light", value, "0 percent")
	require.Equal(t, "STATIC", reason)

	for path, wants := range map[string]map[string]int{
		"/v1/flags/nothing/override": {`{"variant":"dark"}`: 404},
		"/v1/flags/theme/override": {`{"variant":"red"}`: 422, `{"variant":"dark","percent":101}`: 422, `{}`: 422,
			`{"variant":"dark","subject":"key:1","percent":50}`: 422, `{"variant":"dark","tenant_id":"globex"}`: 422},
		"/v1/flags/a%2Fb/override": {`{"variant":"dark"}`: 404},
	} {
		for body, want := range wants {
			status, answer := call(t, h, AcmeKey, http.MethodPut, path, body)
			if want == 404 {
				require.Contains(t, []int{403, 404}, status, "%s %s: %s", path, body, answer)
				continue
			}
			require.Equal(t, want, status, "%s %s: %s", path, body, answer)
		}
	}
}

// TestCallerNeedsRole beside the scope of its key, and has none in another tenant.
func TestCallerNeedsRole(t *testing.T) {
	h := start(t).Handler()
	status, body := call(t, h, AcmeKey, http.MethodGet, "/v1/roles", "")
	require.Equal(t, 200, status)
	require.Contains(t, body, acmeSubject)
	require.NotContains(t, body, globexSubject)

	// The only owner stays; a second one may take the role of the first.
	revoke := "/v1/roles?role=owner&subject=" + acmeSubject
	status, _ = call(t, h, AcmeKey, http.MethodDelete, revoke, "")
	require.Equal(t, 409, status)
	grant := func(key, subject, role, scope string) int {
		status, _ := call(t, h, key, http.MethodPost, "/v1/roles", fmt.Sprintf(`{"subject":%q,"role":%q,"scope":%q}`, subject, role, scope))
		return status
	}
	// Each makes the other's key an owner, of its own tenant: it says nothing about the other's.
	require.Equal(t, 204, grant(GlobexKey, acmeSubject, "owner", "*"))
	require.Equal(t, 204, grant(AcmeKey, globexSubject, "owner", "*"))
	status, _ = call(t, h, AcmeKey, http.MethodDelete, revoke, "")
	require.Equal(t, 204, status)
	for _, path := range []string{"/v1/projects", "/v1/roles", "/v1/flags"} {
		status, body = call(t, h, AcmeKey, http.MethodGet, path, "")
		require.Equal(t, 403, status, "%s: %s", path, body)
		require.Contains(t, body, "may not do this")
		status, _ = call(t, h, GlobexKey, http.MethodGet, path, "")
		require.Equal(t, 200, status)
	}
	require.Equal(t, 403, grant(AcmeKey, acmeSubject, "viewer", "*"))
	for _, body := range []string{`{"subject":"owner","role":"owner"}`, `{"subject":"key:1","role":"root"}`, `{"subject":"key:1","role":"viewer","scope":"../x"}`} {
		status, answer := call(t, h, GlobexKey, http.MethodPost, "/v1/roles", body)
		require.Equal(t, 422, status, answer)
	}
}

// TestRequestsAreLimited by tenant, and those that guess keys by address.
func TestRequestsAreLimited(t *testing.T) {
	h := start(t, func(_ *pgserver.Database, cfg *Config) {
		cfg.Limits = limit.Config{
			Tenant: limit.Rate{Burst: 5, Every: time.Hour}, Caller: limit.Rate{Burst: 4, Every: time.Hour}, Address: limit.Rate{Burst: 3, Every: time.Hour},
		}
	}).Handler()
	for _, c := range []struct {
		key            string
		status, before int
	}{{AcmeKey, 200, 4}, {GlobexKey, 200, 4}, {"tasks_demo_guess", 401, 3}} {
		for n := range 6 {
			want := c.status
			if n >= c.before {
				want = 429
			}
			status, body := call(t, h, c.key, http.MethodGet, "/v1/flags", "")
			require.Equal(t, want, status, "%d: %s", n, body)
		}
	}
}
