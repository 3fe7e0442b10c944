package jobs

import (
	"context"
	"testing"

	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// asOther runs a statement as SQL of a tenant that names another one.
const asOther = `WITH s AS MATERIALIZED (SELECT set_config('app.tenant_id', 'globex', true)) `

// TestInjectedSQLReachesNoJobOfOther where policies demand a proof: without one, SQL that names another tenant inserts, reads and cancels its
// jobs, and a worker runs them for that tenant.
func TestInjectedSQLReachesNoJobOfOther(t *testing.T) {
	testdb.InBothForms(t, func(t *testing.T) {
		q := newQueue(t, 0)
		job, err := q.insert(testdb.As(testdb.Globex), Mail{Order: 7}, nil)
		require.NoError(t, err)
		acme := q.db.WithContext(testdb.As(testdb.Acme))
		reached := func(n int64) {
			t.Helper()
			require.Equal(t, map[bool]int64{true: 0, false: 1}[q.Signed()], n)
		}
		var count int64
		require.NoError(t, acme.Raw(asOther+`SELECT count(*) FROM s, river_job`).Scan(&count).Error)
		reached(count)
		require.NoError(t, acme.Exec(`DO $$ BEGIN
			PERFORM set_config('app.tenant_id', 'globex', true);
			UPDATE river_job SET state = 'cancelled', finalized_at = now();
		END $$`).Error)
		require.NoError(t, q.AdminDB.Raw(`SELECT count(*) FROM river_job WHERE state = 'cancelled' AND id = ?`, job.Job.ID).Scan(&count).Error)
		reached(count)

		insert := acme.Exec(asOther+`INSERT INTO river_job (kind, max_attempts, args, metadata) SELECT 'mail', 3, '{}', ? FROM s`, `{"tenancy:tenant":"globex"}`)
		if q.Signed() {
			requireDenied(t, insert.Error, "a job of another tenant")
			_, err = q.insert(testdb.As(testdb.Acme), Mail{}, nil)
			require.NoError(t, err)
		} else {
			require.NoError(t, insert.Error)
		}
		var ran seen
		_, events := work(t, q, q.jobs(t, nil), 1, func(ctx context.Context, _ *river.Job[Mail]) error {
			ran.add(tenantOf(ctx))
			return nil
		})
		require.Equal(t, river.EventKindJobCompleted, (<-events).Kind)
		if q.Signed() {
			require.Equal(t, river.EventKindJobCompleted, (<-events).Kind)
			require.ElementsMatch(t, []string{testdb.Globex, testdb.Acme}, ran.all(), "each its own")
			return
		}
		require.Equal(t, []string{testdb.Globex}, ran.all(), "what acme has inserted; the one of globex was cancelled")
	})
}

// TestWorkersDemandTheFormOfOtherTables: to switch an application over to keys and forget its jobs would leave them open.
func TestWorkersDemandTheFormOfOtherTables(t *testing.T) {
	d := testdb.NewSigned(t, &Order{})
	q := newQueueOf(t, d, 2)
	owner, err := d.OwnerDB.DB()
	require.NoError(t, err)
	unsigned, either, signed := q.iso, q.iso, q.iso
	unsigned.Signed, either.DangerouslyAcceptUnsigned = false, true
	starts := func(iso tenancyriver.Isolation) error {
		_, err := tenancyriver.New(t.Context(), q.pool, tenancyriver.Config{Isolation: iso, Logger: testdb.Quiet})
		return err
	}
	rows := func(change func(*rls.Isolation)) {
		t.Helper()
		isolation := d.Isolation()
		change(&isolation)
		d.Migrate(t, isolation, &Order{})
	}

	require.NoError(t, starts(signed))
	require.NoError(t, starts(either), "an instance that is not deployed again yet")
	require.ErrorIs(t, starts(unsigned), tenancyriver.ErrNotIsolated)
	for _, migrated := range []tenancyriver.Isolation{unsigned, either} {
		require.NoError(t, migrated.Migrate(t.Context(), owner))
		require.ErrorIs(t, starts(signed), tenancyriver.ErrNotIsolated)
		require.ErrorContains(t, starts(unsigned), "set Isolation.Signed")
	}

	// In the order of the page no worker is refused, with the configuration of before or of after.
	rows(func(i *rls.Isolation) { i.Signed = false })
	require.NoError(t, unsigned.Migrate(t.Context(), owner))
	require.NoError(t, starts(unsigned))
	for _, step := range []struct {
		migrate       func(*rls.Isolation)
		before, after tenancyriver.Isolation
	}{
		{func(i *rls.Isolation) { i.DangerouslyAcceptUnsigned = true }, unsigned, either},
		{func(*rls.Isolation) {}, either, signed},
	} {
		rows(step.migrate)
		require.NoError(t, starts(step.before))
		require.NoError(t, step.after.Migrate(t.Context(), owner))
		require.NoError(t, starts(step.before))
		require.NoError(t, starts(step.after))
	}

	neither := either
	neither.Signed = false
	require.ErrorContains(t, starts(neither), "DangerouslyAcceptUnsigned needs Signed")
}
