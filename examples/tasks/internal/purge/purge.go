// Package purge removes for good what was deleted long ago.
package purge

import (
	"context"
	"database/sql"
	"time"

	"github.com/riverqueue/river"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

// Keep is how long deleted rows can be restored.
const Keep = 30 * 24 * time.Hour

// Tenant is the job that purges one tenant.
type Tenant struct{}

// Kind names the job.
func (Tenant) Kind() string { return "purge_tenant" }

// All is the job that inserts a job for each tenant. It runs for no tenant.
type All struct{}

// Kind names the job.
func (All) Kind() string { return "purge_all" }

// Register adds the workers of both jobs. The pool is the workers'.
func Register(workers *river.Workers, db *gorm.DB, pool *sql.DB) {
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[Tenant]) error {
		return Rows(ctx, db, time.Now().Add(-Keep))
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[All]) error {
		return fanOut(ctx, db, pool)
	}))
}

// Periodic inserts All once a day.
func Periodic() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(24*time.Hour),
		func() (river.JobArgs, *river.InsertOpts) { return All{}, nil }, &river.PeriodicJobOpts{RunOnStart: true})
}

// Rows removes the rows of the context's tenant that were deleted before a time, with all that refers to them, and answers to requests that
// are remembered no longer.
func Rows(ctx context.Context, db *gorm.DB, before time.Time) error {
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		for _, m := range []any{&model.Project{}, &model.Task{}, &model.Comment{}, &model.Attachment{}, &model.Label{}} {
			if err := tx.Unscoped().Where("deleted_at < ?", before).Delete(m).Error; err != nil {
				return err
			}
		}
		_, err := idempotency.Cleanup(ctx, tx)
		return err
	})
}

func fanOut(ctx context.Context, db *gorm.DB, pool *sql.DB) error {
	var tenants []string
	err := tenancy.Bypass(db, "list the tenants to purge", tenancy.BypassReadOnly()).WithContext(ctx).Model(&model.Tenant{}).Pluck("id", &tenants).Error
	if err != nil {
		return err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	client := river.ClientFromContext[*sql.Tx](ctx)
	opts := river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: 24 * time.Hour}}
	if err := tenancyriver.FanOut(ctx, client, tx, tenants, Tenant{}, opts); err != nil {
		return err
	}
	return tx.Commit()
}
