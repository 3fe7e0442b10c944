package main

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// client is a browser without a window: it keeps cookies, and sends the token of the last page with each form. It
// follows no redirect.
type client struct {
	t     *testing.T
	url   string
	http  *http.Client
	token string
}

// reply is what the server answered.
type reply struct {
	Status   int
	Body     string
	Header   http.Header
	Location string
}

func newClient(t *testing.T, url string) *client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return newClientOver(t, url, transport)
}

func newClientOver(t *testing.T, url string, transport http.RoundTripper) *client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &client{t: t, url: url, http: &http.Client{
		Jar: jar, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// signedIn is a client of a demonstration's user.
func signedIn(t *testing.T, url string, clinic int64, number int) *client {
	t.Helper()
	c := newClient(t, url)
	u, ok := demoUserOf(clinic, number)
	require.True(t, ok)
	require.Equal(t, http.StatusSeeOther, c.signIn(idText(clinic), u.Email, u.Password()).Status)
	return c
}

// idText is a clinic's id as forms have it.
func idText(clinic int64) string {
	if clinic == 0 {
		return ""
	}
	return strconv.FormatInt(clinic, 10)
}

func (c *client) signIn(clinic, email, password string) reply {
	c.t.Helper()
	c.get("/login")
	return c.post("/login", "clinic", clinic, "email", email, "password", password)
}

func (c *client) get(path string) reply {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+path, nil)
	require.NoError(c.t, err)
	return c.do(r)
}

// post sends a form of pairs, with the token of the last page unless there is another.
func (c *client) post(path string, pairs ...string) reply {
	c.t.Helper()
	return c.do(c.form(path, pairs...))
}

func (c *client) form(path string, pairs ...string) *http.Request {
	c.t.Helper()
	form := url.Values{tokenKey: {c.token}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+path, strings.NewReader(form.Encode()))
	require.NoError(c.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

var tokenField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func (c *client) do(r *http.Request) reply {
	c.t.Helper()
	response, err := c.http.Do(r)
	require.NoError(c.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	if found := tokenField.FindSubmatch(body); found != nil {
		c.token = string(found[1])
	}
	return reply{response.StatusCode, string(body), response.Header, response.Header.Get("Location")}
}

// cookie is the session's token.
func (c *client) cookie() string {
	c.t.Helper()
	u, err := url.Parse(c.url)
	require.NoError(c.t, err)
	for _, cookie := range c.http.Jar.Cookies(u) {
		if cookie.Name == "session" {
			return cookie.Value
		}
	}
	return ""
}

// plant puts a token into the client's cookies, as another person at the same computer could.
func (c *client) plant(token string) {
	c.t.Helper()
	u, err := url.Parse(c.url)
	require.NoError(c.t, err)
	c.http.Jar.SetCookies(u, []*http.Cookie{{Name: "session", Value: token, Path: "/"}})
}

var (
	chartMark = regexp.MustCompile(`data-chart="([^"]*)"`)
	heading   = regexp.MustCompile(`<h1>([^<]*)</h1>`)
	countLine = regexp.MustCompile(`<p class="count" role="status">(\d+) patient`)
)

// charts returns the chart numbers of all patients that are shown. A seeded one begins with its clinic's letter, and
// tests ensure that those they add do.
func (r reply) charts() (charts []string) {
	for _, found := range chartMark.FindAllStringSubmatch(r.Body, -1) {
		charts = append(charts, found[1])
	}
	return charts
}

func (r reply) heading() string {
	if found := heading.FindStringSubmatch(r.Body); found != nil {
		return html.UnescapeString(found[1])
	}
	return ""
}

// count is how many patients the page says were found; -1 if it doesn't say.
func (r reply) count() int {
	if found := countLine.FindStringSubmatch(r.Body); found != nil {
		n, _ := strconv.Atoi(found[1])
		return n
	}
	return -1
}

// letter is what the chart numbers of a clinic begin with.
func letter(clinic int64) string { return string(rune('A' + clinic - 1)) }

// requireOwn expects patients, and none but those of the clinic.
func requireOwn(t *testing.T, clinic int64, r reply) {
	t.Helper()
	require.Equal(t, http.StatusOK, r.Status)
	require.NotEmpty(t, r.charts())
	for _, chart := range r.charts() {
		require.Equal(t, letter(clinic), chart[:1], chart)
	}
}
