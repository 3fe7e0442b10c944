package jobs

import (
	"context"
	"testing"

	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// fill gives a tenant many jobs, as it could by SQL of its own: all urgent, old and said to be available.
func (q *queue) fill(t *testing.T, tenant string, n int) {
	t.Helper()
	require.NoError(t, q.db.WithContext(testdb.As(tenant)).Exec(`INSERT INTO river_job (kind, max_attempts, args, metadata, scheduled_at)
		SELECT 'mail', 3, '{"order": 0}', jsonb_build_object('tenancy:tenant', ?::text), now() - interval '1 day' FROM generate_series(1, ?)`,
		tenant, n).Error)
}

// TestTenantWithManyJobsDelaysOther by twice its slots at most, for each time that the other fills its own slots.
func TestTenantWithManyJobsDelaysOther(t *testing.T) {
	const slots = 10
	q := newQueue(t, slots)
	jobs := q.jobs(t, nil)
	q.fill(t, testdb.Acme, 10_000)
	var ran seen
	enough, others := make(chan struct{}), make(chan struct{}, slots)
	_, _ = work(t, q, jobs, 4, func(ctx context.Context, _ *river.Job[Mail]) error {
		ran.add(tenantOf(ctx))
		if len(ran.all()) == 50 {
			close(enough)
		}
		if tenantOf(ctx) == testdb.Globex {
			others <- struct{}{}
		}
		return nil
	})
	<-enough
	for n := range slots {
		_, err := q.insert(testdb.As(testdb.Globex), Mail{Order: int64(n)}, &river.InsertOpts{Priority: 4})
		require.NoError(t, err)
	}
	before := len(ran.all())
	for range slots {
		<-others
	}
	after := 0
	for _, tenant := range ran.all()[before:] {
		if tenant == testdb.Acme {
			after++
		}
	}
	require.LessOrEqual(t, after, 2*slots, "jobs of the other tenant")
}

// available counts the jobs of each tenant that workers may take.
func (q *queue) available(t *testing.T) map[string]int {
	t.Helper()
	var rows []struct {
		Tenant string
		N      int
	}
	require.NoError(t, q.AdminDB.Raw(`SELECT tenant_id AS tenant, count(*) AS n FROM river_job WHERE state = 'available' GROUP BY 1`).Scan(&rows).Error)
	counts := map[string]int{}
	for _, row := range rows {
		counts[row.Tenant] = row.N
	}
	return counts
}

// TestSlotsAreWeightsAndCaps: shares are as the slots, and no tenant has more in work.
func TestSlotsAreWeightsAndCaps(t *testing.T) {
	q := newQueue(t, 2)
	jobs := q.jobs(t, nil)
	_, err := q.pool.ExecContext(t.Context(), "INSERT INTO river_queue (name, updated_at) VALUES ('default', now())")
	require.NoError(t, err)
	require.NoError(t, jobs.SetSlots(t.Context(), testdb.Globex, 6))
	require.NoError(t, jobs.SetSlots(t.Context(), "paused", 0))
	for _, tenant := range []string{testdb.Acme, testdb.Globex, "paused"} {
		q.fill(t, tenant, 100)
	}
	want := map[string]int{testdb.Acme: 2, testdb.Globex: 6}
	for _, released := range []int64{8, 0} {
		n, err := jobs.Release(t.Context())
		require.NoError(t, err)
		require.Equal(t, released, n)
		require.Equal(t, want, q.available(t))
	}
	_, err = q.pool.ExecContext(t.Context(), "UPDATE river_job SET state = 'running' WHERE state = 'available' AND tenant_id = 'acme'")
	require.NoError(t, err)
	n, err := jobs.Release(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "what runs has a slot")
	require.Error(t, jobs.SetSlots(t.Context(), testdb.Acme, -1))
}

// TestTenantCannotReleaseItsJobs: SQL of the application's role leaves them waiting.
func TestTenantCannotReleaseItsJobs(t *testing.T) {
	q := newQueue(t, 2)
	q.fill(t, testdb.Acme, 5)
	acme := q.db.WithContext(testdb.As(testdb.Acme))
	for _, state := range []string{"available", "scheduled", "available", "retryable", "available"} {
		require.NoError(t, acme.Exec("UPDATE river_job SET state = ?::river_job_state", state).Error)
	}
	require.Empty(t, q.available(t))
	requireDenied(t, acme.Exec("SELECT * FROM tenancy_river_slots").Error, "the slots")
	requireDenied(t, acme.Exec("UPDATE river_job SET priority = 1").Error, "the priority")
}
