package webhooks

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenancyriver"
)

// The environment of a child process that works, and is killed.
const (
	childEnv  = "WEBHOOKS_TEST_APP" // the application's DSN
	workerEnv = "WEBHOOKS_TEST_WORKER"
	rolesEnv  = "WEBHOOKS_TEST_ROLES"
)

// child works until it is killed, and writes a line when it has begun, and one for each job that has ended.
func child() error {
	var iso tenancyriver.Isolation
	if _, err := fmt.Sscan(os.Getenv(rolesEnv), &iso.AppRole, &iso.WorkerRole, &iso.AdminRole); err != nil {
		return err
	}
	db, err := connect(os.Getenv(childEnv))
	if err != nil {
		return err
	}
	if err := db.Use(tenancy.New(tenancy.Config{AdminRole: iso.AdminRole, Logger: quiet})); err != nil {
		return err
	}
	service, err := makeService(db, testConfig())
	if err != nil {
		return err
	}
	pool, err := sql.Open("pgx", os.Getenv(workerEnv))
	if err != nil {
		return err
	}
	client, err := newWorkers(context.Background(), pool, iso, service)
	if err != nil {
		return err
	}
	events, _ := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobSnoozed)
	if err := client.Start(context.Background()); err != nil {
		return err
	}
	for range events {
		_, _ = io.WriteString(os.Stdout, "ended\n")
	}
	return nil
}

// killed starts a worker in a process of its own, and kills it after some jobs, in the middle of others.
func (f *fixture) killed(t *testing.T, jobs int) {
	t.Helper()
	command := exec.Command(os.Args[0]) // it outlives no test: it is waited for
	command.Env = append(os.Environ(), childEnv+"="+f.database.App.DSN, workerEnv+"="+f.database.Worker.DSN,
		rolesEnv+"="+f.iso.AppRole+" "+f.iso.WorkerRole+" "+f.iso.AdminRole)
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

// owned are the events of each tenant that were committed.
type owned struct {
	mu     sync.Mutex
	events map[string]string // the tenant of an event's id
}

// TestWorkersThatAreKilledLoseNothing: every event is delivered at least once, to its tenant's endpoint and to no other.
func TestWorkersThatAreKilledLoseNothing(t *testing.T) {
	const kills, perKill, perTenant = 6, 12, 60
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	r.answer(func(w http.ResponseWriter, req *http.Request) {
		select { // so that workers are killed while they wait for an answer
		case <-time.After(5 * time.Millisecond):
		case <-req.Context().Done():
		}
	})
	tenants := []string{acme, globex, "initech"}
	secrets := map[string]string{}
	for _, tenant := range tenants {
		_, secrets[tenant] = f.endpoint(t, tenant, r.URL+"/"+tenant)
	}
	all := owned{events: map[string]string{}}
	var emitting sync.WaitGroup
	for _, tenant := range tenants {
		emitting.Go(func() {
			for range perTenant {
				e := newEvent("task.created", map[string]string{"of": tenant})
				if err := f.emitTx(tenant, e, nil); err != nil {
					t.Error(err)
					return
				}
				all.mu.Lock()
				all.events[e.ID] = tenant
				all.mu.Unlock()
			}
		})
	}
	for range kills {
		f.killed(t, perKill)
	}
	emitting.Wait()
	var interrupted int64
	require.NoError(t, f.admin.Raw("SELECT count(*) FROM river_job WHERE state = 'running'").Scan(&interrupted).Error)
	require.Positive(t, interrupted, "jobs that were in the middle")
	f.work(t)
	f.requireAllDelivered(t, all.events)
	requireOwn(t, r, all.events, secrets)
}

// requireAllDelivered waits until each event is delivered.
func (f *fixture) requireAllDelivered(t *testing.T, events map[string]string) {
	t.Helper()
	eventually(t, func() bool {
		var delivered int64
		require.NoError(t, f.admin.Model(&Delivery{}).Where("status = ?", Delivered).Count(&delivered).Error)
		return delivered == int64(len(events))
	}, "all are delivered")
}

// requireOwn checks that a receiver has got each event, at the address of its tenant, and signed for it, and none elsewhere.
func requireOwn(t *testing.T, r *receiver, events, secrets map[string]string) {
	t.Helper()
	got := map[string]int{}
	for _, request := range r.all() {
		tenant, ok := events[request.id]
		require.True(t, ok, "an event that was committed")
		require.Equal(t, "/"+tenant, request.path)
		require.NoError(t, request.verify(secrets[tenant]))
		require.Contains(t, string(request.body), `"of":"`+tenant+`"`)
		got[request.id]++
	}
	require.Len(t, got, len(events), "each at least once")
}

// TestReceiverThatIsDownLosesNothing: for 20 seconds nothing listens; then everything is delivered.
func TestReceiverThatIsDownLosesNothing(t *testing.T) {
	const down, perTenant = 20 * time.Second, 10
	config := testConfig()
	config.BreakAfter, config.BreakFor = 3, 500*time.Millisecond
	config.Schedule = []time.Duration{50 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second, 20 * time.Second, 20 * time.Second}
	f := newFixture(t, config)
	listener := newListener(t)
	tenants := []string{acme, globex}
	events, secrets := map[string]string{}, map[string]string{}
	for _, tenant := range tenants {
		_, secrets[tenant] = f.endpoint(t, tenant, "http://"+listener.addr+"/"+tenant)
	}
	f.work(t)
	began := time.Now()
	for range perTenant {
		for _, tenant := range tenants {
			events[f.emit(t, tenant, "task.created", map[string]string{"of": tenant})] = tenant
		}
	}
	eventually(t, func() bool { return time.Since(began) > down }, "20 seconds")
	var failed, delivered int64
	require.NoError(t, f.admin.Model(&Attempt{}).Where("error <> ''").Count(&failed).Error)
	require.NoError(t, f.admin.Model(&Delivery{}).Where("status <> ?", Pending).Count(&delivered).Error)
	require.Positive(t, failed)
	require.Zero(t, delivered, "none is dead, and none delivered")
	r := listener.serve(t)
	f.requireAllDelivered(t, events)
	requireOwn(t, r, events, secrets)
}
