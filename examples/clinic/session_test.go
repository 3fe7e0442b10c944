package main

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/stretchr/testify/require"
)

func TestSessionFixation(t *testing.T) {
	s := newSite(t)
	noor, _ := demoUserOf(3, 2)

	victim := newClient(t, s.URL)
	victim.plant("chosen-by-mallory")
	victim.get("/login")
	require.NotEqual(t, "chosen-by-mallory", victim.cookie(), "a token that the server did not make is not taken")

	mallory := newClient(t, s.URL)
	mallory.get("/login")
	planted := mallory.cookie()
	victim.plant(planted)
	require.Equal(t, http.StatusSeeOther, victim.signIn("3", noor.Email, noor.Password()).Status)
	require.NotEqual(t, planted, victim.cookie())
	requireOwn(t, 3, victim.get("/patients"))
	require.Equal(t, "/login?next=%2Fpatients", mallory.get("/patients").Location, "the planted token is worth nothing")

	before := victim.cookie()
	victim.get("/patients")
	require.Equal(t, http.StatusSeeOther, victim.post("/switch", "clinic", "1").Status)
	after := victim.cookie()
	require.NotEqual(t, before, after, "switching changes the token")
	mallory.plant(before)
	require.Equal(t, "/login?next=%2Fpatients", mallory.get("/patients").Location)

	victim.get("/patients")
	require.Equal(t, http.StatusSeeOther, victim.post("/logout").Status)
	require.Empty(t, victim.cookie())
	mallory.plant(after)
	require.Equal(t, "/login?next=%2Fpatients", mallory.get("/patients").Location, "signing out ends it on the server")
}

// TestEndedStaysEnded: a request that was running during the sign-out writes the session at its end.
func TestEndedStaysEnded(t *testing.T) {
	sessions := newSessions(newStore(), false)
	token := newSession(t, sessions)

	running, err := sessions.Load(t.Context(), token)
	require.NoError(t, err)
	logout, err := sessions.Load(t.Context(), token)
	require.NoError(t, err)
	require.NoError(t, sessions.Destroy(logout))
	_, _, err = sessions.Commit(running)
	require.NoError(t, err)
	require.False(t, alive(t, sessions, token))
}

func TestSessionTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := newSessions(newStore(), false)
		token := newSession(t, sessions)
		time.Sleep(sessionIdle - time.Second)
		require.True(t, alive(t, sessions, token))
		time.Sleep(sessionIdle + time.Second)
		require.False(t, alive(t, sessions, token), "idle")

		token = newSession(t, sessions)
		for range int(sessionLifetime/sessionIdle)*2 - 1 { // every quarter of an hour
			time.Sleep(sessionIdle / 2)
			ctx, err := sessions.Load(t.Context(), token)
			require.NoError(t, err)
			require.NoError(t, renew(ctx, sessions)) // to another clinic and back
			token, _, err = sessions.Commit(ctx)
			require.NoError(t, err)
			require.True(t, alive(t, sessions, token))
		}
		time.Sleep(sessionIdle/2 + time.Second)
		require.False(t, alive(t, sessions, token), "a working day is over, whatever was done in it")
	})
}

// TestStoreForgets: what is over does not stay in memory.
func TestStoreForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		require.NoError(t, s.Commit("a", []byte("x"), time.Now().Add(time.Hour)))
		require.NoError(t, s.Delete("b"))
		time.Sleep(sessionLifetime + time.Second)
		require.NoError(t, s.Commit("c", []byte("x"), time.Now().Add(time.Hour)))
		require.Len(t, s.sessions, 1)
	})
}

func newSession(t *testing.T, sessions *scs.SessionManager) string {
	t.Helper()
	ctx, err := sessions.Load(t.Context(), "")
	require.NoError(t, err)
	sessions.Put(ctx, userKey, int64(1))
	token, _, err := sessions.Commit(ctx)
	require.NoError(t, err)
	return token
}

// alive looks, and writes the session again as each request does.
func alive(t *testing.T, sessions *scs.SessionManager, token string) bool {
	t.Helper()
	ctx, err := sessions.Load(t.Context(), token)
	require.NoError(t, err)
	if sessions.GetInt64(ctx, userKey) != 1 {
		return false
	}
	_, _, err = sessions.Commit(ctx)
	require.NoError(t, err)
	return true
}

