// Package api is the HTTP API: one file per resource, and what their handlers share.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/event"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/tenantcache"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

// Config is what the API needs. All fields but Seams are required.
type Config struct {
	DB      *gorm.DB // of the application's login, with the plugin
	Keys    *apikey.Keys
	KeysIn  func(*gorm.DB) (*apikey.Keys, error) // that it makes in a transaction
	Cursors *page.Cursors
	Events  event.Sink
	Log     *slog.Logger
	Seams   Seams
}

// Middleware is a middleware of net/http.
type Middleware = func(http.Handler) http.Handler

// Seams are where other packages take part in requests. Nil means that nothing is done there.
type Seams struct {
	// Observe is around all requests, also those that are refused: for traces and metrics.
	Observe Middleware
	// OnTenant gets the context of a request once it has its tenant, and returns the one to go on with: for traces and metrics.
	OnTenant func(ctx context.Context, tenant string) context.Context
	// OnEvent is told what was decided about the tenant of each request: for traces and metrics.
	OnEvent func(context.Context, tenanthttp.Event)
	// Limit is around requests that have a tenant and a caller, before the handler asks the database: for rate limits. It is also around the
	// public routes, whose requests have neither.
	Limit Middleware
	// Authorize is asked, after the scopes of the key, whether the caller of the context may do what the permission says, such as
	// "tasks:write". It returns ErrForbidden if not.
	Authorize func(ctx context.Context, permission string) error
	// SignedUp is called in the transaction of a sign-up, for the new tenant. The subject is that of its first key, "key:<id>".
	SignedUp func(tx *gorm.DB, subject string) error
	// Flag reports whether a feature is on for the tenant and the caller of the context. A nil Flag is on for all.
	Flag func(ctx context.Context, name string) bool
}

// API serves requests.
type API struct {
	Config
	huma      huma.API
	router    chi.Router
	summaries *tenantcache.Cache[Summary]
}

// New makes the API with the routes of the core. Other packages add theirs with Add before the first request.
func New(cfg Config) (*API, error) {
	if cfg.DB == nil || cfg.Keys == nil || cfg.KeysIn == nil || cfg.Cursors == nil || cfg.Events == nil || cfg.Log == nil {
		return nil, errors.New("api: Config lacks DB, Keys, KeysIn, Cursors, Events or Log")
	}
	summaries, err := tenantcache.New[Summary]("summary", tenantcache.Config{Life: SummaryAge, Tenants: 10_000})
	if err != nil {
		return nil, err
	}
	a := &API{Config: cfg, summaries: summaries}
	a.route()
	for _, routes := range []func(){a.signUp, a.projects, a.tasks, a.comments, a.attachments, a.labels, a.keys, a.members, a.audit, a.summary} {
		routes()
	}
	return a, nil
}

// Close ends what New has started.
func (a *API) Close() { a.summaries.Close() }

// DB is where the statements of a request go: the transaction of a request with an Idempotency-Key, or the database.
func (a *API) DB(ctx context.Context) *gorm.DB { return idempotency.DB(ctx, a.Config.DB) }

// Tx calls fn in a transaction of the context's tenant, which is the request's where it has one.
func (a *API) Tx(ctx context.Context, fn func(tx *gorm.DB) error) error {
	return a.DB(ctx).Transaction(fn)
}

// emit tells the sinks what has happened, in the transaction of the change.
func (a *API) emit(tx *gorm.DB, what string, payload any) error {
	return a.Events.Emit(tx, event.Event{
		ID: uuid.NewString(), Type: what, At: time.Now(), Actor: caller.From(tx.Statement.Context).Subject, Payload: payload,
	})
}

// OpenAPI is the description of all routes.
func (a *API) OpenAPI() *huma.OpenAPI { return a.huma.OpenAPI() }

// Scopes are all that a key can be given. A package that adds routes with another permission adds it here.
var Scopes = []string{
	"projects:read", "projects:write", "tasks:read", "tasks:write", "labels:read", "labels:write",
	"keys:read", "keys:write", "members:read", "members:write", "audit:read", "privacy:write",
	"webhooks:read", "webhooks:write", "flags:read", "flags:write", "roles:read", "roles:write",
}
