package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

// everything reads all clinics' patients, to see whether one was touched.
func (s site) everything(t *testing.T) (all []Patient) {
	t.Helper()
	require.NoError(t, tenancy.Bypass(s.db, "test").WithContext(t.Context()).Order("id").Find(&all).Error)
	return all
}

// patientOf returns the id of a patient of the clinic.
func (s site) patientOf(t *testing.T, clinic int64) int64 {
	t.Helper()
	for _, p := range s.everything(t) {
		if p.TenantID == clinic {
			return p.ID
		}
	}
	t.Fatal("no patient")
	return 0
}

// TestOtherClinicsIDs: a patient of another clinic is not there, exactly like one that nobody has.
func TestOtherClinicsIDs(t *testing.T) {
	s := newSite(t)
	before := s.everything(t)
	c := signedIn(t, s.URL, 3, 2)
	c.get("/patients")
	foreign, nobodys := s.patientOf(t, 1), int64(1<<40)
	for name, ask := range map[string]func(id int64) reply{
		"show": func(id int64) reply { return c.get(patientPath(id)) },
		"form": func(id int64) reply { return c.get(patientPath(id) + "/edit") },
		"edit": func(id int64) reply {
			return c.post(patientPath(id), "name", "Mallory", "chart", "C-1", "born", "2000-01-01", "version", "1")
		},
		"appointment": func(id int64) reply {
			return c.post(patientPath(id)+"/appointments", "at", "2030-01-01T10:00", "doctor", "Mallory")
		},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, none := ask(foreign), ask(nobodys)
			require.Equal(t, http.StatusNotFound, theirs.Status)
			require.Equal(t, theirs.Status, none.Status)
			require.Equal(t, theirs.Body, none.Body, "nothing tells whether it exists")
			require.Equal(t, "Not found", theirs.heading())
		})
	}
	for _, id := range []string{"0", "-1", "x", "1%20OR%201=1", "9223372036854775808", "1.5", "%00"} {
		require.Equal(t, http.StatusNotFound, c.get("/patients/"+id).Status, id)
	}
	require.Equal(t, before, s.everything(t))
	var theirs int64
	require.NoError(t, tenancy.Bypass(s.db, "test").WithContext(t.Context()).Model(&Appointment{}).
		Where("doctor = 'Mallory'").Count(&theirs).Error)
	require.Zero(t, theirs)
}

// TestMassAssignment: a form says what its page asks for, and not whose the row is.
func TestMassAssignment(t *testing.T) {
	s := newSite(t)
	before := s.everything(t)
	c := signedIn(t, s.URL, 3, 2)
	c.get("/patients/new")
	extra := []string{"tenant_id", "1", "TenantID", "1", "tenant", "1", "clinic", "1", "Clinic.ID", "1",
		"id", fmt.Sprint(before[0].ID), "ID", fmt.Sprint(before[0].ID)}

	added := c.post("/patients", append(extra, "name", "Ann", "chart", "C-9", "born", "2000-01-01")...)
	require.Equal(t, http.StatusSeeOther, added.Status)
	var ann Patient
	require.NoError(t, tenancy.Bypass(s.db, "test").WithContext(t.Context()).First(&ann, "chart = 'C-9'").Error)
	require.EqualValues(t, 3, ann.TenantID)
	require.EqualValues(t, 1, ann.Version)

	changed := c.post(added.Location, append(extra, "name", "Anna", "chart", "C-9", "born", "2000-01-01", "version", "1")...)
	require.Equal(t, http.StatusSeeOther, changed.Status)
	after := s.everything(t)
	require.Equal(t, before, after[:len(before)])
	require.Len(t, after, len(before)+1)
	require.Equal(t, "Anna", after[len(before)].Name)
	require.EqualValues(t, 3, after[len(before)].TenantID)
}

// TestForgedHeaders: nothing that a client can write names its clinic.
func TestForgedHeaders(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 3, 2)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/patients?tenant=1&tenant_id=1&clinic=1", nil)
	require.NoError(t, err)
	for _, name := range []string{"X-Tenant-Id", "X-Tenant", "Tenant", "X-Clinic", "X-Forwarded-Host", "Forwarded"} {
		r.Header.Set(name, "1")
	}
	r.AddCookie(&http.Cookie{Name: "tenant", Value: "1"})
	requireOwn(t, 3, c.do(r))
}

