package jobs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenancyriver"
)

// turns works step by step with River's own query, so that the order of jobs is the same each time. It keeps a model beside, of what each
// tenant has waiting, and requires the bound with each job that starts.
type turns struct {
	*queue
	jobs    *tenancyriver.Jobs
	exec    riverdriver.Executor
	tenants map[string]*share
	running []int64
	of      map[int64]string // the tenant of a job
	order   []string         // the tenant of each job that was started
}

// share is one tenant in the model.
type share struct {
	slots, given int            // given are available or running
	waiting      []*turn        // in their order
	available    map[int64]turn // given, and not started
	started      int
	worst        map[string]int // the most jobs of each other tenant that were started before one that had a free slot
}

// turn is a job that waits. before, if not nil, is how many jobs each tenant had started when this one got a free slot.
type turn struct {
	id     int64
	before map[string]int
}

func newTurns(t *testing.T, slots int, weights map[string]int) *turns {
	t.Helper()
	q := newQueue(t, slots)
	s := &turns{queue: q, jobs: q.jobs(t, nil), exec: riverdatabasesql.New(q.pool).GetExecutor(), tenants: map[string]*share{}, of: map[int64]string{}}
	_, err := q.pool.ExecContext(t.Context(), "INSERT INTO river_queue (name, updated_at) VALUES ('default', now())")
	require.NoError(t, err)
	for tenant, slots := range weights {
		require.NoError(t, s.jobs.SetSlots(t.Context(), tenant, slots))
		s.tenants[tenant] = &share{slots: slots, available: map[int64]turn{}, worst: map[string]int{}}
	}
	return s
}

// insert gives a tenant n jobs.
func (s *turns) insert(t *testing.T, tenant string, n int) {
	t.Helper()
	s.fill(t, tenant, n)
	var ids []int64
	require.NoError(t, s.AdminDB.Raw("SELECT id FROM river_job WHERE tenant_id = ? ORDER BY id DESC LIMIT ?", tenant, n).Scan(&ids).Error)
	slices.Reverse(ids)
	for _, id := range ids {
		s.of[id] = tenant
		s.tenants[tenant].waiting = append(s.tenants[tenant].waiting, &turn{id: id})
	}
	s.mark(tenant)
}

// mark notes for the jobs that have a free slot what was started so far.
func (s *turns) mark(tenant string) {
	of := s.tenants[tenant]
	for _, job := range of.waiting[:min(len(of.waiting), max(of.slots-of.given, 0))] {
		if job.before == nil {
			job.before = map[string]int{}
			for name, other := range s.tenants {
				job.before[name] = other.started
			}
		}
	}
}

// release does what workers' clients do all the time.
func (s *turns) release(t *testing.T) {
	t.Helper()
	want := 0
	for _, of := range s.tenants {
		n := min(len(of.waiting), max(of.slots-of.given, 0))
		for _, job := range of.waiting[:n] {
			of.available[job.id] = *job
		}
		of.waiting, of.given, want = of.waiting[n:], of.given+n, want+n
	}
	released, err := s.jobs.Release(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, want, released, "each tenant has as many as its slots")
}

// start has a worker take the next job, and returns false if there is none.
func (s *turns) start(t *testing.T) bool {
	t.Helper()
	got, err := s.exec.JobGetAvailable(t.Context(), &riverdriver.JobGetAvailableParams{ClientID: "one", MaxAttemptedBy: 100, MaxToLock: 1, Queue: river.QueueDefault})
	require.NoError(t, err)
	if len(got.Jobs) == 0 {
		return false
	}
	id := got.Jobs[0].ID
	tenant := s.of[id]
	of := s.tenants[tenant]
	job, ok := of.available[id]
	require.True(t, ok, "a job that had its turn")
	delete(of.available, id)
	for name, other := range s.tenants {
		if name != tenant {
			waited := other.started - job.before[name]
			require.LessOrEqual(t, waited, 2*other.slots, "jobs of %s before one of %s that had a free slot", name, tenant)
			of.worst[name] = max(of.worst[name], waited)
		}
	}
	of.started++
	s.running = append(s.running, id)
	s.order = append(s.order, tenant)
	return true
}

// finish ends the n-th job that runs.
func (s *turns) finish(t *testing.T, n int) {
	t.Helper()
	id := s.running[n]
	_, err := s.pool.ExecContext(t.Context(), "UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1", id)
	require.NoError(t, err)
	s.running = slices.Delete(s.running, n, n+1)
	s.tenants[s.of[id]].given--
	s.mark(s.of[id])
}

