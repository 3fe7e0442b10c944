// Quickstart: two tenants in one table of one PostgreSQL database, and neither sees the other.
//
//	go run ./examples/quickstart
//
// It starts a PostgreSQL by itself, or uses the one that TENANCY_DSN names, and prints the requests to try.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// User is a tenant's: it has the column tenant_id.
type User struct {
	ID       int64  `json:"id"`
	TenantID string `json:"tenant" gorm:"not null"`
	Name     string `json:"name" gorm:"not null"`
}

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "localhost:8080", "address to serve on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string) (err error) {
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }() // and drop what was made
	database, err := server.NewDatabase(ctx)
	if err != nil {
		return err
	}
	if err = migrate(ctx, database); err != nil {
		return err
	}
	db, err := open(database.App.DSN)
	if err != nil {
		return err
	}
	defer closePool(db)
	return serve(ctx, addr, server.Source(), handler(db))
}

// migrate makes the schema as the owner of the tables: GORM's tables, and PostgreSQL's policies on them.
func migrate(ctx context.Context, database *pgserver.Database) error {
	db, err := gorm.Open(postgres.Open(database.Owner.DSN))
	if err != nil {
		return err
	}
	defer closePool(db)
	_, err = rls.Isolation{AppRole: database.App.Role}.Migrate(ctx, db, &User{})
	return err
}

// open connects as the application. This is all the set-up there is.
func open(dsn string) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.Open(dsn))
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
// for anyone can write a header.
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

// serve answers until ctx ends, then lets running requests finish.
func serve(ctx context.Context, addr, source string, h http.Handler) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf(`Serving on http://%[1]s with %[2]s. Try, in another terminal:

  curl -s -X POST http://%[1]s/users -H 'X-Tenant-Id: acme' -d '{"name":"Ann"}'
  curl -s -X POST http://%[1]s/users -H 'X-Tenant-Id: globex' -d '{"name":"Bob"}'
  curl -s http://%[1]s/users -H 'X-Tenant-Id: acme'
  curl -s http://%[1]s/users -H 'X-Tenant-Id: globex'
  curl -s http://%[1]s/users

Stop with Ctrl-C.
`, listener.Addr(), source)

	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return srv.Shutdown(grace)
	}
}

func problem(detail string) map[string]string { return map[string]string{"error": detail} }

func internalError(w http.ResponseWriter, err error) {
	log.Print(err)
	respond(w, http.StatusInternalServerError, problem("internal error"))
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil && !errors.Is(err, context.Canceled) {
		log.Print(err)
	}
}

func closePool(db *gorm.DB) {
	if pool, err := db.DB(); err == nil {
		_ = pool.Close()
	}
}
