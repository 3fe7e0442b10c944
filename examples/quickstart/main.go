// Quickstart: two tenants in one table of one PostgreSQL database. Neither sees the other's rows.
//
//	go run ./examples/quickstart
//
// It starts a PostgreSQL by itself, or uses the server that TENANCY_DSN names, and prints the requests to try.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"regexp"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// User belongs to a tenant: the table has the column tenant_id.
type User struct {
	ID       int64  `json:"id"`
	TenantID string `json:"tenant" gorm:"not null"`
	Name     string `json:"name" gorm:"not null"`
}

// main calls start with a new database, and serves what start returns until Ctrl-C.
func main() { demo.Main(start) }

func start(ctx context.Context, database *pgserver.Database) (demo.App, error) {
	if err := migrate(ctx, database); err != nil {
		return demo.App{}, err
	}
	db, err := open(database.App.DSN)
	if err != nil {
		return demo.App{}, err
	}
	return demo.App{Handler: handler(db), Close: func() error { return demo.Disconnect(db) }, Try: try}, nil
}

// migrate creates GORM's tables and PostgreSQL's policies on them. It connects as the owner of the tables.
func migrate(ctx context.Context, database *pgserver.Database) error {
	db, err := gorm.Open(postgres.Open(database.Owner.DSN))
	if err != nil {
		return err
	}
	defer func() { _ = demo.Disconnect(db) }()
	_, err = rls.Isolation{AppRole: database.App.Role}.Migrate(ctx, db, &User{})
	return err
}

// open connects as the application. The plugin is the whole setup.
func open(dsn string) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard}) // the default logger writes values
	if err != nil {
		return nil, err
	}
	return db, db.Use(tenancy.New(tenancy.Config{}))
}

// handler is ordinary GORM code: no query in it names a tenant.
func handler(db *gorm.DB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /users", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Name string }
		if json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&in) != nil || in.Name == "" {
			respond(w, http.StatusBadRequest, problem(`the body must be JSON like {"name":"Ann"}`))
			return
		}
		user := User{Name: in.Name}
		if err := db.WithContext(r.Context()).Create(&user).Error; err != nil {
			internalError(w, err)
			return
		}
		respond(w, http.StatusCreated, user)
	})
	mux.HandleFunc("GET /users", func(w http.ResponseWriter, r *http.Request) {
		users := []User{}
		if err := db.WithContext(r.Context()).Order("id").Find(&users).Error; err != nil {
			internalError(w, err)
			return
		}
		respond(w, http.StatusOK, users)
	})
	return tenantFromHeader(mux)
}

var validTenant = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// tenantFromHeader puts the tenant into the request's context. A real application takes it from a session or a token,
// because every client can write a header.
func tenantFromHeader(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ids := r.Header.Values("X-Tenant-Id")
		if len(ids) != 1 || !validTenant.MatchString(ids[0]) {
			respond(w, http.StatusBadRequest, problem("send one X-Tenant-Id header of lower-case letters, digits and hyphens"))
			return
		}
		next.ServeHTTP(w, r.WithContext(tenancy.WithTenant(r.Context(), ids[0])))
	})
}

func problem(detail string) map[string]string { return map[string]string{"error": detail} }

func internalError(w http.ResponseWriter, err error) {
	log.Print(web.Loggable(err))
	respond(w, http.StatusInternalServerError, problem("internal error"))
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil && !errors.Is(err, context.Canceled) {
		log.Print(err)
	}
}

const try = `
Try, in another terminal:

  curl -s -X POST http://localhost:PORT/users -H 'X-Tenant-Id: acme' -d '{"name":"Ann"}'
  curl -s -X POST http://localhost:PORT/users -H 'X-Tenant-Id: globex' -d '{"name":"Bob"}'
  curl -s http://localhost:PORT/users -H 'X-Tenant-Id: acme'
  curl -s http://localhost:PORT/users -H 'X-Tenant-Id: globex'
  curl -s http://localhost:PORT/users
`
