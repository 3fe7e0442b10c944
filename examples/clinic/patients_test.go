package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPatients(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 3, 2)
	seen := map[string]bool{}
	for page := 1; page <= 3; page++ {
		r := c.get(fmt.Sprintf("/patients?page=%d", page))
		requireOwn(t, 3, r)
		require.Contains(t, r.Body, fmt.Sprintf("Page %d of 3", page))
		for _, chart := range r.charts() {
			seen[chart] = true
		}
	}
	require.Len(t, seen, patientsEach, "each on one page")

	added := c.post("/patients", "name", "  Ann O’Hara ", "chart", "C-9", "born", "2015-02-28", "phone", "023 1", "notes", "One\nTwo")
	require.Equal(t, http.StatusSeeOther, added.Status)
	shown := c.get(added.Location)
	require.Equal(t, "Ann O’Hara", shown.heading())
	require.Contains(t, shown.Body, "Ann O’Hara has been added.")
	require.NotContains(t, c.get(added.Location).Body, "has been added", "said once")

	for q, want := range map[string]int{"o’hara": 1, "C-9": 1, "023 1": 1, "Ann  O": 0, "": patientsEach + 1} {
		require.Equal(t, want, c.get("/patients?q="+strings.ReplaceAll(q, " ", "+")).count(), q)
	}
	requireOwn(t, 3, c.get("/today"))
	r := c.get("/appointments")
	requireOwn(t, 3, r)
	require.Len(t, r.charts(), patientsEach)

	require.Equal(t, http.StatusSeeOther, c.post(added.Location+"/appointments",
		"at", time.Now().Format(dayLayout)+"T23:58", "doctor", "Dr Greta Holm", "reason", "Cough").Status)
	require.Contains(t, c.get("/today").Body, "Cough, with Dr Greta Holm")
	require.Contains(t, c.get(added.Location).Body, "Cough")
}

func TestPatientFormsThatAreWrong(t *testing.T) {
	s := newSite(t)
	before := s.everything(t)
	c := signedIn(t, s.URL, 3, 2)
	c.get("/patients/new")
	for field, values := range map[string][]string{
		"name":  {"", "   ", "\x00\x01"},
		"chart": {"", "9", "C9", "c-9", "C-", "C-9 9", "ABCD-1", "C-é"},
		"born":  {"", "yesterday", "2015-02-29", "1700-01-01", time.Now().AddDate(0, 0, 2).Format(dayLayout), "28.2.2015"},
	} {
		for _, value := range values {
			r := c.post("/patients", append([]string{"name", "Ann", "chart", "C-9", "born", "2015-02-28"}, field, value)...)
			require.Equal(t, http.StatusUnprocessableEntity, r.Status, "%s %q", field, value)
			require.Contains(t, r.Body, `id="`+field+`-wrong"`)
			require.Equal(t, 1, strings.Count(r.Body, `aria-invalid="true"`))
		}
	}
	for _, at := range []string{"", "tomorrow", "2030-01-01", "2030-02-30T10:00", "0001-01-01T00:00"} {
		path := patientPath(s.patientOf(t, 3)) + "/appointments"
		require.Equal(t, http.StatusUnprocessableEntity, c.post(path, "at", at, "doctor", "Dr Greta Holm").Status, at)
	}
	huge := c.post("/patients", "name", strings.Repeat("a", maxForm), "chart", "C-9", "born", "2015-02-28")
	require.Equal(t, http.StatusForbidden, huge.Status, "a form that is not read to its end has no token")
	require.Equal(t, before, s.everything(t))
}

// TestCharts: a chart number is unique within a clinic, and tells nothing of other clinics'.
func TestCharts(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 3, 2)
	c.get("/patients/new")
	require.Equal(t, http.StatusConflict, c.post("/patients", "name", "Ann", "chart", "C-1001", "born", "2015-02-28").Status)
	require.Equal(t, http.StatusSeeOther, c.post("/patients", "name", "Ann", "chart", "A-1001", "born", "2015-02-28").Status,
		"another clinic's number")
}

// TestPatientEditedByTwo: of two who edit the same patient, the slower one is told, and decides.
func TestPatientEditedByTwo(t *testing.T) {
	s := newSite(t)
	noor, ivo := signedIn(t, s.URL, 3, 2), signedIn(t, s.URL, 3, 3)
	path := patientPath(s.patientOf(t, 3))
	noor.get(path + "/edit")
	ivo.get(path + "/edit")
	edit := func(c *client, name, version string) reply {
		return c.post(path, "name", name, "chart", "C-1001", "born", "2015-02-28", "version", version)
	}
	require.Equal(t, http.StatusSeeOther, edit(noor, "Noor’s", "1").Status)
	slower := edit(ivo, "Ivo’s", "1")
	require.Equal(t, http.StatusConflict, slower.Status)
	require.Contains(t, slower.Body, "This patient has been changed")
	require.Contains(t, slower.Body, "<b>Noor’s</b>")
	require.Contains(t, slower.Body, `value="Ivo’s"`, "what was typed is still there")
	require.Contains(t, slower.Body, `name="version" value="2"`)
	require.Equal(t, "Noor’s", ivo.get(path).heading())
	for _, version := range []string{"", "0", "-1", "x", "99"} {
		require.Equal(t, http.StatusConflict, edit(ivo, "Ivo’s", version).Status, version)
	}
	require.Equal(t, http.StatusSeeOther, edit(ivo, "Ivo’s", "2").Status)
	require.Equal(t, "Ivo’s", noor.get(path).heading())
	require.Equal(t, http.StatusConflict, edit(ivo, "Ivo’s", "2").Status, "a button pressed twice")
}
