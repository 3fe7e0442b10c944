package jobs

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Nightly is a job for no tenant, which fans out.
type Nightly struct{}

func (Nightly) Kind() string { return "nightly" }

// TestPeriodicJobFansOut: the client inserts periodic jobs for no tenant.
func TestPeriodicJobFansOut(t *testing.T) { testdb.InBothForms(t, testPeriodicJobFansOut) }

func testPeriodicJobFansOut(t *testing.T) {
	q := newQueue(t, 0)
	jobs := q.jobs(t, func(c *tenancyriver.Config) { c.WithoutTenant = []string{Nightly{}.Kind()} })
	tenants := []string{testdb.Acme, testdb.Globex}
	var ran seen
	bundle := river.NewWorkers()
	river.AddWorker(bundle, river.WorkFunc(func(ctx context.Context, job *river.Job[Nightly]) error {
		tx, err := q.pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		client := river.ClientFromContext[*sql.Tx](ctx)
		unique := river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: 24 * time.Hour}}
		if err := tenancyriver.FanOut(ctx, client, tx, tenants, Mail{}, unique); err != nil {
			return err
		}
		if _, err := river.JobCompleteTx[*riverdatabasesql.Driver](ctx, tx, job); err != nil {
			return err
		}
		return tx.Commit()
	}))
	river.AddWorker(bundle, river.WorkFunc(func(ctx context.Context, _ *river.Job[Mail]) error {
		ran.add(tenantOf(ctx))
		return nil
	}))
	client, err := tenancyriver.NewClient(riverdatabasesql.New(q.pool), jobs, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}}, Workers: bundle, Logger: testdb.Quiet,
		FetchCooldown: time.Millisecond, FetchPollInterval: 5 * time.Millisecond,
		PeriodicJobs: []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(24*time.Hour),
			func() (river.JobArgs, *river.InsertOpts) { return Nightly{}, nil }, &river.PeriodicJobOpts{RunOnStart: true})},
	})
	require.NoError(t, err)
	events, cancel := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobCancelled, river.EventKindJobFailed)
	defer cancel()
	require.NoError(t, client.Start(testdb.As(testdb.Acme)), "which counts for no job")
	defer func() { require.NoError(t, client.StopAndCancel(context.Background())) }()
	for range 3 {
		event := <-events
		require.Equal(t, river.EventKindJobCompleted, event.Kind, event.Job.Errors)
	}
	require.ElementsMatch(t, tenants, ran.all())
}