// TestCrossSite: what another site makes a browser send changes nothing.
func TestCrossSite(t *testing.T) {
	s := newSite(t)
	before := s.everything(t)
	c, other := signedIn(t, s.URL, 3, 2), signedIn(t, s.URL, 3, 1)
	c.get("/patients/new")
	other.get("/patients/new")
	added := []string{"name", "Ann", "chart", "C-9", "born", "2000-01-01"}
	forms := map[string][]string{
		"/patients": added, patientPath(s.patientOf(t, 3)): append(added, "version", "1"),
		patientPath(s.patientOf(t, 3)) + "/appointments": {"at", "2030-01-01T10:00", "doctor", "Ann"},
		"/switch": {"clinic", "1"}, "/logout": nil, "/login": {"clinic", "3"},
	}
	for path, form := range forms {
		for name, header := range map[string][2]string{
			"another site":      {"Sec-Fetch-Site", "cross-site"},
			"another subdomain": {"Sec-Fetch-Site", "same-site"},
			"an older browser":  {"Origin", "https://evil.example"},
			"a sandbox":         {"Origin", "null"},
		} {
			r := c.form(path, form...)
			r.Header.Set(header[0], header[1])
			require.Equal(t, http.StatusForbidden, c.do(r).Status, "%s from %s", path, name)
		}
		for name, token := range map[string]string{"no token": "", "a guess": "x", "another session's": other.token} {
			require.Equal(t, http.StatusForbidden, c.post(path, append(form, tokenKey, token)...).Status, "%s with %s", path, name)
		}
	}
	require.Equal(t, before, s.everything(t))
	requireOwn(t, 3, c.get("/patients"))

	r := c.form("/patients", added...)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusSeeOther, c.do(r).Status, "the same form, from here")
}

// TestSessionEndsWithMembership: who is no longer a member is out with the next request, whatever the session says.
func TestSessionEndsWithMembership(t *testing.T) {
	s := newSite(t)
	c, admin := signedIn(t, s.URL, 3, 2), signedIn(t, s.URL, 0, 1)
	requireOwn(t, 3, c.get("/patients"))
	var noor User
	require.NoError(t, s.admin.Where("email = 'noor@cove.example'").First(&noor).Error)

	require.NoError(t, s.admin.Delete(&Membership{}, "user_id = ? AND tenant_id = 3", noor.ID).Error)
	for _, path := range []string{"/patients", "/appointments", "/today", patientPath(s.patientOf(t, 3))} {
		r := c.get(path)
		require.Equal(t, http.StatusForbidden, r.Status, path)
		require.Empty(t, r.charts())
		require.Contains(t, r.Body, `<strong id="workplace">No clinic</strong>`)
	}
	before := s.everything(t)
	require.Equal(t, http.StatusForbidden, c.post("/patients", "name", "Ann", "chart", "C-9", "born", "2000-01-01").Status)
	require.Equal(t, before, s.everything(t))
	require.Equal(t, http.StatusForbidden, c.post("/switch", "clinic", "3").Status)
	require.Equal(t, http.StatusSeeOther, c.post("/switch", "clinic", "5").Status, "the other clinics stay")
	requireOwn(t, 5, c.get("/patients"))

	require.NoError(t, s.admin.Delete(&Membership{}, "user_id = ?", noor.ID).Error)
	require.NoError(t, s.admin.Delete(&noor).Error)
	require.Equal(t, "/login?next=%2Fpatients", c.get("/patients").Location)

	require.Equal(t, http.StatusOK, admin.get("/audit").Status)
	require.NoError(t, s.admin.Model(&User{}).Where("admin").Update("admin", false).Error)
	require.Equal(t, http.StatusForbidden, admin.get("/audit").Status)
}

func TestSessionSwitchesToOtherClinicsOnlyAsMember(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 3, 2) // of 3, 1 and 5
	for _, clinic := range []string{"2", "4", "6", "7", "", "0", "-1", "01", " 1", "1 ", "1;2", "1 OR 1=1", "x", "1\x00", strings.Repeat("1", 5000)} {
		c.get("/patients")
		require.Equal(t, http.StatusForbidden, c.post("/switch", "clinic", clinic).Status, "%q", clinic)
		requireOwn(t, 3, c.get("/patients"))
	}
	for _, clinic := range []int64{1, 5, 3} {
		require.Equal(t, http.StatusSeeOther, c.post("/switch", "clinic", idText(clinic)).Status)
		requireOwn(t, clinic, c.get("/patients"))
	}
}
