package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
)

var (
	workers = flag.Int("workers", 50, "how many users are at work at once in TestRequestsOfManyClinicsAtOnce")
	rounds  = flag.Int("rounds", 50, "how often each of them signs in")
)

// TestRequestsOfManyClinicsAtOnce: fifty people at a time sign in here and there, look, add, switch and sign out, on four connections. None
// of them is shown a row of another clinic.
func TestRequestsOfManyClinicsAtOnce(t *testing.T) {
	s := newSite(t)
	seen := work(t, s.URL, *workers, *rounds)
	seen.report(t)
	require.Empty(t, seen.foreign)
	require.Empty(t, seen.wrong)
	require.Equal(t, *workers**rounds, seen.added)
	require.Len(t, s.everything(t), len(demoClinics)*patientsEach+seen.added)
}

// TestRequestsOfManyClinicsAtOnceWithoutPlugin is the same without the plugin, on a login that policies do not restrict: the rows of
// other clinics are found, so that the test above would have seen them.
func TestRequestsOfManyClinicsAtOnceWithoutPlugin(t *testing.T) {
	s := newDatabase(t)
	db, err := openPlain(s.database.Admin.DSN, connections)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, demo.Disconnect(db)) })
	for _, model := range models() { // GORM's own first look at related models is not safe for several requests at a time
		require.NoError(t, (&gorm.Statement{DB: db}).Parse(model))
	}
	// What remains of the plugin is what many programs do by hand: a new row gets its clinic from the context.
	require.NoError(t, db.Callback().Create().Before("gorm:create").Register("by hand", func(db *gorm.DB) {
		if tenant, ok := tenancy.TenantFromContext(db.Statement.Context); ok && db.Statement.Table == "patients" {
			db.Statement.SetColumn("TenantID", tenant)
		}
	}))
	seen := work(t, serve(t, config{DB: db}), 10, 5)
	seen.report(t)
	require.Empty(t, seen.wrong, "nothing fails: that is the trouble")
	require.Greater(t, len(seen.foreign), 100)
}

// findings is what workers have seen.
type findings struct {
	mu        sync.Mutex
	took      time.Duration
	durations []time.Duration // of requests
	added     int
	rows      int
	foreign   []string // chart numbers of other clinics' patients
	wrong     []string // answers that should have been others
}

func (f *findings) report(t *testing.T) {
	slices.Sort(f.durations)
	n := len(f.durations)
	t.Logf("%d requests in %v: %.0f/s, p50 %v, p99 %v; %d rows shown, %d of other clinics, %d wrong answers",
		n, f.took.Round(time.Millisecond), float64(n)/f.took.Seconds(), f.durations[n/2], f.durations[n*99/100],
		f.rows, len(f.foreign), len(f.wrong))
}

// work lets so many workers sign in so often.
func work(t *testing.T, url string, workers, rounds int) *findings {
	t.Helper()
	all, start := &findings{}, time.Now()
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	var group sync.WaitGroup
	for w := range workers {
		random := rand.New(rand.NewPCG(1, uint64(w)))
		group.Go(func() {
			for r := range rounds {
				job := &job{client: newClientOver(t, url, transport), random: random, name: fmt.Sprintf("%d-%d", w, r), seen: &findings{}}
				job.run()
				all.join(job.seen)
			}
		})
	}
	group.Wait()
	all.took = time.Since(start)
	return all
}

func (f *findings) join(g *findings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.durations = append(f.durations, g.durations...)
	f.added += g.added
	f.rows += g.rows
	f.foreign = append(f.foreign, g.foreign...)
	f.wrong = append(f.wrong, g.wrong...)
}

// job is one round of one worker.
type job struct {
	client *client
	random *rand.Rand
	name   string
	clinic int64 // where it works now
	seen   *findings
}

// run is a short working day of one user.
func (j *job) run() {
	u := demoUsers[j.random.IntN(len(demoUsers)-1)] // all but the administrator, who is the last
	clinics := append([]int64{u.Clinic}, u.Also...)
	j.clinic = clinics[j.random.IntN(len(clinics))]
	j.get("/login")
	j.post("/login", "clinic", idText(j.clinic), "email", u.Email, "password", u.Password())
	j.look(j.anyPage())

	chart := letter(j.clinic) + "-" + j.name
	if j.post("/patients", "name", "Worker "+j.name, "chart", chart, "born", "2000-01-01").Status == http.StatusSeeOther {
		j.seen.added++
	}
	if found := j.look("/patients?q=" + chart).charts(); !slices.Contains(found, chart) {
		j.seen.wrong = append(j.seen.wrong, "does not find what it added")
	}
	if len(clinics) > 1 {
		here := slices.Index(clinics, j.clinic)
		j.clinic = clinics[(here+1+j.random.IntN(len(clinics)-1))%len(clinics)]
		j.post("/switch", "clinic", idText(j.clinic))
		j.look(j.anyPage())
	}
	j.post("/logout")
}

// anyPage is one that shows patients: some of those that were there, or those that workers have added.
func (j *job) anyPage() string {
	pages := []string{"/patients?page=1", "/patients?page=2", "/patients?q=Worker", "/today", "/appointments"}
	return pages[j.random.IntN(len(pages))]
}

func (j *job) get(path string) reply {
	start := time.Now()
	return j.note(start, "GET "+path, http.StatusOK, j.client.get(path))
}

func (j *job) post(path string, pairs ...string) reply {
	start := time.Now()
	return j.note(start, "POST "+path, http.StatusSeeOther, j.client.post(path, pairs...))
}

// look gets a page, and looks whose rows it shows.
func (j *job) look(path string) reply {
	r := j.get(path)
	for _, chart := range r.charts() {
		j.seen.rows++
		if !strings.HasPrefix(chart, letter(j.clinic)+"-") {
			j.seen.foreign = append(j.seen.foreign, chart)
		}
	}
	return r
}

func (j *job) note(start time.Time, what string, want int, r reply) reply {
	j.seen.durations = append(j.seen.durations, time.Since(start))
	if r.Status != want {
		j.seen.wrong = append(j.seen.wrong, fmt.Sprintf("%s: %d", what, r.Status))
	}
	return r
}
