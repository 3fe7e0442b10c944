package idempotency_test

import (
	"net/http"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

type Order struct {
	ID       int64
	TenantID string
	Item     string
}

// A handler works in the transaction of its request. The order and the record of the answer are committed together.
func Example() {
	var (
		db      *gorm.DB            // with the plugin, and the tables of Order and idempotency.Record
		resolve tenanthttp.Resolver // of the tenant
		member  func(r *http.Request, tenant string) (bool, error)
		user    func(*http.Request) string // the id of the user who is logged in
	)
	start := func() http.Handler {
		addOrder := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := idempotency.DB(r.Context(), db).Create(&Order{Item: r.FormValue("item")}).Error; err != nil {
				http.Error(w, "failed", http.StatusInternalServerError) // and nothing is stored
				return
			}
			w.WriteHeader(http.StatusCreated)
		})
		mux := http.NewServeMux()
		mux.Handle("POST /orders", idempotency.Middleware(idempotency.Config{DB: db, Sender: user})(addOrder))
		return tenanthttp.Middleware(resolve, tenanthttp.Authorize(member))(mux)
	}
	_ = start
	// Output:
}
