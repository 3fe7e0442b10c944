package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// failures are failed logins: their responses are the same.
var failures = map[string]request{
	"wrong password":            {host: "acme.localhost", body: `{"email":"ann@acme.example","password":"wrong"}`},
	"empty password":            {host: "acme.localhost", body: `{"email":"bob@acme.example","password":""}`},
	"unknown user":              {host: "acme.localhost", body: `{"email":"nobody@acme.example","password":"open sesame"}`},
	"unknown tenant":            {host: "initech.localhost", body: `{"email":"ann@acme.example","password":"open sesame"}`},
	"domain of nobody":          {host: "acme.example", body: `{"email":"bob@acme.example","password":"open sesame"}`},
	"another tenant's user":     {host: "acme.localhost", body: `{"email":"eve@globex.example","password":"open sesame"}`},
	"SQL":                       {host: "acme.localhost", body: `{"email":"' OR true --","password":"open sesame"}`},
	"NUL":                       {host: "acme.localhost", body: `{"email":"a\u0000","password":"open sesame"}`},
	"the password of no user's": {host: "globex.localhost", body: `{"email":"","password":""}`},
}

func TestLoginFailures(t *testing.T) {
	w := newFixture(t)
	for name, q := range failures {
		t.Run(name, func(t *testing.T) {
			q.method, q.path = "POST", "/login"
			for range attempts {
				got := w.do(t, q)
				require.Equal(t, http.StatusUnauthorized, got.status)
				require.JSONEq(t, `{"type":"about:blank","title":"Unauthorized","status":401,"detail":"wrong email or password"}`, got.body)
				got.header.Del("X-Request-Id")
				got.header.Del("Date")
				require.Equal(t, http.Header{"Cache-Control": {"no-store"}, "Content-Length": {"94"},
					"Content-Type": {"application/problem+json"}, "Www-Authenticate": {"Bearer"}}, got.header)
			}
			got := w.do(t, q)
			require.Equal(t, http.StatusTooManyRequests, got.status, "known and unknown ones alike")
			require.Equal(t, "60", got.header.Get("Retry-After"))
		})
	}
	// Who guesses Ann's password gets nowhere with the right one either, until a minute has passed.
	right := request{method: "POST", path: "/login", body: `{"email":"ann@acme.example","password":"open sesame"}`}
	require.Equal(t, http.StatusTooManyRequests, w.do(t, right).status)
	right.body = `{"email":"ANN@acme.example","password":"open sesame"}`
	require.Equal(t, http.StatusTooManyRequests, w.do(t, right).status)
	require.NotEmpty(t, w.token(t, "globex", "eve@globex.example"), "others go on")
	w.attempts.mu.Lock()
	w.attempts.now = func() time.Time { return time.Now().Add(attemptWindow) }
	w.attempts.mu.Unlock()
	require.Equal(t, http.StatusOK, w.do(t, right).status)
	for range 2 * attempts {
		require.Equal(t, http.StatusOK, w.do(t, right).status, "who knows the password is not bounded")
	}
	require.NotContains(t, w.log.String(), "sesame")
	require.NotContains(t, w.log.String(), "@")
}

// TestLoginAtTheSameTime: the bound holds for attempts that do not wait for each other.
func TestLoginAtTheSameTime(t *testing.T) {
	l := newLimiter()
	var wg sync.WaitGroup
	allowed := make(chan bool, 100)
	for range 100 {
		wg.Go(func() { allowed <- l.try("ann") })
	}
	wg.Wait()
	close(allowed)
	n := 0
	for ok := range allowed {
		if ok {
			n++
		}
	}
	require.Equal(t, attempts, n)
}

// TestUnknownUsersTakeAsLong: the password of an unknown user is compared as well, so that the answer takes as long. A hash
// that cannot be read shows that the comparison takes place.
func TestUnknownUsersTakeAsLong(t *testing.T) {
	w := newFixture(t)
	w.passwords.Absent = "unreadable"
	login := func(host, email string) int {
		return w.do(t, request{method: "POST", host: host, path: "/login", body: fmt.Sprintf(`{"email":%q,"password":"wrong"}`, email)}).status
	}
	require.Equal(t, http.StatusUnauthorized, login("acme.localhost", "ann@acme.example"))
	for name, status := range map[string]int{
		"unknown user":   login("acme.localhost", "nobody@acme.example"),
		"no member":      login("acme.localhost", "eve@globex.example"),
		"unknown tenant": login("initech.localhost", "ann@acme.example"),
	} {
		require.Equal(t, http.StatusInternalServerError, status, name)
	}
}

func TestSigningKey(t *testing.T) {
	const seed = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	one, err := signingKey(seed)
	require.NoError(t, err)
	same, err := signingKey(seed)
	require.NoError(t, err)
	require.Equal(t, one, same)
	one, err = signingKey("")
	require.NoError(t, err)
	other, err := signingKey("")
	require.NoError(t, err)
	require.NotEqual(t, one, other)
	for _, bad := range []string{"x", "c2hvcnQ=", seed + "AAAA"} {
		_, err := signingKey(bad)
		require.Error(t, err)
		require.NotContains(t, err.Error(), bad)
	}
}
