package app

import (
	"github.com/gormtenancy/tenancy/examples/tasks/internal/webhooks"
)

// newWebhooks makes the service that delivers events to tenants' endpoints. The key of their secrets ends with Config.Secret: endpoints
// then need new secrets.
func (a *App) newWebhooks(cfg Config) (*webhooks.Service, error) {
	jobs, err := inserter()
	if err != nil {
		return nil, err
	}
	hooks := cfg.hooks
	hooks.Keys, hooks.Logger, hooks.DangerouslyAllowLoopback = [][]byte{a.derive("secrets of webhooks")}, cfg.Log, cfg.DangerouslyAllowLoopbackWebhooks
	return webhooks.New(a.db, jobs, hooks)
}
