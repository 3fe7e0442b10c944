package jobs

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// The environment of a child process that works, and is killed.
const (
	appEnv    = "TENANCY_JOBS_APP" // the application's DSN
	workerEnv = "TENANCY_JOBS_WORKER"
	rolesEnv  = "TENANCY_JOBS_ROLES"
	keyEnv    = "TENANCY_JOBS_KEY" // the secret of the signing key, in hexadecimal; empty without one
)

// workers is how many jobs a process works on at a time.
const workers = 4

// send sends a mail: the row and the end of its job are committed together.
func send(ctx context.Context, db *gorm.DB, job *river.Job[Mail]) error {
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		result := tx.Model(&Order{}).Where("id = ?", job.Args.Order).Update("sent", gorm.Expr("sent + 1"))
		if result.Error == nil && result.RowsAffected != 1 {
			return errors.New("the order is not one of the job's tenant")
		}
		if result.Error != nil {
			return result.Error
		}
		_, err := river.JobCompleteTx[*riverdatabasesql.Driver](ctx, tx.Statement.ConnPool.(*sql.Tx), job)
		return err
	})
}

// senders works on mails, and calls done after each.
func senders(pool *sql.DB, db *gorm.DB, jobs *tenancyriver.Jobs, done func()) (*tenancyriver.Client[*sql.Tx], error) {
	bundle := river.NewWorkers()
	river.AddWorker(bundle, river.WorkFunc(func(ctx context.Context, job *river.Job[Mail]) error {
		err := send(ctx, db, job)
		done()
		return err
	}))
	return tenancyriver.NewClient(riverdatabasesql.New(pool), jobs, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}}, Workers: bundle, Logger: testdb.Quiet,
		FetchCooldown: time.Millisecond, FetchPollInterval: 5 * time.Millisecond,
		JobTimeout: 2 * time.Second, RescueStuckJobsAfter: 2 * time.Second, RetryPolicy: atOnce{},
	})
}

// child works until it is killed, and writes a line for each job that is done.
func child() error {
	var iso tenancyriver.Isolation
	if _, err := fmt.Sscan(os.Getenv(rolesEnv), &iso.AppRole, &iso.WorkerRole, &iso.AdminRole, &iso.Slots); err != nil {
		return err
	}
	pool, err := sql.Open("pgx", os.Getenv(workerEnv))
	if err != nil {
		return err
	}
	db, err := gorm.Open(postgres.Open(os.Getenv(appEnv)), &gorm.Config{})
	if err != nil {
		return err
	}
	cfg := tenancy.Config{Logger: testdb.Quiet}
	if secret, err := hex.DecodeString(os.Getenv(keyEnv)); err != nil {
		return err
	} else if len(secret) > 0 {
		key, err := tenancy.NewSigningKey(testdb.FirstKey, secret, time.Time{})
		if err != nil {
			return err
		}
		cfg.SigningKeys, iso.Signed = tenancy.FixedSigningKeys(key), true
	}
	if err := db.Use(tenancy.New(cfg)); err != nil {
		return err
	}
	jobs, err := tenancyriver.New(context.Background(), pool, tenancyriver.Config{Isolation: iso, Logger: testdb.Quiet})
	if err != nil {
		return err
	}
	client, err := senders(pool, db, jobs, func() { fmt.Println("done") }) //nolint:forbidigo // it is what the test reads
	if err != nil {
		return err
	}
	if err := client.Start(context.Background()); err != nil {
		return err
	}
	select {}
}

// TestWorkersThatAreKilledLoseNothing: 20 times, in the middle of jobs, while more are inserted. Signed databases have the tenant in their keys.
func TestWorkersThatAreKilledLoseNothing(t *testing.T) {
	testdb.InBothForms(t, func(t *testing.T) {
		newDatabase := testdb.New
		if testdb.InSignedForm(t) {
			newDatabase = testdb.NewTenantKeys
		}
		testWorkersThatAreKilled(t, newDatabase(t, &Order{}))
	})
}

