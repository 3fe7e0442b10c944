package jobs

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// newClient has nothing but queues and workers set, as a user begins. It reports the tenant of each job.
func (q *queue) newClient(t *testing.T, jobs *tenancyriver.Jobs, ran chan<- string) *tenancyriver.Client[*sql.Tx] {
	t.Helper()
	bundle := river.NewWorkers()
	river.AddWorker(bundle, river.WorkFunc(func(ctx context.Context, _ *river.Job[Mail]) error {
		ran <- tenantOf(ctx)
		return nil
	}))
	config := &river.Config{Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, Workers: bundle, Logger: testdb.Quiet}
	client, err := tenancyriver.NewClient(riverdatabasesql.New(q.pool), jobs, config)
	require.NoError(t, err)
	require.Empty(t, config.Middleware, "the caller's configuration is not changed")
	return client
}

// TestClientsFeedByThemselves: no job of shared queues waits for a loop that the application would have to run. Clients start, stop and start
// again, in two processes.
func TestClientsFeedByThemselves(t *testing.T) {
	q := newQueue(t, 2)
	ran := make(chan string)
	one, two := q.newClient(t, q.jobs(t, nil), ran), q.newClient(t, q.jobs(t, nil), ran)
	requireWorked := func() {
		t.Helper()
		q.fill(t, testdb.Acme, 5)
		for range 5 {
			require.Equal(t, testdb.Acme, <-ran)
		}
	}
	ctx := context.WithoutCancel(t.Context())
	require.NoError(t, one.Start(ctx))
	require.NoError(t, one.Start(ctx), "which does nothing")
	requireWorked()
	require.NoError(t, two.Start(ctx))
	requireWorked()
	require.NoError(t, one.Stop(ctx))
	require.NoError(t, one.Stop(ctx), "again")
	requireWorked()
	require.NoError(t, one.Start(ctx))
	require.NoError(t, two.StopAndCancel(ctx))
	requireWorked()

	ending, end := context.WithCancel(ctx)
	require.NoError(t, two.Start(ending))
	require.NoError(t, one.Stop(ctx))
	requireWorked()
	end()
	<-two.Stopped()
	require.NoError(t, two.Stop(ctx))
	q.fill(t, testdb.Acme, 1)
	require.Empty(t, q.available(t), "none feeds any more")
}

// TestClientFeedsAgainAfterError of PostgreSQL, which is logged.
func TestClientFeedsAgainAfterError(t *testing.T) {
	q := newQueue(t, 2)
	ran, logged := make(chan string, 1), make(logs, 100)
	jobs := q.jobs(t, func(c *tenancyriver.Config) { c.Logger = slog.New(logged) })
	q.AsSuperuser(t, "REVOKE ALL ON tenancy_river_slots FROM "+q.iso.WorkerRole)
	client := q.newClient(t, jobs, ran)
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))
	defer func() { require.NoError(t, client.Stop(context.Background())) }()
	q.fill(t, testdb.Acme, 1)
	require.Contains(t, <-logged, "cannot give jobs to workers")
	q.AsSuperuser(t, "GRANT SELECT ON tenancy_river_slots TO "+q.iso.WorkerRole)
	require.Equal(t, testdb.Acme, <-ran)
}

// logs is a handler of slog that sends the messages of errors.
type logs chan string

func (l logs) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l logs) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l logs) WithGroup(string) slog.Handler                    { return l }
func (l logs) Handle(_ context.Context, r slog.Record) error {
	l <- r.Message
	return nil
}

// TestJobsNeedTheirClient: River's own would run no job that waits for a slot, so the compiler refuses the middleware there.
func TestJobsNeedTheirClient(t *testing.T) {
	_, isMiddleware := any(&tenancyriver.Jobs{}).(rivertype.Middleware)
	require.False(t, isMiddleware)
}

// TestClientWorksInIsolatedSchema, which New has checked, and in no other.
func TestClientWorksInIsolatedSchema(t *testing.T) {
	q := newQueue(t, 0)
	q.pool.SetMaxIdleConns(0) // each session has the search path of below
	_, err := tenancyriver.NewClient(riverdatabasesql.New(q.pool), q.jobs(t, nil), &river.Config{Schema: "other"})
	require.ErrorContains(t, err, `"other"`)
	_, err = tenancyriver.NewClient(riverdatabasesql.New(nil), q.jobs(t, nil), nil)
	require.NoError(t, err, "one that only inserts")

	q.AsSuperuser(t, "CREATE SCHEMA other", fmt.Sprintf("GRANT USAGE ON SCHEMA other TO %s", q.iso.WorkerRole),
		"CREATE TABLE other.river_job (LIKE river_job INCLUDING ALL)", "GRANT ALL ON other.river_job TO "+q.iso.WorkerRole,
		fmt.Sprintf("ALTER ROLE %s SET search_path = other, public", q.iso.WorkerRole),
		`INSERT INTO other.river_job (kind, max_attempts, args, metadata) VALUES ('mail', 3, '{}', '{"tenancy:tenant":"globex"}')`)
	_, err = q.insert(testdb.As(testdb.Acme), Mail{}, nil)
	require.NoError(t, err)
	ran := make(chan string, 10)
	client := q.newClient(t, q.jobs(t, nil), ran)
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))
	require.Equal(t, testdb.Acme, <-ran, "a job of the table that is isolated")
	require.NoError(t, client.Stop(context.Background()))
	require.Empty(t, ran)
}

