package app

import (
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

var screenshots = flag.String("screenshots", "", "folder to keep the browser's screenshots in")

// TestPageFollowsATask is what the README tells people to click.
func TestPageFollowsATask(t *testing.T) {
	b := openPage(t, startPage(t))
	b.see("#acme .facts", "3 tasks")
	b.see("#globex .facts", "3 tasks")
	b.shoot("start")

	const title = `<img src=x onerror="document.title='read as HTML'">`
	b.do(chromedp.SetValue("#acme-title", title, chromedp.ByQuery), chromedp.Click("#acme .primary", chromedp.ByQuery))
	b.see("#acme .title", title)
	for step, text := range map[string]string{
		"row": "Row written", "audit": "INSERT by key:", "job": "webhook_deliver: completed", "webhook": "task.created delivered", "apart": "Globex sees nothing",
	} {
		b.see("#acme [data-step="+step+"].done", text)
	}
	b.see("#acme [data-step=webhook]", "signature verified")
	b.see("#acme [data-step=apart]", "not in its tasks, audit trail, jobs and webhooks")
	b.see("#acme .said", "Globex sees nothing of the task")
	b.see("#acme .facts", "4 tasks")
	b.see("#acme [data-list=tasks] li", title)
	b.see("#globex .facts", "3 tasks")
	b.see("#globex [data-list=received] li", "None yet.")

	b.do(chromedp.Click("#acme .attack", chromedp.ByQuery))
	b.see("#acme .refusal:not(.wrong)", "404: there is none with this id")
	b.shoot("refused")
	require.False(t, b.is(`document.title === "read as HTML" || document.querySelector("img")`), "a title is text")
	require.True(t, b.is(`document.querySelector("#trouble").hidden`))
}

// TestPageWorksByKeyboard creates a task and tries to read it with nothing but keys, and finds a name for everything that can be used.
func TestPageWorksByKeyboard(t *testing.T) {
	b := openPage(t, startPage(t))
	b.see("#globex .facts", "3 tasks")
	b.tabTo(".skip")
	b.tabTo("#globex-title")
	b.do(chromedp.KeyEvent("Typed"), chromedp.KeyEvent(kb.Enter))
	b.see("#globex [data-step=apart].done", "Acme sees nothing")
	b.tabTo("#globex .attack")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.see("#globex .refusal", "404")
	require.True(t, b.is(`[...document.querySelectorAll("input")].every(i => i.labels.length === 1)
		&& [...document.querySelectorAll("button")].every(b => b.getAttribute("aria-label") || b.textContent)
		&& [...document.querySelectorAll("section")].every(s => document.getElementById(s.getAttribute("aria-labelledby")).textContent)
		&& document.querySelectorAll("[role=status]").length === 4`))
}

// TestPageShowsTenantsThatAreNotApart: where no policy binds, the page says so.
func TestPageShowsTenantsThatAreNotApart(t *testing.T) {
	d, cfg := configure(t)
	run(t, cfg) // makes the tenants
	cfg.Demo, cfg.open = false, withoutPolicies(t, d)
	b := openPage(t, servePage(t, cfg))
	b.see("#acme .facts", "6 tasks")
	b.do(chromedp.SetValue("#acme-title", "Secret", chromedp.ByQuery), chromedp.Click("#acme .primary", chromedp.ByQuery))
	b.see("#acme [data-step=apart].wrong", "It is in its")
	b.do(chromedp.Click("#acme .attack", chromedp.ByQuery))
	b.see("#acme .refusal.wrong", "200: Globex has read it")
}

// TestPageIsOfTheDemoAlone: another application has nothing at its addresses.
func TestPageIsOfTheDemoAlone(t *testing.T) {
	acme, _ := clients(t, start(t))
	for _, path := range []string{"/", "/page.js", "/demo/tenants", "/demo/state"} {
		acme.want(http.StatusNotFound, http.MethodGet, path, nil)
	}
	_, cfg := configure(t)
	cfg.DemoPage = true
	_, err := Start(t.Context(), cfg)
	require.ErrorContains(t, err, "DangerouslyAllowLoopbackWebhooks")
}

// TestPageLoadsItsOwnFilesAlone asks for what a browser is told.
func TestPageLoadsItsOwnFilesAlone(t *testing.T) {
	url := startPage(t)
	for path, kind := range map[string]string{"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript", "/demo/tenants": "application/json"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode, path)
		require.Contains(t, answer.Header.Get("Content-Type"), kind)
		require.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self';")
		require.Equal(t, "nosniff", answer.Header.Get("X-Content-Type-Options"))
	}
	for key, status := range map[string]int{"": http.StatusUnauthorized, "acme": http.StatusUnauthorized, AcmeKey: http.StatusOK} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/demo/state", nil)
		require.NoError(t, err)
		r.Header.Set("X-API-Key", key)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, status, answer.StatusCode)
	}
}

