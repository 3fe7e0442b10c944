package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/meter"
	"github.com/gormtenancy/tenancy/examples/internal/passwords"
	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// base is the domain below which each tenant has a subdomain.
const base = "localhost"

type config struct {
	log       *slog.Logger
	key       ed25519.PrivateKey
	passwords *passwords.Hasher
	txt       txtResolver
}

// api serves requests. All of them share one *gorm.DB.
type api struct {
	config
	db       *gorm.DB
	tokens   *tenanthttp.Tokens
	keys     *apikey.Keys
	cursors  *cursors
	attempts *limiter

	host     tenanthttp.Resolver // looks up the tenant of a request's host name
	byDomain *tenanthttp.Cache
}

func newAPI(ctx context.Context, database *pgserver.Database, cfg config) (*api, error) {
	a := &api{config: cfg, attempts: newLimiter()}
	var err error
	if a.cursors, err = newCursors(cfg.key); err != nil {
		return nil, err
	}
	a.tokens, err = tenanthttp.NewTokens(tenanthttp.TokenConfig{
		Algorithms: []string{"EdDSA"},
		Key:        func(context.Context, string, string) (any, error) { return cfg.key.Public(), nil },
		Issuer:     issuer,
		Audience:   audience,
	})
	if err != nil {
		return nil, err
	}
	if a.db, err = openDatabase(ctx, database, cfg.passwords); err != nil {
		return nil, err
	}
	if a.keys, err = newKeys(a.db, cfg); err != nil {
		return nil, err
	}
	a.byDomain = tenanthttp.NewCache(tenanthttp.FinderFunc(a.tenantByDomain), tenanthttp.CacheConfig{})
	bySlug := tenanthttp.NewCache(tenanthttp.FinderFunc(a.tenantBySlug), tenanthttp.CacheConfig{})
	a.host = tenanthttp.FirstOf(
		tenanthttp.Lookup(tenanthttp.Subdomain(base), bySlug),
		tenanthttp.Domain(a.byDomain),
	)
	return a, nil
}

// close waits for what is written in the background.
func (a *api) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(a.keys.Flush(ctx), demo.Disconnect(a.db))
}

// handler serves all routes. A request gets its tenant only if host name and token, or API key, name the same one, and the user
// of the token is a member now.
func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	admins := tenanthttp.Require(isAdmin)

	mux.Handle("POST /login", web.Handler(a.login))

	mux.Handle("GET /projects", web.Handler(a.listProjects))
	mux.Handle("POST /projects", web.Handler(a.addProject))
	mux.Handle("GET /projects/{id}", web.Handler(a.showProject))
	mux.Handle("PUT /projects/{id}", web.Handler(a.renameProject))
	mux.Handle("DELETE /projects/{id}", admins(web.Handler(a.deleteProject)))
	mux.Handle("POST /projects/{id}/restore", admins(web.Handler(a.restoreProject)))
	mux.Handle("POST /tasks", web.Handler(a.addTask))

	mux.Handle("GET /overview", web.Handler(a.overview))
	mux.Handle("GET /overview/n-plus-1", web.Handler(a.overviewSlowly))

	mux.Handle("DELETE /members/{email}", admins(web.Handler(a.removeMember)))
	mux.Handle("POST /keys", admins(web.Handler(a.addKey)))
	mux.Handle("DELETE /keys/{id}", admins(web.Handler(a.deleteKey)))
	mux.Handle("GET /domains", admins(web.Handler(a.listDomains)))
	mux.Handle("POST /domains", admins(web.Handler(a.claimDomain)))
	mux.Handle("POST /domains/{name}/verify", admins(web.Handler(a.verifyDomain)))
	mux.Handle("DELETE /domains/{name}", admins(web.Handler(a.dropDomain)))

	tenants := tenanthttp.Middleware(
		tenanthttp.CrossCheck(a.host, tenanthttp.FirstOf(a.keys.Resolver(), a.tokens.Claim("tenant"))),
		tenanthttp.Authorize(a.isMember),
		tenanthttp.Skip("POST /login"),
		tenanthttp.OnTenant(meter.Tenant),
	)
	return meter.Requests(a.log, mux)(withCaller(tenants(web.Routes(mux))))
}

func (a *api) tenantBySlug(ctx context.Context, slug string) (string, error) {
	var tenant Tenant
	err := a.db.WithContext(ctx).Where("slug = ?", slug).Take(&tenant).Error
	return tenant.ID, unknown(err)
}

func (a *api) tenantByDomain(ctx context.Context, name string) (string, error) {
	var domain Domain
	err := a.db.WithContext(ctx).Select("tenant_id").Where("name = ?", name).Take(&domain).Error
	return domain.TenantID, unknown(err)
}

// unknown translates the error of a lookup for tenanthttp.
func unknown(err error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return tenanthttp.ErrUnknownTenant
	}
	return err
}