// TestTenantCannotHoldUpOthers by locks on its own jobs, nor by states and times that it writes into them.
func TestTenantCannotHoldUpOthers(t *testing.T) {
	q := newQueue(t, 2)
	jobs := q.jobs(t, nil)
	_, err := q.pool.ExecContext(t.Context(), "INSERT INTO river_queue (name, updated_at) VALUES ('default', now())")
	require.NoError(t, err)
	for _, tenant := range []string{testdb.Acme, testdb.Globex} {
		q.fill(t, tenant, 10)
	}
	acme := q.db.WithContext(testdb.As(testdb.Acme)).Begin()
	require.NoError(t, acme.Exec("SELECT FROM river_job FOR UPDATE").Error)
	n, err := jobs.Release(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	require.Equal(t, map[string]int{testdb.Globex: 2}, q.available(t))
	require.NoError(t, acme.Rollback().Error)

	acme = q.db.WithContext(testdb.As(testdb.Acme))
	for _, lock := range []string{
		"LOCK TABLE tenancy_river_feed IN ACCESS SHARE MODE", "SELECT tenancy_river_feed()", "SELECT FROM tenancy_river_feed FOR KEY SHARE",
		"LOCK TABLE tenancy_river_slots IN ACCESS SHARE MODE", "LOCK TABLE river_queue IN ACCESS SHARE MODE",
		"LOCK TABLE river_job IN SHARE MODE",
	} {
		requireDenied(t, acme.Transaction(func(tx *gorm.DB) error { return tx.Exec(lock).Error }), lock)
	}
	require.NoError(t, acme.Exec("UPDATE river_job SET scheduled_at = now() + interval '1 day'").Error)
	n, err = jobs.Release(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "jobs that are not due")
	require.NoError(t, acme.Exec("UPDATE river_job SET state = 'running', scheduled_at = now() WHERE id % 2 = 0").Error)
	n, err = jobs.Release(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "it has used up its own slots")
	q.AsSuperuser(t, "DELETE FROM river_job WHERE tenant_id = 'globex' AND state = 'available'")
	n, err = jobs.Release(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

// TestOneFeedsAtATime: another process gives none meanwhile, and waits for nothing.
func TestOneFeedsAtATime(t *testing.T) {
	q := newQueue(t, 2)
	jobs := q.jobs(t, nil)
	_, err := q.pool.ExecContext(t.Context(), "INSERT INTO river_queue (name, updated_at) VALUES ('default', now())")
	require.NoError(t, err)
	q.fill(t, testdb.Acme, 10)
	other, err := q.pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var mine bool
	require.NoError(t, other.QueryRowContext(t.Context(), "SELECT tenancy_river_feed()").Scan(&mine))
	require.True(t, mine)
	n, err := jobs.Release(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, other.Rollback())
	n, err = jobs.Release(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

// TestSlotsAreOutOfReach: New refuses tables of slots that the application's role has rights on, or that are not there.
func TestSlotsAreOutOfReach(t *testing.T) {
	q := newQueue(t, 2)
	for _, hole := range []string{
		"GRANT SELECT ON tenancy_river_feed TO PUBLIC", "GRANT UPDATE ON tenancy_river_slots TO " + q.App.Role, "DROP TABLE tenancy_river_feed",
	} {
		q.AsSuperuser(t, hole)
		_, err := tenancyriver.New(t.Context(), q.pool, tenancyriver.Config{Isolation: q.iso})
		require.ErrorIs(t, err, tenancyriver.ErrNotIsolated, hole)
		owner, err := q.OwnerDB.DB()
		require.NoError(t, err)
		require.NoError(t, q.iso.Migrate(t.Context(), owner))
		q.jobs(t, nil)
	}
}

// TestSlotsAreSwitchedOnAndOff while jobs wait: those are given in turn from then on, or to workers at once, and none stays behind.
func TestSlotsAreSwitchedOnAndOff(t *testing.T) { testdb.InBothForms(t, testSlotsAreSwitchedOnAndOff) }

func testSlotsAreSwitchedOnAndOff(t *testing.T) {
	q := newQueue(t, 0)
	owner, err := q.OwnerDB.DB()
	require.NoError(t, err)
	q.fill(t, testdb.Acme, 20)
	q.fill(t, testdb.Globex, 3)
	require.Equal(t, map[string]int{testdb.Acme: 20, testdb.Globex: 3}, q.available(t))

	q.iso.Slots = 2
	require.NoError(t, q.iso.Migrate(t.Context(), owner))
	require.Empty(t, q.available(t))
	jobs := q.jobs(t, nil)
	require.NoError(t, jobs.SetSlots(t.Context(), testdb.Globex, 1))
	_, err = q.pool.ExecContext(t.Context(), "INSERT INTO river_queue (name, updated_at) VALUES ('default', now())")
	require.NoError(t, err)
	_, err = jobs.Release(t.Context())
	require.NoError(t, err)
	given := map[string]int{testdb.Acme: 2, testdb.Globex: 1}
	require.Equal(t, given, q.available(t))
	require.NoError(t, q.iso.Migrate(t.Context(), owner))
	require.Equal(t, given, q.available(t), "what was given stays so")

	q.iso.Slots = 0
	require.NoError(t, q.iso.Migrate(t.Context(), owner))
	require.Equal(t, map[string]int{testdb.Acme: 20, testdb.Globex: 3}, q.available(t))
	_, err = tenancyriver.New(t.Context(), q.pool, tenancyriver.Config{Isolation: q.iso})
	require.NoError(t, err, "the owner is bound again")
}