// startPage serves the application with the page, and returns its address.
func startPage(t *testing.T) string {
	t.Helper()
	_, cfg := configure(t)
	return servePage(t, cfg)
}

func servePage(t *testing.T, cfg Config) string {
	t.Helper()
	cfg.DangerouslyAllowLoopbackWebhooks, cfg.DemoPage = true, true
	server := httptest.NewServer(run(t, cfg).Handler())
	t.Cleanup(server.Close)
	return server.URL
}

// browser is a headless Chromium.
type browser struct {
	t      *testing.T
	ctx    context.Context
	folder string
}

func openPage(t *testing.T, url string) browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)),
		chromedp.WSURLReadTimeout(time.Minute), // of the start, on a busy machine
		chromedp.WindowSize(1280, 900),
		chromedp.NoSandbox, // root cannot start it otherwise
		chromedp.DisableGPU,
		chromedp.Flag("lang", "en-US"),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), // no other hosts
	)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	b := browser{t, ctx, *screenshots}
	if b.folder == "" {
		b.folder = t.TempDir()
	}
	// The first run starts the browser, which ends with the context of that run.
	require.NoError(t, chromedp.Run(ctx, chromedp.Navigate(url)))
	return b
}

// chromium finds the browser. A test that finds none is not skipped.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	t.Fatal("no Chromium: apt-get install chromium, or name one in $CHROMIUM")
	return ""
}

func (b browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	require.NoError(b.t, chromedp.Run(ctx, actions...))
}

// see waits until the page has this text there, which cannot be empty.
func (b browser) see(selector, text string) {
	b.t.Helper()
	const has = `(selector, text) => [...document.querySelectorAll(selector)].some(e => e.textContent.includes(text))`
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	err := chromedp.Run(ctx, chromedp.PollFunction(has, nil, chromedp.WithPollingArgs(selector, text)))
	if err != nil {
		b.shoot("missing")
	}
	require.NoError(b.t, err, "%s: %s", selector, text)
}

func (b browser) is(expression string) (is bool) {
	b.t.Helper()
	b.do(chromedp.Evaluate("Boolean("+expression+")", &is))
	return is
}

// tabTo presses Tab until the element has the focus, as it must after 20 steps at most.
func (b browser) tabTo(selector string) {
	b.t.Helper()
	for range 20 {
		if b.is("document.activeElement.matches(`" + selector + "`)") {
			return
		}
		b.do(chromedp.KeyEvent(kb.Tab))
	}
	b.t.Fatalf("%s cannot be reached with Tab", selector)
}

// shoot keeps the page as it looks on a desk and on a telephone, in the light and in the dark. It must not be wider than the screen.
func (b browser) shoot(name string) {
	b.t.Helper()
	for suffix, look := range map[string]struct {
		width int64
		theme string
	}{"": {1280, "light"}, "-dark": {1280, "dark"}, "-phone": {390, "light"}, "-phone-dark": {390, "dark"}} {
		var png []byte
		var wide int64
		b.do(emulation.SetDeviceMetricsOverride(look.width, 860, 1, look.width < 500),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.theme}}),
			chromedp.Evaluate("document.documentElement.scrollWidth", &wide),
			chromedp.FullScreenshot(&png, 100))
		require.LessOrEqual(b.t, wide, look.width, "%s%s scrolls sideways", name, suffix)
		require.NoError(b.t, os.WriteFile(filepath.Join(b.folder, name+suffix+".png"), png, 0o644))
	}
	b.do(emulation.ClearDeviceMetricsOverride())
}
