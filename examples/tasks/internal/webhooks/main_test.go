package webhooks

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of the workers' pool
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/event"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenancyriver"
)

const acme, globex = "acme", "globex"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		pgserver.Main(m)
	}
	if err := child(); err != nil { // a process that TestWorkersThatAreKilled has started
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// as is the context of a tenant.
func as(tenant string) context.Context { return tenancy.WithTenant(context.Background(), tenant) }

// fixture is a database with a service.
type fixture struct {
	database *pgserver.Database
	iso      tenancyriver.Isolation
	db       *gorm.DB // what the service uses
	admin    *gorm.DB // sees all rows
	service  *Service
}

// testConfig delivers to this machine, and fast.
func testConfig() Config {
	return Config{
		Keys: [][]byte{make([]byte, 32)}, DangerouslyAllowLoopback: true, Logger: quiet, Timeout: 2 * time.Second,
		Schedule: []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond}, BreakAfter: 100,
	}
}

func openDB(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db, err := connect(dsn)
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return db
}

func connect(dsn string) (*gorm.DB, error) {
	return gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard, DisableNestedTransaction: true})
}

// newFixture migrates a database, and isolates it.
func newFixture(t *testing.T, config Config) *fixture {
	t.Helper()
	f := newTables(t)
	_, err := rls.Isolation{AppRole: f.database.App.Role, AdminRole: f.database.Admin.Role}.Migrate(t.Context(), f.owner(t), Models()...)
	require.NoError(t, err)
	pool, err := f.owner(t).DB()
	require.NoError(t, err)
	require.NoError(t, f.iso.Migrate(t.Context(), pool))
	f.db = openDB(t, f.database.App.DSN)
	require.NoError(t, f.db.Use(tenancy.New(tenancy.Config{AdminRole: f.database.Admin.Role, Logger: quiet})))
	f.admin = openDB(t, f.database.Admin.DSN)
	f.service = newService(t, f.db, config)
	return f
}

// newTables makes a database with River's tables.
func newTables(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{database: pgserver.New(t)}
	f.iso = tenancyriver.Isolation{AppRole: f.database.App.Role, WorkerRole: f.database.Worker.Role, AdminRole: f.database.Admin.Role}
	pool, err := f.owner(t).DB()
	require.NoError(t, err)
	migrator, err := rivermigrate.New(riverdatabasesql.New(pool), &rivermigrate.Config{Logger: quiet})
	require.NoError(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	return f
}

func (f *fixture) owner(t *testing.T) *gorm.DB {
	t.Helper()
	return openDB(t, f.database.Owner.DSN)
}

func newService(t *testing.T, db *gorm.DB, config Config) *Service {
	t.Helper()
	service, err := makeService(db, config)
	require.NoError(t, err)
	return service
}

func makeService(db *gorm.DB, config Config) (*Service, error) {
	jobs, err := river.NewClient(riverdatabasesql.New(nil), &river.Config{Middleware: []rivertype.Middleware{tenancyriver.Insert()}, Logger: quiet})
	if err != nil {
		return nil, err
	}
	return New(db, jobs, config)
}

// newWorkers makes a River client that works the service's jobs.
func newWorkers(ctx context.Context, pool *sql.DB, iso tenancyriver.Isolation, service *Service) (*tenancyriver.Client[*sql.Tx], error) {
	jobs, err := tenancyriver.New(ctx, pool, tenancyriver.Config{Isolation: iso, Logger: quiet})
	if err != nil {
		return nil, err
	}
	bundle := river.NewWorkers()
	service.AddWorkers(bundle)
	return tenancyriver.NewClient(riverdatabasesql.New(pool), jobs, &river.Config{
		Queues: map[string]river.QueueConfig{Queue: {MaxWorkers: 8}}, Workers: bundle, Logger: quiet,
		FetchCooldown: time.Millisecond, FetchPollInterval: 5 * time.Millisecond,
		JobTimeout: 3 * time.Second, RescueStuckJobsAfter: 3 * time.Second, RetryPolicy: atOnce{},
	})
}

type atOnce struct{}

func (atOnce) NextRetry(*rivertype.JobRow) time.Time { return time.Now() }

// work starts workers, which stop with the test or with the returned function.
func (f *fixture) work(t *testing.T) (client *tenancyriver.Client[*sql.Tx], stop func()) {
	t.Helper()
	pool, err := sql.Open("pgx", f.database.Worker.DSN)
	require.NoError(t, err)
	client, err = newWorkers(t.Context(), pool, f.iso, f.service)
	require.NoError(t, err)
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			require.NoError(t, client.StopAndCancel(context.Background()))
			require.NoError(t, pool.Close())
		}
	}
	t.Cleanup(stop)
	return client, stop
}

// endpoint registers an endpoint of a tenant.
func (f *fixture) endpoint(t *testing.T, tenant, url string, types ...string) (Endpoint, string) {
	t.Helper()
	if len(types) == 0 {
		types = []string{AllTypes}
	}
	endpoint, secret, err := f.service.Create(f.db.WithContext(as(tenant)), Settings{URL: url, Types: types})
	require.NoError(t, err)
	return endpoint, secret
}

// emit emits an event in a transaction, and returns its id.
func (f *fixture) emit(t *testing.T, tenant, eventType string, payload any) string {
	t.Helper()
	e := newEvent(eventType, payload)
	require.NoError(t, f.emitTx(tenant, e, nil))
	return e.ID
}

func (f *fixture) emitTx(tenant string, e event.Event, then error) error {
	return f.db.WithContext(as(tenant)).Transaction(func(tx *gorm.DB) error {
		if err := f.service.Emit(tx, e); err != nil {
			return err
		}
		return then
	})
}

// eventually waits for a condition.
func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, 60*time.Second, 10*time.Millisecond, what)
}

// delivery returns the only delivery of an event.
func (f *fixture) delivery(t *testing.T, event string) (d Delivery) {
	t.Helper()
	require.NoError(t, f.admin.Take(&d, "event_id = ?", event).Error)
	return d
}

// waitFor waits until the only delivery of an event has a status.
func (f *fixture) waitFor(t *testing.T, event, status string) (d Delivery) {
	t.Helper()
	eventually(t, func() bool {
		return f.admin.Take(&d, "event_id = ? AND status = ?", event, status).Error == nil
	}, status)
	return d
}

// attempts returns the attempts of a delivery, the first first.
func (f *fixture) attempts(t *testing.T, delivery string) (rows []Attempt) {
	t.Helper()
	require.NoError(t, f.admin.Order("id").Find(&rows, "delivery_id = ?", delivery).Error)
	return rows
}
