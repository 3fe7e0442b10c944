package app

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of the workers' pool
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/purge"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/webhooks"
	"github.com/gormtenancy/tenancy/tenancyriver"
)

// workers work jobs, each for the tenant that has inserted it.
type workers struct {
	pool   *sql.DB
	client *tenancyriver.Client[*sql.Tx]
}

// startWorkers connects as the workers' login, which sees jobs alone. What a job does with rows goes through db.
func startWorkers(ctx context.Context, cfg Config, db *gorm.DB, hooks *webhooks.Service) (_ *workers, err error) {
	w := &workers{}
	if w.pool, err = sql.Open("pgx", cfg.Worker.DSN); err != nil {
		return nil, err
	}
	w.pool.SetMaxOpenConns(4)
	jobs, err := tenancyriver.New(ctx, w.pool, tenancyriver.Config{
		Isolation: jobIsolation(cfg), Logger: cfg.Log, WithoutTenant: []string{purge.All{}.Kind()},
	})
	if err != nil {
		return w, err
	}
	bundle := river.NewWorkers()
	purge.Register(bundle, db, w.pool)
	hooks.AddWorkers(bundle)
	w.client, err = tenancyriver.NewClient(riverdatabasesql.New(w.pool), jobs, &river.Config{
		Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}, webhooks.Queue: {MaxWorkers: 8}},
		Workers:      bundle,
		PeriodicJobs: []*river.PeriodicJob{purge.Periodic()},
		Logger:       cfg.Log,
		Middleware:   []rivertype.Middleware{cfg.telemetry.Jobs()}, // within that of the tenants
		// How soon the jobs of a process that was killed are worked again. It is longer than any job takes.
		RescueStuckJobsAfter: cmp.Or(cfg.rescue, 2*time.Minute),
		JobTimeout:           cmp.Or(cfg.rescue, river.JobTimeoutDefault),
	})
	if err != nil {
		return w, err
	}
	return w, w.client.Start(context.WithoutCancel(ctx)) // its periodic jobs are for no tenant: they fan out to all
}

// inserter returns a client that inserts jobs in transactions of the API.
func inserter() (*river.Client[*sql.Tx], error) {
	return river.NewClient(riverdatabasesql.New(nil), &river.Config{Middleware: []rivertype.Middleware{tenancyriver.Insert()}})
}

// stop waits for the jobs that are being worked, until ctx ends.
func (w *workers) stop(ctx context.Context) (err error) {
	if w == nil {
		return nil
	}
	if w.client != nil {
		err = w.client.Stop(ctx)
	}
	return errors.Join(err, w.pool.Close())
}
