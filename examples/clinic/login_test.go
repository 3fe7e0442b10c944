package main

import (
	"html"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLoginOfEachUser(t *testing.T) {
	s := newSite(t)
	for _, u := range demoUsers {
		for _, clinic := range append([]int64{u.Clinic}, u.Also...) {
			c := newClient(t, s.URL)
			require.Equal(t, "/", c.signIn(idText(clinic), u.Email, u.Password()).Location)
			home := c.get("/")
			if u.Clinic == 0 {
				require.Equal(t, "/admin", home.Location)
				continue
			}
			require.Equal(t, "/patients", home.Location)
			r := c.get(home.Location)
			requireOwn(t, clinic, r)
			require.Contains(t, r.Body, html.EscapeString(demoClinics[clinic-1].Name))
			require.Equal(t, patientsEach, r.count())
		}
	}
}

// TestSignInRefused: whatever is wrong, the answer is the same.
func TestSignInRefused(t *testing.T) {
	s := newSite(t)
	noor, _ := demoUserOf(3, 2)
	admin, _ := demoUserOf(0, 1)
	for name, in := range map[string][3]string{
		"wrong password":             {"3", noor.Email, "wrong"},
		"no password":                {"3", noor.Email, ""},
		"another user's password":    {"3", noor.Email, admin.Password()},
		"unknown user":               {"3", "nobody@cove.example", noor.Password()},
		"clinic of others":           {"2", noor.Email, noor.Password()},
		"no such clinic":             {"7", noor.Email, noor.Password()},
		"no clinic":                  {"", noor.Email, noor.Password()},
		"clinic written otherwise":   {"03", noor.Email, noor.Password()},
		"SQL in the clinic":          {"3 OR 1=1", noor.Email, noor.Password()},
		"SQL in the address":         {"3", "' OR 1=1 --", noor.Password()},
		"admin at a clinic":          {"3", admin.Email, admin.Password()},
		"bytes that are no text":     {"3", "\xff\x00", "\xff\x00"},
		"a password of 60 000 bytes": {"3", noor.Email, strings.Repeat("x", 60_000)},
	} {
		c := newClient(t, s.URL)
		r := c.signIn(in[0], in[1], in[2])
		require.Equal(t, http.StatusUnauthorized, r.Status, name)
		require.Contains(t, r.Body, "Wrong clinic, e-mail or password.", name)
		require.Contains(t, r.Body, `name="password" type="password" value=""`, name)
		require.Equal(t, "/login?next=%2Fpatients", c.get("/patients").Location, name)
	}
}

// TestSignInForm: the links of the demonstration fill in the form, and only from the known accounts.
func TestSignInForm(t *testing.T) {
	s := newSite(t)
	c := newClient(t, s.URL)
	r := c.get("/login?clinic=3&user=2")
	require.Contains(t, r.Body, `value="noor@cove.example"`)
	require.Contains(t, r.Body, `value="clinic3-user2"`)
	r = c.get("/login?clinic=9&user=2&email=a@b.example&password=secret")
	require.NotContains(t, r.Body, "a@b.example")
	require.NotContains(t, r.Body, "secret")

	c.post("/login", "clinic", "3", "email", " Noor@Cove.Example ", "password", "clinic3-user2")
	require.Equal(t, "/", c.get("/login").Location, "who has signed in needs not do so again")
}

// TestPagesWithoutSessionLeadToSignIn: without a session every page leads to the sign-in, and back.
func TestPagesWithoutSessionLeadToSignIn(t *testing.T) {
	s := newSite(t)
	c := newClient(t, s.URL)
	for path, to := range map[string]string{
		"/": "/login", "/patients": "/login?next=%2Fpatients", "/patients?q=a&page=2": "/login?next=%2Fpatients%3Fq%3Da%26page%3D2",
		"/patients/1": "/login?next=%2Fpatients%2F1", "/today": "/login?next=%2Ftoday", "/admin": "/login?next=%2Fadmin",
		"/audit": "/login?next=%2Faudit", "/stats": "/login?next=%2Fstats", "/metrics": "/login?next=%2Fmetrics",
	} {
		r := c.get(path)
		require.Equal(t, http.StatusSeeOther, r.Status, path)
		require.Equal(t, to, r.Location, path)
	}
	require.Equal(t, http.StatusNotFound, c.get("/nowhere").Status)
	require.Equal(t, http.StatusForbidden, c.do(mustRequest(t, http.MethodDelete, s.URL+"/patients/1")).Status)
	require.Equal(t, "ok\n", c.get("/healthz").Body)
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 3, 2)
	for _, path := range []string{"/login", "/patients", "/today", "/nowhere", "/admin"} {
		h := c.get(path).Header
		require.Equal(t, "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "+
			"base-uri 'none'", h.Get("Content-Security-Policy"), path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "same-origin", h.Get("Referrer-Policy"), path)
		require.Equal(t, "no-store", h.Get("Cache-Control"), path)
		require.Empty(t, h.Get("Strict-Transport-Security"))
	}
	style := c.get("/static/style.css")
	require.Equal(t, "public, max-age=3600", style.Header.Get("Cache-Control"))
	require.Contains(t, style.Header.Get("Content-Type"), "text/css")
	require.Empty(t, style.Header.Get("Set-Cookie"))
	for _, path := range []string{"/static/", "/static/%2e", "/static/..%2ftemplates%2flayout.html", "/static/..%2f..%2fgo.mod"} {
		require.Equal(t, http.StatusNotFound, c.get(path).Status, path)
	}

	require.Regexp(t, `^session=[^;]+; Path=/; HttpOnly; SameSite=Lax$`, newClient(t, s.URL).get("/login").Header.Get("Set-Cookie"))
	secure := newClient(t, serve(t, config{DB: s.db, Secure: true})).get("/login").Header
	require.Regexp(t, `^__Host-session=[^;]+; Path=/; HttpOnly; Secure; SameSite=Lax$`, secure.Get("Set-Cookie"))
	require.NotEmpty(t, secure.Get("Strict-Transport-Security"))
}

func mustRequest(t *testing.T, method, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	return r
}