// work releases once, and has all workers end a job and take the next.
func (s *turns) work(t *testing.T, workers int) {
	t.Helper()
	s.release(t)
	for range workers {
		if len(s.running) == workers {
			s.finish(t, 0)
		}
		s.start(t)
	}
}

// TestBoundIsReached: a job comes in right after a release, all that was given is worked, and the next release gives as many again, which are
// older. More than twice the slots cannot come before it.
func TestBoundIsReached(t *testing.T) {
	s := newTurns(t, 1, map[string]int{"big": 7, "small": 1})
	s.insert(t, "big", 100)
	s.release(t)
	s.insert(t, "small", 1)
	for range 2 {
		for s.start(t) {
		}
		for len(s.running) > 0 {
			s.finish(t, 0)
		}
		s.release(t)
	}
	require.Equal(t, 14, s.tenants["small"].worst["big"])
}

// TestBigTenantBesideNineSmall has the figures of docs/jobs.md: 10,000 jobs beside nine tenants of 10 jobs each, whose slots are 1 to 9.
func TestBigTenantBesideNineSmall(t *testing.T) {
	const workers = 8
	weights := map[string]int{"big": 10}
	for n := 1; n <= 9; n++ {
		weights[fmt.Sprint("small", n)] = n
	}
	s := newTurns(t, 1, weights)
	s.insert(t, "big", 10_000)
	for range 5 {
		s.work(t, workers)
	}
	before := len(s.order)
	for n := 1; n <= 9; n++ {
		s.insert(t, fmt.Sprint("small", n), 10)
	}
	last, worst := map[string]int{}, 0
	for len(last) < 9 {
		s.work(t, workers)
		for n := 1; n <= 9; n++ {
			name := fmt.Sprint("small", n)
			if _, done := last[name]; s.tenants[name].started == 10 && !done {
				last[name] = len(s.order) - before
			}
			worst = max(worst, s.tenants[name].worst["big"])
		}
	}
	require.Equal(t, 10, worst, "jobs of big before one of a small tenant that had a free slot")
	require.Equal(t, map[string]int{
		"small1": 190, "small2": 131, "small3": 118, "small4": 104, "small5": 80, "small6": 80, "small7": 80, "small8": 88, "small9": 88,
	}, last, "jobs of all until the last of each was started")
}

// TestBurstOfBigTenants has the figures of docs/jobs.md: three tenants of 2,000 jobs each, with 10, 20 and 30 slots, and then 10 jobs of a
// small one.
func TestBurstOfBigTenants(t *testing.T) {
	const workers = 8
	s := newTurns(t, 1, map[string]int{"a": 10, "b": 20, "c": 30, "small": 5})
	for _, tenant := range []string{"a", "b", "c"} {
		s.insert(t, tenant, 2_000)
	}
	for len(s.order) < 600 {
		s.work(t, workers)
	}
	require.Equal(t, []int{110, 210, 280}, []int{s.tenants["a"].started, s.tenants["b"].started, s.tenants["c"].started}, "of 600, as 1:2:3")
	before := len(s.order)
	s.insert(t, "small", 10)
	for s.tenants["small"].started < 10 {
		s.work(t, workers)
	}
	require.Equal(t, map[string]int{"a": 10, "b": 20, "c": 30}, s.tenants["small"].worst)
	require.Equal(t, 136, len(s.order)-before, "until the last of small was started")
}

// TestBoundHoldsInAnyOrder: inserts, releases, starts and ends of jobs in 2,000 orders by chance, the same each time.
func TestBoundHoldsInAnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	weights := map[string]int{"a": 1, "b": 2, "c": 3, "d": 5, "e": 8, "paused": 0}
	names := []string{"a", "b", "c", "d", "e", "paused"}
	s := newTurns(t, 1, weights)
	for range 2_000 {
		switch n := random.IntN(20); {
		case n < 2:
			s.insert(t, names[random.IntN(len(names))], 1+random.IntN(20))
		case n < 5:
			s.release(t)
		case n < 13:
			s.start(t)
		case len(s.running) > 0:
			s.finish(t, random.IntN(len(s.running)))
		}
	}
	require.Zero(t, s.tenants["paused"].started)
	require.Greater(t, len(s.order), 300)
}