func testWorkersThatAreKilled(t *testing.T, d *testdb.Database) {
	const kills, perKill = 20, 8
	q := newQueueOf(t, d, kills*workers) // a worker that is killed keeps its slots until its jobs are rescued
	tenants := []string{testdb.Acme, testdb.Globex, "initech"}
	stop := make(chan struct{})
	var inserting sync.WaitGroup
	for _, tenant := range tenants {
		inserting.Go(func() { q.insertOrders(t, tenant, stop, kills*perKill) })
	}
	for range kills {
		q.workAndKill(t, perKill)
	}
	close(stop)
	inserting.Wait()

	var interrupted int64
	require.NoError(t, q.AdminDB.Raw("SELECT count(*) FROM river_job WHERE state = 'running'").Scan(&interrupted).Error)
	require.Positive(t, interrupted, "jobs that were in the middle")
	done := make(chan struct{}, 1)
	client, err := senders(q.pool, q.db, q.jobs(t, nil), func() {
		select {
		case done <- struct{}{}:
		default:
		}
	})
	require.NoError(t, err)
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))
	defer func() { require.NoError(t, client.StopAndCancel(context.Background())) }()
	for q.unfinished(t) > 0 {
		<-done
	}
	q.requireAgreement(t, tenants)
}

// insertOrders inserts orders with their jobs until told to stop, and at least n; each third is rolled back.
func (q *queue) insertOrders(t *testing.T, tenant string, stop <-chan struct{}, n int) {
	undone := errors.New("undone")
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		if i >= 3*n { // enough for the workers
			<-stop
			return
		}
		err := q.db.WithContext(testdb.As(tenant)).Transaction(func(tx *gorm.DB) error {
			order := Order{Item: tenant}
			if err := tx.Create(&order).Error; err != nil {
				return err
			}
			if _, err := tenancyriver.InsertTx(tx, q.client, Mail{Order: order.ID}, nil); err != nil {
				return err
			}
			if i%3 == 2 {
				return undone
			}
			return nil
		})
		if err != nil && !errors.Is(err, undone) {
			t.Error(err)
			return
		}
	}
}

// workAndKill starts a worker, and kills it when it has done some jobs.
func (q *queue) workAndKill(t *testing.T, jobs int) {
	t.Helper()
	command := exec.Command(os.Args[0]) // a child outlives no test: it is waited for
	command.Env = append(os.Environ(), appEnv+"="+q.App.DSN, workerEnv+"="+testdb.WithLogin(q.App.DSN, q.iso.WorkerRole, q.iso.WorkerRole),
		rolesEnv+"="+fmt.Sprint(q.iso.AppRole, " ", q.iso.WorkerRole, " ", q.iso.AdminRole, " ", q.iso.Slots))
	if q.Signed() {
		command.Env = append(command.Env, keyEnv+"="+hex.EncodeToString(testdb.FirstSecret()))
	}
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewScanner(out)
	for range jobs {
		if !lines.Scan() {
			break
		}
	}
	require.NoError(t, command.Process.Kill())
	var exit *exec.ExitError
	require.ErrorAs(t, command.Wait(), &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
}

func (q *queue) unfinished(t *testing.T) (n int64) {
	t.Helper()
	require.NoError(t, q.AdminDB.Raw("SELECT count(*) FROM river_job WHERE state <> 'completed'").Scan(&n).Error)
	return n
}

// requireAgreement: each order has one job, of its tenant, and was sent once.
func (q *queue) requireAgreement(t *testing.T, tenants []string) {
	t.Helper()
	var rows []struct{ Tenant, Job, Item string }
	require.NoError(t, q.AdminDB.Raw(`SELECT o.tenant_id AS tenant, j.tenant_id AS job, o.item FROM orders o
		FULL JOIN river_job j ON (j.args->>'order')::bigint = o.id
		WHERE o.sent IS DISTINCT FROM 1 OR o.tenant_id IS DISTINCT FROM j.tenant_id OR o.item IS DISTINCT FROM o.tenant_id`).Scan(&rows).Error)
	require.Empty(t, rows, "orders and jobs that do not agree")
	var counts []struct {
		Tenant       string
		Orders, Jobs int64
	}
	require.NoError(t, q.AdminDB.Raw(`SELECT o.tenant_id AS tenant, count(DISTINCT o.id) AS orders, count(*) AS jobs FROM orders o
		JOIN river_job j ON (j.args->>'order')::bigint = o.id GROUP BY 1 ORDER BY 1`).Scan(&counts).Error)
	require.Len(t, counts, len(tenants))
	for _, c := range counts {
		require.Equal(t, c.Orders, c.Jobs, c.Tenant)
		require.Positive(t, c.Jobs)
	}
}
