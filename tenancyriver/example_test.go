package tenancyriver_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tenancyriver"
)

type Order struct {
	ID       int64
	TenantID string
	Item     string
}

type Mail struct {
	Order int64 `json:"order"`
}

func (Mail) Kind() string { return "mail" }

var isolation = tenancyriver.Isolation{AppRole: "app", WorkerRole: "app_worker", AdminRole: "app_admin", Slots: 10}

// The order and its job are committed together, for the tenant of the context.
func ExampleInsertTx() {
	client, err := river.NewClient(riverdatabasesql.New(nil), &river.Config{Middleware: []rivertype.Middleware{tenancyriver.Insert()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = func(ctx context.Context, db *gorm.DB) error { // a handler: ctx has the tenant, db has the plugin
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			order := Order{Item: "book"}
			if err := tx.Create(&order).Error; err != nil {
				return err
			}
			_, err := tenancyriver.InsertTx(tx, client, Mail{Order: order.ID}, nil)
			return err
		})
	}
	// Output:
}

// Workers have a pool whose login is Isolation.WorkerRole, and read and write rows through the application's client.
func ExampleNewClient() {
	_ = func(ctx context.Context, pool *sql.DB, db *gorm.DB) error {
		jobs, err := tenancyriver.New(ctx, pool, tenancyriver.Config{Isolation: isolation})
		if err != nil {
			return err
		}
		workers := river.NewWorkers()
		river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[Mail]) error {
			var order Order
			return db.WithContext(ctx).First(&order, job.Args.Order).Error // the job's tenant's order, or none
		}))
		client, err := tenancyriver.NewClient(riverdatabasesql.New(pool), jobs, &river.Config{
			Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 20}},
			Workers: workers,
		})
		if err != nil {
			return err
		}
		if err := client.Start(ctx); err != nil { // and gives the tenants' jobs their turns, because the isolation has Slots
			return err
		}
		<-ctx.Done()
		return client.Stop(context.WithoutCancel(ctx))
	}
	// Output:
}
