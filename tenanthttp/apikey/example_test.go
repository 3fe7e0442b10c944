package apikey_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// A program sends a key, and its request gets the key's tenant.
func Example() {
	keys, err := apikey.New(apikey.Config{
		Prefix:      "shop",
		Environment: "live",
		Peppers:     []apikey.Pepper{{Version: 1, Secret: []byte("of the configuration, not of the database")}},
		Store:       newMemory(), // apikey.NewStore(db) in a real application
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := tenanthttp.Middleware(keys.Resolver(), tenanthttp.DangerouslyTrustResolver())( // a key is a proof
		tenanthttp.Require(apikey.RequireScope("orders:read"))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tenant, _ := tenancy.TenantFromContext(r.Context())
			fmt.Fprint(w, "orders of ", tenant)
		})))
	send := func(key string) {
		r := httptest.NewRequest(http.MethodGet, "/orders", nil)
		r.Header.Set("X-API-Key", key)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}

	ctx := tenancy.WithTenant(context.Background(), "acme")
	text, key, err := keys.Create(ctx, apikey.Options{Name: "exports", Scopes: []string{"orders:read"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	send(text)
	send("shop_live_guessed")
	if err := keys.Revoke(ctx, key.ID); err != nil {
		fmt.Println(err)
		return
	}
	send(text)
	if err := keys.Flush(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 200
	// 401
	// 401
}
