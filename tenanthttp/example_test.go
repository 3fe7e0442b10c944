package tenanthttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// ask sends a request to a handler and prints the answer.
func ask(handler http.Handler, url string, header ...string) {
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
}

// A handler finds the tenant in the request's context, where tenancy's statements find it too.
var orders = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	tenant, _ := tenancy.TenantFromContext(r.Context()) // db.WithContext(r.Context()).Find(&orders)
	fmt.Fprint(w, "orders of ", tenant)
})

// Tenants by subdomain, which a table of tenants maps to their ids. The pages are public, and so is who has one.
func ExampleSubdomain() {
	find := tenanthttp.FinderFunc(func(_ context.Context, slug string) (string, error) {
		if slug == "acme" { // db.WithContext(ctx).First(&tenant, "slug = ?", slug)
			return "17", nil
		}
		return "", tenanthttp.ErrUnknownTenant
	})
	handler := tenanthttp.Middleware(
		tenanthttp.Lookup(tenanthttp.Subdomain("example.com"), tenanthttp.NewCache(find, tenanthttp.CacheConfig{})),
		tenanthttp.DangerouslyTrustResolver(),
		tenanthttp.RevealTenants(),
	)(orders)

	ask(handler, "http://acme.example.com/")
	ask(handler, "http://globex.example.com/")
	// Output:
	// 200 orders of 17
	// 404 {"type":"about:blank","title":"Not Found","status":404,"detail":"There is no such tenant."}
}

// Anyone can write a header. What makes it safe is to ask who may act for the tenant that it names.
func ExampleAuthorize() {
	members := map[string]string{"ann": "acme"} // a table, in a real application
	handler := tenanthttp.Middleware(
		tenanthttp.Header("X-Tenant-ID"),
		tenanthttp.Authorize(func(r *http.Request, tenant string) (bool, error) {
			user, _, _ := r.BasicAuth() // that a middleware before this one has checked
			return members[user] == tenant, nil
		}),
	)(orders)

	ask(handler, "http://example.com/", "X-Tenant-ID", "acme", "Authorization", "Basic YW5uOg==")
	ask(handler, "http://example.com/", "X-Tenant-ID", "globex", "Authorization", "Basic YW5uOg==")
	ask(handler, "http://example.com/", "Authorization", "Basic YW5uOg==")
	// Output:
	// 200 orders of acme
	// 403 {"type":"about:blank","title":"Forbidden","status":403,"detail":"You may not act for this tenant."}
	// 400 {"type":"about:blank","title":"Bad Request","status":400,"detail":"The request does not name a valid tenant."}
}

// A service passes the tenant on to another one, signed.
func ExamplePropagator() {
	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: [][]byte{[]byte("a secret that both services share")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	billing := httptest.NewServer(nil) // the other service
	defer billing.Close()
	host := billing.Listener.Addr().String()
	billing.Config.Handler = tenanthttp.Middleware(propagator.Resolver(host), tenanthttp.DangerouslyTrustResolver())(orders)

	client := &http.Client{Transport: propagator.Transport(nil, host)}
	defer client.CloseIdleConnections()
	ctx := tenancy.WithTenant(context.Background(), "acme") // of the request that came in
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, billing.URL, nil)
	response, err := client.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
	// Output:
	// 200 OK
}

// exampleContext is the context of a program.
var exampleContext = context.Background()
