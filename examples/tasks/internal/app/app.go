// Package app makes the application of its parts: the database, the API, and the workers.
package app

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/demopage"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/event"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/limit"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/privacy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/telemetry"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/webhooks"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// Config is what the application needs to start.
type Config struct {
	Owner  Login  // owns the database; migrates, and exports and erases what is held of a person
	App    Login  // the API, and what workers do with rows
	Worker Login  // fetches jobs, and sees no other table
	Admin  string // the role of tenancy.Bypass
	Lookup string // the role that finds the tenant of a key
	Log    *slog.Logger
	// Secret is 32 random bytes or more, from which the secrets of API keys and cursors are made. Nil means a new one: keys and cursors
	// then end with the process.
	Secret []byte
	// Limits are how many requests a tenant, a caller and an address may send. A rate that is zero is the default.
	Limits limit.Config
	// Telemetry says where traces and metrics go. The zero value asks the environment.
	Telemetry telemetry.Config
	// Demo makes the tenants acme and globex, with keys that everyone knows.
	Demo bool
	// DangerouslyAllowLoopbackWebhooks lets tenants register endpoints on this machine, so that they can send requests to what listens here.
	DangerouslyAllowLoopbackWebhooks bool
	// DemoPage serves a page at / that shows what happens to a task. It shows the
	// tenants of Demo, with their keys, and needs DangerouslyAllowLoopbackWebhooks.
	DemoPage bool
	// Sinks get the events of all tenants, after those of the application itself.
	Sinks event.Sinks

	telemetry *telemetry.Telemetry // as Start has started it

	// In tests:
	open   func(context.Context, Config) (*gorm.DB, error) // to show what the plugin is good for
	hooks  webhooks.Config                                 // to deliver again sooner
	rescue time.Duration                                   // to work the jobs of a process that was killed sooner; and no job takes longer
}

// Login is a role, and the way to connect as it.
type Login struct{ Role, DSN string }

// App is the running application.
type App struct {
	api     *api.API
	db      *gorm.DB
	keys    *apikey.Keys
	workers *workers
	secret  []byte
	privacy *privacy.Service
	page    *demopage.Page // nil without Config.DemoPage
	features
}

// Start migrates, and starts the API and the workers. The context bounds the start alone.
func Start(ctx context.Context, cfg Config) (_ *App, err error) {
	cfg.Log = slog.New(tenanthttp.LogHandler(cfg.Log.Handler()))
	a := &App{secret: cfg.Secret}
	switch {
	case a.secret == nil:
		a.secret = make([]byte, 32)
		_, _ = rand.Read(a.secret) // never fails
	case len(a.secret) < 32:
		return nil, errors.New("app: Config.Secret must have 32 random bytes or more")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.telemetry, err = telemetry.Start(ctx, cfg.Telemetry); err != nil {
		return nil, err
	}
	cfg.telemetry = a.telemetry
	if err := migrate(ctx, cfg); err != nil {
		return nil, err
	}
	if cfg.open == nil {
		cfg.open = open
	}
	if a.db, err = cfg.open(ctx, cfg); err != nil {
		return nil, err
	}
	if a.keys, err = a.keysIn(a.db); err != nil {
		return nil, err
	}
	if err := a.features.start(cfg, a.db); err != nil {
		return nil, err
	}
	if cfg.Demo {
		if err := a.seed(ctx); err != nil {
			return nil, err
		}
	}
	hooks, err := a.newWebhooks(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.DemoPage {
		if err := a.showDemo(ctx, cfg, hooks); err != nil {
			return nil, err
		}
	}
	events := append(event.Sinks{hooks}, cfg.Sinks...)
	cursors, err := page.NewCursors(a.derive("cursors"))
	if err != nil {
		return nil, err
	}
	a.api, err = api.New(api.Config{
		DB: a.db, Keys: a.keys, KeysIn: a.keysIn, Cursors: cursors, Events: events, Log: cfg.Log, Seams: a.seams(),
	})
	if err != nil {
		return nil, err
	}
	a.routes(a.api)
	a.privacy, err = privacy.New(privacy.Config{DB: a.db, OwnerDSN: cfg.Owner.DSN, Isolation: isolation(cfg), Roles: a.roles, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	a.privacy.Routes(a.api)
	hooks.AddRoutes(a.api)
	a.workers, err = startWorkers(ctx, cfg, a.db, hooks)
	return a, err
}

// keysIn returns the keys in a database or a transaction.
func (a *App) keysIn(db *gorm.DB) (*apikey.Keys, error) {
	return apikey.New(apikey.Config{
		Prefix: "tasks", Environment: "demo", Store: apikey.NewStore(db),
		Peppers: []apikey.Pepper{{Version: 1, Secret: a.derive("API keys")}},
	})
}

// Handler serves the API, and the page of the demo.
func (a *App) Handler() http.Handler {
	if a.page == nil {
		return a.api.Handler()
	}
	return a.page.Handler(a.api.Handler())
}

// Close stops the workers, after the jobs that they are at, and closes all connections. Call it after the last request.
func (a *App) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := a.workers.stop(ctx)
	if a.api != nil {
		a.api.Close()
	}
	if a.keys != nil {
		err = errors.Join(err, a.keys.Flush(ctx))
	}
	return errors.Join(err, a.page.Close(), a.privacy.Close(), a.features.close(ctx), disconnect(a.db))
}

// derive makes a secret for one purpose.
func (a *App) derive(purpose string) []byte {
	secret, err := hkdf.Key(sha256.New, a.secret, nil, purpose, 32)
	if err != nil {
		panic(err) // only for a length that is too large
	}
	return secret
}
