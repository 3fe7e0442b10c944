package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

// maxBody is the largest body of a request, in bytes.
const maxBody = 256 << 10

// route makes the router. What is around all requests is here; what is around those of a tenant is in chain.
func (a *API) route() {
	a.router = chi.NewRouter()
	a.router.Use(withRequestID, optional(a.Seams.Observe), a.recover)
	a.router.NotFound(func(w http.ResponseWriter, r *http.Request) { a.refuse(w, r, errNoRoute) })
	a.router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) { a.refuse(w, r, errNoMethod) })
	cfg := huma.DefaultConfig("Tasks", "1.0.0")
	cfg.CreateHooks = nil // they add a field $schema to every answer
	cfg.DocsPath = ""     // huma's page loads a script from another origin
	a.router.Get("/docs", a.docs)
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "apiKey", In: "header", Name: "X-API-Key"}}
	a.huma = huma.NewAPI(cfg, &adapter{Adapter: humachi.NewAdapter(a.router), router: a.router, chain: a.chain()})
}

// Handler serves all routes.
func (a *API) Handler() http.Handler { return a.router }

// chain returns what is around the handlers of a tenant, the outermost first: the key says whose request it is; then it may be too many; then
// the caller must be allowed to do this; then the request may be one that was answered before.
func (a *API) chain() func(Route, http.Handler) http.Handler {
	options := []tenanthttp.Option{
		tenanthttp.DangerouslyTrustResolver(), // a key is a proof
		tenanthttp.OnError(a.refuse),
		tenanthttp.OnTenant(a.onTenant),
	}
	if a.Seams.OnEvent != nil {
		options = append(options, tenanthttp.OnEvent(a.Seams.OnEvent))
	}
	tenant := tenanthttp.Middleware(a.Keys.Resolver(), options...)
	once := idempotency.Middleware(idempotency.Config{DB: a.Config.DB, Sender: sender, Optional: true, MaxBody: maxBody})
	limit := optional(a.Seams.Limit)
	return func(route Route, h http.Handler) http.Handler {
		if route.ShowsSecret {
			h = noStore(h)
		}
		if route.Permission == "" {
			return limit(h)
		}
		if !route.ShowsSecret {
			h = once(h)
		}
		return tenant(limit(a.authorize(route.Permission, h)))
	}
}

// adapter puts the chain around each operation when it is registered, so that none is without.
type adapter struct {
	huma.Adapter
	router chi.Router
	chain  func(Route, http.Handler) http.Handler
}

func (a *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(humachi.NewContext(op, r, w)) })
	if op.OperationID != "" { // huma's own, which show the documentation, have none
		route, ok := op.Metadata[routeKey].(Route)
		if !ok {
			panic("api: " + op.OperationID + " was not added with Add")
		}
		h = a.chain(route, h)
	}
	a.router.Method(op.Method, op.Path, h)
}

// noStore keeps an answer with a secret out of all caches.
func noStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func optional(m Middleware) Middleware {
	if m == nil {
		return func(next http.Handler) http.Handler { return next }
	}
	return m
}
