package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

var screenshots = flag.String("screenshots", "", "folder to keep the browser's screenshots in")

// TestBrowser is what the README tells people to click.
func TestBrowser(t *testing.T) {
	s := newSite(t)
	b := newBrowser(t)

	b.open(s.URL + "/")
	b.see("h1", "Sign in")
	b.shoot("login")
	b.signIn("2", "noor@cove.example", "clinic3-user2")
	b.see("#wrong", "Wrong clinic, e-mail or password.")
	b.shoot("wrong")
	b.signIn("3", "noor@cove.example", "clinic3-user2")
	b.see("#workplace", "Cove Street Children’s Clinic")
	b.see("#user", "Noor Haddad")
	b.onlyCharts("C")
	b.shoot("patients")

	address := b.addPatient(s.URL)
	b.switchAway(s.URL, address)
	b.lookAcrossClinics()
}

// addPatient adds a patient to the clinic, and returns the address of the patient's page.
func (b browser) addPatient(site string) (address string) {
	b.t.Helper()
	b.click("a.primary")
	b.see("h1", "Add a patient")
	b.click("main form .primary")
	b.see("#name-wrong", "Enter the patient’s name.")
	b.shoot("add")
	b.fill("#name", "Zoë Zephyr")
	b.fill("#chart", "A-1001") // as clinic 1 has, too
	b.fill("#born", "2019-05-04")
	b.click("main form .primary")
	b.see("h1", "Zoë Zephyr")
	b.see(".flash", "Zoë Zephyr has been added.")
	b.do(chromedp.Location(&address))
	b.shoot("patient")
	b.open(site + "/today")
	b.onlyCharts("C")
	b.shoot("today")
	b.open(site + "/appointments")
	b.onlyCharts("C")
	b.shoot("appointments")
	return address
}

// switchAway switches to another clinic, which does not have the patient at the address, and signs out.
func (b browser) switchAway(site, address string) {
	b.t.Helper()
	b.fill("#switch-clinic", "1")
	b.click(".switch button")
	b.see("#workplace", "Alder Lane Practice")
	b.see(".flash", "You are now working for Alder Lane Practice.")
	b.onlyCharts("A")
	b.fill("#q", "Zephyr")
	b.click(".search button")
	b.see(".count", "0 patients matching “Zephyr”")
	b.shoot("switched")
	b.open(address)
	b.see("h1", "Not found")

	for _, path := range []string{"/admin", "/audit", "/stats", "/metrics"} {
		b.open(site + path)
		b.see("h1", "Access denied")
	}
	b.shoot("refused")
	b.click(".out button")
	b.see("h1", "Sign in")
}

// lookAcrossClinics signs in as the administrator.
func (b browser) lookAcrossClinics() {
	b.t.Helper()
	b.signIn("", "admin@daybook.example", "head-office")
	b.see("h1", "Patients of all clinics")
	b.see(".count[role=status]", "145 patients")
	b.shoot("admin")
	b.fill("#q", "e")
	b.click(".search button")
	b.see("h1", "Patients of all clinics")
	letters := map[byte]bool{}
	for _, chart := range b.charts() {
		letters[chart[0]] = true
	}
	require.Greater(b.t, len(letters), 1, "patients of several clinics")
	b.click("a[href='/audit']")
	b.see("h1", "Audit trail")
	b.see("tr.entry .title", "patients of all clinics")
	b.shoot("audit")
	b.click("a[href='/stats']")
	b.see("h1", "Statistics")
	b.shoot("stats")
}

// TestKeyboard signs in, finds a patient, adds one and signs out, with nothing but keys.
func TestKeyboard(t *testing.T) {
	s := newSite(t)
	b := newBrowser(t)

	b.open(s.URL + "/")
	b.see("h1", "Sign in")
	b.focused("#clinic")
	b.press("3", kb.Tab, "noor@cove.example", kb.Tab, "clinic3-user2")
	b.enter()
	b.see("#workplace", "Cove Street Children’s Clinic")

	b.press(kb.Tab)
	b.focused(".skip")
	b.shoot("keyboard")
	b.press(kb.Enter)
	b.tabTo("#q")
	b.press("C-1003")
	b.enter()
	b.see(".count", "1 patient matching “C-1003”")
	require.Equal(t, []string{"C-1003"}, b.charts())

	b.tabTo("a.primary")
	b.enter()
	b.see("h1", "Add a patient")
	b.focused("#name")
	b.press("Kai Keys", kb.Tab, "C-9002", kb.Tab, "05042019")
	b.tabTo("#notes")
	b.press("Typed.")
	b.tabTo("main form .primary")
	b.enter()
	b.see("h1", "Kai Keys")
	b.see(".facts", "4 May 2019")
	b.see(".flash", "Kai Keys has been added.")

	b.tabTo("#switch-clinic")
	b.press("Elm")
	b.tabTo(".switch button")
	b.enter()
	b.see("#workplace", "Elm Park Eye Centre")
	b.onlyCharts("E")
	b.tabTo(".out button")
	b.enter()
	b.see("h1", "Sign in")
}

// browser is a headless Chromium.
type browser struct {
	t      *testing.T
	ctx    context.Context
	folder string
}

