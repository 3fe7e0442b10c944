package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

func (s site) audit(t *testing.T) (entries []AuditEntry) {
	t.Helper()
	require.NoError(t, s.admin.Order("id").Find(&entries).Error)
	return entries
}

// TestHeadOfficeIsClosedToClinics: a clinic's people see nothing of the head office, and leave no trace there.
func TestHeadOfficeIsClosedToClinics(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 3, 2)
	for _, path := range []string{"/admin", "/admin?q=a", "/audit", "/stats", "/metrics"} {
		r := c.get(path)
		require.Equal(t, http.StatusForbidden, r.Status, path)
		require.Empty(t, r.charts())
		require.NotContains(t, r.Body, "Fernhill")
		require.NotContains(t, r.Body, "clinic_sql")
	}
	require.Empty(t, s.audit(t))

	admin := signedIn(t, s.URL, 0, 1)
	for _, path := range []string{"/patients", "/appointments", "/today", patientPath(s.patientOf(t, 3))} {
		require.Equal(t, http.StatusForbidden, admin.get(path).Status, "the head office is no clinic: %s", path)
	}
}

func TestAdminSeesAll(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 0, 1)
	letters := map[string]int{}
	for page := 1; page <= 15; page++ {
		r := c.get(fmt.Sprintf("/admin?page=%d", page))
		require.Equal(t, http.StatusOK, r.Status)
		require.Equal(t, len(demoClinics)*patientsEach, r.count())
		for _, chart := range r.charts() {
			letters[chart[:1]]++
		}
	}
	require.Equal(t, map[string]int{"A": 24, "B": 24, "C": 24, "D": 24, "E": 24, "F": 24}, letters)
}

// TestAuditRecordsWhatWasSeen: what was seen is on record, with who, why and where, before it is shown.
func TestAuditRecordsWhatWasSeen(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 0, 1)
	require.Contains(t, c.get("/audit").Body, "No entries yet.")
	require.NotEmpty(t, c.get("/admin?q=Amara").charts())
	require.Equal(t, http.StatusOK, c.get("/stats").Status)

	var what []string
	entries := s.audit(t)
	for _, e := range entries {
		require.Equal(t, "Sam Whitlock", e.UserName)
		require.True(t, e.ReadOnly)
		require.False(t, e.Failed)
		what = append(what, strings.Join([]string{e.Path, e.Reason, e.Kind, e.Target}, " | "))
	}
	require.Equal(t, []string{
		"GET /admin | patients of all clinics | SELECT | patients",
		"GET /admin | patients of all clinics | SELECT | patients",
		"GET /stats | rows of each clinic | SELECT | clinics",
	}, what)
	r := c.get("/audit")
	require.Equal(t, 3, strings.Count(r.Body, `class="entry"`))
	require.Contains(t, r.Body, "rows of each clinic")
	require.NotContains(t, r.Body, "Amara", "what was searched for is the patients'")
	c.get("/metrics")
	require.Equal(t, entries, s.audit(t), "looking at the trail leaves none")

	for name, change := range map[string]func(*gorm.DB) error{
		"update":   func(db *gorm.DB) error { return db.Model(&AuditEntry{}).Where("true").Update("reason", "none").Error },
		"delete":   func(db *gorm.DB) error { return db.Where("true").Delete(&AuditEntry{}).Error },
		"truncate": func(db *gorm.DB) error { return db.Exec("TRUNCATE audit_entries").Error },
	} {
		ctx := tenancy.WithoutTenant(t.Context())
		for _, db := range []*gorm.DB{s.db.WithContext(ctx), tenancy.Bypass(s.db, "to hide").WithContext(ctx)} {
			var refused *pgconn.PgError
			require.ErrorAs(t, change(db), &refused, name)
			require.Equal(t, "42501", refused.Code, name)
		}
	}
	require.Equal(t, entries, s.audit(t))
}

// TestAuditThatFailsShowsNothing: nothing is shown without a record.
func TestAuditThatFailsShowsNothing(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 0, 1)
	require.NoError(t, s.owner.Exec("REVOKE INSERT ON audit_entries FROM "+s.database.Admin.Role).Error)
	for _, path := range []string{"/admin", "/stats"} {
		r := c.get(path)
		require.Equal(t, http.StatusInternalServerError, r.Status)
		require.Empty(t, r.charts())
		require.Equal(t, "Something went wrong", r.heading())
		require.NotContains(t, r.Body, "42501", "what PostgreSQL says is not for visitors")
	}
}

