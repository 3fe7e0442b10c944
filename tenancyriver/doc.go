// Package tenancyriver runs jobs of River (https://riverqueue.com) for the tenants that have inserted them.
//
// A job carries its tenant in its metadata, which an insert middleware takes from the context. PostgreSQL binds it: a policy on river_job
// lets the application's role insert, see and change jobs of the current tenant only. So neither the arguments of a job nor SQL of a tenant
// choose for which tenant a job runs, and no key must be kept. Workers fetch jobs in a role of their own, and run each under
// tenancy.WithTenant.
//
//	iso := tenancyriver.Isolation{AppRole: "app", WorkerRole: "app_worker"}
//	err := iso.Migrate(ctx, owner) // a *sql.DB of the role that owns River's tables, after River's migrations
//
// The application inserts jobs in the transaction of its rows, so that there is a job if and only if there are the rows:
//
//	client, err := river.NewClient(riverdatabasesql.New(nil), &river.Config{Middleware: []rivertype.Middleware{tenancyriver.Insert()}})
//	err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
//		if err := tx.Create(&order).Error; err != nil {
//			return err
//		}
//		_, err := tenancyriver.InsertTx(tx, client, Mail{Order: order.ID}, nil)
//		return err
//	})
//
// Workers have a pool of their own, whose login is WorkerRole:
//
//	jobs, err := tenancyriver.New(ctx, pool, tenancyriver.Config{Isolation: iso})
//	client, err := tenancyriver.NewClient(riverdatabasesql.New(pool), jobs, &river.Config{Queues: …, Workers: …})
//	err = client.Start(ctx)
//
// What a worker does with rows goes through GORM and the context that it gets, as in a request.
package tenancyriver