func newBrowser(t *testing.T) browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)),
		chromedp.WSURLReadTimeout(time.Minute), // of the start, on a busy machine
		chromedp.WindowSize(1280, 900),
		chromedp.NoSandbox, // root cannot start it otherwise
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
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
	require.NoError(t, chromedp.Run(ctx, emulation.SetTimezoneOverride("UTC")))
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
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	require.NoError(b.t, chromedp.Run(ctx, actions...))
}

// ask puts a question to the page. It is put again where the page was just being replaced by the next one.
func (b browser) ask(question chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	for {
		err := chromedp.Run(ctx, question)
		gone := new(cdproto.Error)
		if errors.As(err, &gone) && ctx.Err() == nil {
			continue
		}
		require.NoError(b.t, err)
		return
	}
}

func (b browser) open(url string) { b.t.Helper(); b.do(chromedp.Navigate(url)) }

func (b browser) fill(selector, value string) {
	b.t.Helper()
	b.do(chromedp.SetValue(selector, value, chromedp.ByQuery))
}

// click presses what leads to another page.
func (b browser) click(selector string) {
	b.t.Helper()
	b.leave(chromedp.Click(selector, chromedp.ByQuery))
}

// enter presses Enter where it leads to another page.
func (b browser) enter() { b.t.Helper(); b.leave(chromedp.KeyEvent(kb.Enter)) }

// leave waits for the page that an action leads to.
func (b browser) leave(by chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	_, err := chromedp.RunResponse(ctx, by)
	require.NoError(b.t, err)
}

func (b browser) signIn(clinic, email, password string) {
	b.t.Helper()
	b.fill("#clinic", clinic)
	b.fill("#email", email)
	b.fill("#password", password)
	b.click("main form button")
}

// see waits until the page has this text there.
func (b browser) see(selector, text string) {
	b.t.Helper()
	const has = `(selector, text) => [...document.querySelectorAll(selector)].some(e => e.textContent.includes(text))`
	b.ask(chromedp.PollFunction(has, nil, chromedp.WithPollingArgs(selector, text)))
}

// charts returns the chart numbers of all rows that are shown.
func (b browser) charts() (charts []string) {
	b.t.Helper()
	b.ask(chromedp.Evaluate(`[...document.querySelectorAll("[data-chart]")].map(e => e.dataset.chart)`, &charts))
	return charts
}

// onlyCharts expects patients, and only those of the clinic with this letter.
func (b browser) onlyCharts(letter string) {
	b.t.Helper()
	charts := b.charts()
	require.NotEmpty(b.t, charts)
	for _, chart := range charts {
		require.True(b.t, strings.HasPrefix(chart, letter+"-"), chart)
	}
}

// press types each of the keys.
func (b browser) press(keys ...string) {
	b.t.Helper()
	for _, k := range keys {
		b.do(chromedp.KeyEvent(k))
	}
}

// focused waits until the element has the focus: a page gives it away when it is drawn.
func (b browser) focused(selector string) {
	b.t.Helper()
	b.ask(chromedp.PollFunction(`selector => document.activeElement.matches(selector)`, nil, chromedp.WithPollingArgs(selector)))
}

func (b browser) isFocused(selector string) (is bool) {
	b.t.Helper()
	b.ask(chromedp.Evaluate(`document.activeElement.matches(`+"`"+selector+"`"+`)`, &is))
	return is
}

// tabTo presses Tab until the element has the focus, as it must after 40 steps at most.
func (b browser) tabTo(selector string) {
	b.t.Helper()
	for range 40 {
		if b.isFocused(selector) {
			return
		}
		b.press(kb.Tab)
	}
	b.t.Fatalf("%s cannot be reached with Tab", selector)
}

// shoot keeps the page as it looks on a desk and on a telephone, in the light and in the dark.
func (b browser) shoot(name string) {
	b.t.Helper()
	for suffix, look := range map[string]struct {
		width int64
		theme string
	}{"": {1280, "light"}, "-dark": {1280, "dark"}, "-phone": {390, "light"}} {
		var png []byte
		theme := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.theme}}
		var wide int64
		b.do(emulation.SetDeviceMetricsOverride(look.width, 860, 1, look.width < 500),
			emulation.SetEmulatedMedia().WithFeatures(theme),
			chromedp.Evaluate("document.documentElement.scrollWidth", &wide),
			chromedp.FullScreenshot(&png, 100))
		require.LessOrEqual(b.t, wide, look.width, "%s%s scrolls sideways", name, suffix)
		var whole bool
		b.ask(chromedp.Evaluate(selectorIsWhole, &whole))
		require.True(b.t, whole, "%s%s cuts off the names of clinics", name, suffix)
		require.NoError(b.t, os.WriteFile(filepath.Join(b.folder, name+suffix+".png"), png, 0o644))
	}
	b.do(emulation.ClearDeviceMetricsOverride())
}

// selectorIsWhole reports whether the selector of clinics, if there is one, is as wide as its longest option needs.
const selectorIsWhole = `(() => {
	const shown = document.querySelector("#switch-clinic");
	if (!shown) return true;
	const free = shown.cloneNode(true);
	free.style.cssText = "position: absolute; width: max-content; max-width: none; flex: none";
	shown.parentNode.append(free);
	const whole = shown.offsetWidth >= free.offsetWidth;
	free.remove();
	return whole;
})()`