// TestBypassCantWrite: the head office's pages read, whatever their code tries; and what failed is on record.
func TestBypassCantWrite(t *testing.T) {
	s := newDatabase(t)
	a := &app{db: s.db, log: slog.New(slog.DiscardHandler)}
	err := a.bypass(mustRequest(t, http.MethodGet, "/"), "to spoil", func(db *gorm.DB) error {
		return db.Model(&Patient{}).Where("true").Update("name", "spoiled").Error
	})
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "25006", refused.Code)
	entries := s.audit(t)
	require.Len(t, entries, 1)
	require.True(t, entries[0].Failed)
	require.Equal(t, "25006", entries[0].SQLState)
	for _, p := range s.everything(t) {
		require.NotEqual(t, "spoiled", p.Name)
	}
}

// TestAdminsDoNotWaitForEachOther: storing what a statement did needs a connection, when all may be in use.
func TestAdminsDoNotWaitForEachOther(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 0, 1)
	var all sync.WaitGroup
	for range 5 * connections {
		all.Go(func() {
			response, err := c.http.Do(mustRequest(t, http.MethodGet, s.URL+"/admin"))
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("%v %v", response, err)
			}
			if err == nil {
				response.Body.Close()
			}
		})
	}
	all.Wait()
	require.Len(t, s.audit(t), 2*5*connections)
}

func TestStatsAndMetrics(t *testing.T) {
	s := newSite(t)
	c := signedIn(t, s.URL, 3, 2) // and the same connection all the time: a request is counted when it is over
	c.get("/patients/new")
	require.Equal(t, http.StatusSeeOther, c.post("/patients", "name", "Ann", "chart", "C-9", "born", "2015-02-28").Status)
	require.Equal(t, http.StatusSeeOther, c.post("/logout").Status)
	require.Equal(t, http.StatusSeeOther, c.signIn("", "admin@daybook.example", "head-office").Status)
	stats := c.get("/stats").Body
	require.Contains(t, stats, "open of 4")
	require.Contains(t, stats, `Cove Street Children’s Clinic</td><td data-label="Patients" class="number">25</td><td data-label="Appointments" class="number">24</td>`)
	require.Contains(t, stats, `<code>POST /patients</code></td><td data-label="Requests" class="number">1</td>`)

	metrics := c.get("/metrics")
	require.Contains(t, metrics.Header.Get("Content-Type"), "text/plain")
	require.Contains(t, metrics.Body, `clinic_http_requests_total{route="POST /patients",status="3xx"} 1`)
	require.Contains(t, metrics.Body, `clinic_sql_statements_total{route="POST /patients",status="3xx"} 3`)
	require.Regexp(t, `clinic_sql_round_trips_total\{route="POST /patients",status="3xx"\} [3-9]`, metrics.Body)
	require.Contains(t, metrics.Body, `go_sql_max_open_connections{db_name="clinic"} 4`)
	for _, tenantsWords := range []string{"Cove", "noor", "tenant", "C-9"} {
		require.NotContains(t, metrics.Body, tenantsWords)
	}
}

// TestCosts: what the README says that a page costs, once PostgreSQL knows the statements.
func TestCosts(t *testing.T) {
	s := newDatabase(t)
	var log bytes.Buffer
	handler, err := newApp(config{DB: s.db, Passwords: weak, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	noor, _ := demoUserOf(3, 2)
	admin, _ := demoUserOf(0, 1)
	patient := patientPath(s.patientOf(t, 3))
	for path, want := range map[string]struct {
		user demoUser
		cost string
	}{
		"/patients":        {noor, "statements=4 round_trips=4"}, // user, clinics, count, rows
		patient:            {noor, "statements=4 round_trips=4"}, // user, clinics, patient, appointments
		patient + "/edit":  {noor, "statements=3 round_trips=3"},
		"/appointments":    {noor, "statements=3 round_trips=3"}, // all with their patients
		"/today":           {noor, "statements=4 round_trips=4"},
		"/static/icon.svg": {noor, "statements=0 round_trips=0"},
		"/admin":           {admin, "statements=5 round_trips=5"}, // user, clinics, count, rows; the audit trail's
		"/audit":           {admin, "statements=4 round_trips=4"},
	} {
		c := newClientOver(t, "http://clinic.example", inProcess{handler})
		c.signIn(idText(want.user.Clinic), want.user.Email, want.user.Password())
		for range 2 { // the first time they are prepared
			log.Reset()
			require.Equal(t, http.StatusOK, c.get(path).Status, path)
		}
		require.Contains(t, log.String(), " "+want.cost+" ", path)
	}
}

// inProcess serves requests without a network: when the answer is there, the request is over.
type inProcess struct{ http.Handler }

func (h inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}
