// Package jobs tests tenancyriver on a real PostgreSQL: what hostile SQL does to jobs, the outbox, fairness, and workers that are killed.
package jobs

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // its driver
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) == "" {
		pgserver.Main(m)
	}
	if err := child(); err != nil { // a process that TestWorkersThatAreKilledLoseNothing has started
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Order is a row that a job is about.
type Order struct {
	ID       int64
	TenantID string
	Item     string
	Sent     int
}

// Mail is a job. Tenant is what a caller writes into the arguments, which must not count.
type Mail struct {
	Order  int64  `json:"order"`
	Tenant string `json:"tenant,omitempty"`
}

func (Mail) Kind() string { return "mail" }

// queue is a database with River's tables and the rows of two tenants.
type queue struct {
	*testdb.Database
	iso    tenancyriver.Isolation
	db     *gorm.DB // the application's
	pool   *sql.DB  // the workers'
	client *river.Client[*sql.Tx]
}

func newQueue(t *testing.T, slots int) *queue {
	t.Helper()
	return newQueueOf(t, testdb.New(t, &Order{}), slots)
}

func newQueueOf(t *testing.T, d *testdb.Database, slots int) *queue {
	t.Helper()
	owner, err := d.OwnerDB.DB()
	require.NoError(t, err)
	migrator, err := rivermigrate.New(riverdatabasesql.New(owner), nil)
	require.NoError(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	worker := d.Name + "_worker"
	d.AsSuperuser(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%[1]s'", worker))
	t.Cleanup(func() {
		// Sessions of processes that were killed may still have a statement to finish, and locks.
		d.AsSuperuser(t, fmt.Sprintf("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND usename IN ('%s', '%s')", worker, d.App.Role),
			"DROP OWNED BY "+worker+" CASCADE", "DROP ROLE "+worker)
	})
	q := &queue{Database: d, iso: tenancyriver.Isolation{AppRole: d.App.Role, WorkerRole: worker, AdminRole: d.Admin.Role, Slots: slots, Signed: d.Signed()}}
	require.NoError(t, q.iso.Migrate(t.Context(), owner))
	require.NoError(t, q.iso.Migrate(t.Context(), owner), "again")
	q.db = d.Open(t, d.Config())
	q.pool = testdb.OpenSQL(t, testdb.WithLogin(d.App.DSN, worker, worker))
	q.client, err = river.NewClient(riverdatabasesql.New(nil), &river.Config{Middleware: []rivertype.Middleware{tenancyriver.Insert()}})
	require.NoError(t, err)
	return q
}

// insert inserts a job for a tenant in a transaction of its own.
func (q *queue) insert(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) (job *rivertype.JobInsertResult, err error) {
	err = q.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		job, err = tenancyriver.InsertTx(tx, q.client, args, opts)
		return err
	})
	return job, err
}

// jobs is what workers' clients are made of. It gives jobs that wait for a slot to workers all the time.
func (q *queue) jobs(t *testing.T, change func(*tenancyriver.Config)) *tenancyriver.Jobs {
	t.Helper()
	cfg := tenancyriver.Config{Isolation: q.iso, Logger: testdb.Quiet, FeedInterval: 2 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	jobs, err := tenancyriver.New(t.Context(), q.pool, cfg)
	require.NoError(t, err)
	return jobs
}

// work starts workers, which stop with the test, and returns what they report.
func work[T river.JobArgs](
	t *testing.T, q *queue, jobs *tenancyriver.Jobs, workers int, f func(context.Context, *river.Job[T]) error,
) (*tenancyriver.Client[*sql.Tx], <-chan *river.Event) {
	t.Helper()
	bundle := river.NewWorkers()
	river.AddWorker(bundle, river.WorkFunc(f))
	client, err := tenancyriver.NewClient(riverdatabasesql.New(q.pool), jobs, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}}, Workers: bundle, Logger: testdb.Quiet,
		FetchCooldown: time.Millisecond, FetchPollInterval: 5 * time.Millisecond, RetryPolicy: atOnce{},
	})
	require.NoError(t, err)
	events, cancel := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobCancelled, river.EventKindJobFailed, river.EventKindJobSnoozed)
	t.Cleanup(cancel)
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() { require.NoError(t, client.StopAndCancel(context.Background())) })
	return client, events
}

type atOnce struct{}

func (atOnce) NextRetry(*rivertype.JobRow) time.Time { return time.Now() }

// seen collects what workers did.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, what)
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.list...)
}

func tenantOf(ctx context.Context) string {
	tenant, _ := tenancy.TenantFromContext(ctx)
	return tenant
}