func TestSQLInSearch(t *testing.T) {
	s := newSite(t)
	before := s.everything(t)
	member, admin := signedIn(t, s.URL, 3, 2), signedIn(t, s.URL, 0, 1)
	for _, q := range []string{
		`' OR 1=1 --`, `%' OR '1'='1`, `'; DROP TABLE patients; --`, `%`, `_`, `\`, `\%`, `%%%`, `C-10__`, `$1`, `?`, `@q`,
		`') OR set_config('app.tenant_id', '1', false) IS NOT NULL --`, `' UNION SELECT * FROM users --`,
		`'; SET ROLE admin; --`, `x\'; SELECT 1; --`, "Amara\x00' OR 1=1 --", "\xffOR\xfe", strings.Repeat("%", 5000),
	} {
		for path, c := range map[string]*client{"/patients": member, "/admin": admin} {
			r := c.get(path + "?q=" + url.QueryEscape(q))
			require.Equal(t, http.StatusOK, r.Status, q)
			require.Zero(t, r.count(), "%s on %s", q, path)
		}
	}
	for _, page := range []string{"-1", "0", "99999999999999999999", "x", "2; DROP TABLE patients", "4611686018427387904"} {
		requireOwn(t, 3, member.get("/patients?page="+url.QueryEscape(page)))
	}
	require.Equal(t, before, s.everything(t))
	requireOwn(t, 3, member.get("/patients"))
	require.Equal(t, 1, member.get("/patients?q=c-1003").count(), "in either case of letters")
}

// TestMarkup: what people type is text on every page.
func TestMarkup(t *testing.T) {
	s := newSite(t)
	c, admin := signedIn(t, s.URL, 3, 2), signedIn(t, s.URL, 0, 1)
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
	c.get("/patients/new")
	added := c.post("/patients", "name", evil, "chart", "C-9", "born", "2000-01-01", "phone", evil, "notes", evil)
	require.Equal(t, http.StatusSeeOther, added.Status)
	c.get(added.Location)
	require.Equal(t, http.StatusSeeOther, c.post(added.Location+"/appointments",
		"at", "2030-01-01T10:00", "doctor", evil, "reason", evil).Status)

	pages := map[string]reply{
		"show": c.get(added.Location), "form": c.get(added.Location + "/edit"), "list": c.get("/patients?q=C-9"),
		"appointments": c.get("/appointments"), "admin": admin.get("/admin?q=C-9"),
		"wrong":  c.post("/patients", "name", evil, "chart", evil, "born", evil),
		"search": c.get("/patients?q=" + url.QueryEscape(evil)),
		"login":  newClient(t, s.URL).get("/login?next=" + url.QueryEscape(evil)),
	}
	for name, page := range pages {
		require.Contains(t, page.Body, "&lt;img src=x onerror=", name)
		require.NotContains(t, page.Body, "<script", name)
		require.NotContains(t, page.Body, "<img", name)
	}
}

func TestOpenRedirect(t *testing.T) {
	s := newSite(t)
	noor, _ := demoUserOf(3, 2)
	for next, want := range map[string]string{
		"/patients?q=a&page=2":          "/patients?q=a&page=2",
		"/today":                        "/today",
		"":                              "/",
		"https://evil.example/":         "/",
		"//evil.example/":               "/",
		"///evil.example/":              "/",
		`/\evil.example/`:               "/",
		`\\evil.example/`:               "/",
		"/%5cevil.example":              "/",
		"/%2fevil.example":              "/",
		"javascript:alert(1)":           "/",
		"evil.example":                  "/",
		"/\t/evil.example":              "/",
		"/today\r\nSet-Cookie: evil=1":  "/",
		"http:/evil.example":            "/",
		"http:evil.example":             "/",
		"//user@evil.example":           "/",
		"/.//evil.example":              "/evil.example", // of this site
		" https://evil.example/":        "/",
		"/login?next=//evil.example":    "/login?next=//evil.example",
		"/patients/1#//evil.example":    "/patients/1",
		"//localhost:80@evil.example/x": "/",
	} {
		c := newClient(t, s.URL)
		c.get("/login")
		r := c.post("/login", "clinic", "3", "email", noor.Email, "password", noor.Password(), "next", next)
		require.Equal(t, http.StatusSeeOther, r.Status, next)
		require.Equal(t, want, r.Location, next)
		require.NotContains(t, r.Header.Values("Set-Cookie"), "evil=1")
	}
}
