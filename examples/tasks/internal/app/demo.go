package app

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/demopage"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/webhooks"
)

// showDemo adds the page of the demo, with an endpoint for each of its tenants.
func (a *App) showDemo(ctx context.Context, cfg Config, hooks *webhooks.Service) (err error) {
	if !cfg.DangerouslyAllowLoopbackWebhooks {
		return errors.New("app: Config.DemoPage needs DangerouslyAllowLoopbackWebhooks, for the webhooks that it receives")
	}
	log := func(ctx context.Context, err error) {
		cfg.Log.ErrorContext(ctx, "demo page", "error", api.Describe(err))
	}
	a.page, err = demopage.New(a.db, log, demopage.Tenant{ID: "acme", Name: "Acme", Key: AcmeKey}, demopage.Tenant{ID: "globex", Name: "Globex", Key: GlobexKey})
	if err != nil {
		return err
	}
	for _, tenant := range []string{"acme", "globex"} {
		err := a.db.WithContext(tenancy.WithTenant(ctx, tenant)).Transaction(func(tx *gorm.DB) error {
			_, secret, err := hooks.Create(tx, webhooks.Settings{
				URL: a.page.Endpoint(tenant), Description: "The page at /", Types: []string{webhooks.AllTypes},
			})
			return errors.Join(err, a.page.Trust(tenant, secret))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
