// Package routers shows tenanthttp with other routers than net/http's: chi, gin and echo. Each has a file of its own.
package routers

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// Owl belongs to a tenant.
type Owl struct {
	ID       int64
	TenantID string
	Name     string
}

// bySubdomain is for public routes. It may be used anywhere, because the host name is always known.
var bySubdomain = tenanthttp.Middleware(tenanthttp.Subdomain("localhost"), tenanthttp.DangerouslyTrustResolver())

// byPath must be inside of a route that has {tenant}: only there its value is known.
var byPath = tenanthttp.Middleware(tenanthttp.PathValue("tenant"), tenanthttp.Authorize(isMember))

// isMember stands for authentication.
func isMember(r *http.Request, tenant string) (bool, error) {
	return r.Header.Get("X-User") == "harry" && tenant == "hogwarts", nil
}

// routes are the same for all routers:
//
//	GET /owls              by subdomain
//	GET /t/{tenant}/owls   by path, members only
//	GET /forgotten         the same handler, and no middleware
type routes func(owls http.HandlerFunc) http.Handler

// TestRouters: each is net/http's equal.
func TestRouters(t *testing.T) {
	db := open(t)
	owls := func(w http.ResponseWriter, r *http.Request) {
		var names []string
		err := db.WithContext(r.Context()).Model(&Owl{}).Order("name").Pluck("name", &names).Error
		if errors.Is(err, tenancy.ErrNoTenant) {
			http.Error(w, "no tenant", http.StatusInternalServerError)
			return
		}
		if err != nil {
			http.Error(w, "failed", http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(names)
	}
	for name, router := range map[string]routes{"net/http": serveMux, "chi": chiRouter, "gin": ginEngine, "echo": echoServer} {
		t.Run(name, func(t *testing.T) {
			handler := router(owls)
			for _, c := range []struct {
				host, path, user string
				status           int
				body             string // if the handler has answered
			}{
				{"hogwarts.localhost", "/owls", "", http.StatusOK, `["Errol","Hedwig"]`},
				{"castelobruxo.localhost:8080", "/owls", "", http.StatusOK, `["Pluma"]`},
				{"durmstrang.localhost", "/owls", "", http.StatusOK, `[]`},
				{"localhost", "/owls", "", http.StatusBadRequest, ""},
				{"a.b.localhost", "/owls", "", http.StatusBadRequest, ""},
				{"localhost", "/t/hogwarts/owls", "harry", http.StatusOK, `["Errol","Hedwig"]`},
				{"castelobruxo.localhost", "/t/hogwarts/owls", "harry", http.StatusOK, `["Errol","Hedwig"]`},
				{"localhost", "/t/castelobruxo/owls", "harry", http.StatusForbidden, ""},
				{"localhost", "/t/hogwarts/owls", "", http.StatusForbidden, ""},
				{"localhost", "/t/nowhere/owls", "harry", http.StatusForbidden, ""},
				{"localhost", "/t/%27%20OR%20true--/owls", "harry", http.StatusBadRequest, ""},
				{"hogwarts.localhost", "/forgotten", "harry", http.StatusInternalServerError, "no tenant"},
			} {
				r := httptest.NewRequest(http.MethodGet, c.path, nil)
				r.Host = c.host
				r.Header.Set("X-User", c.user)
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				require.Equal(t, c.status, w.Code, "%s%s: %s", c.host, c.path, w.Body)
				if c.body != "" {
					require.Equal(t, c.body+"\n", w.Body.String(), "%s%s", c.host, c.path)
					continue
				}
				require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
				var problem struct{ Status int }
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem), "the middleware's answer, and nothing after it")
				require.Equal(t, c.status, problem.Status)
			}
		})
	}
}

func serveMux(owls http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /owls", bySubdomain(owls))
	mux.Handle("GET /t/{tenant}/owls", byPath(owls))
	mux.Handle("GET /forgotten", owls)
	return mux
}

func open(t *testing.T) *gorm.DB {
	t.Helper()
	d := pgserver.New(t)
	connect := func(dsn string) *gorm.DB {
		db, err := demo.Connect(dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, demo.Disconnect(db)) })
		return db
	}
	result, err := rls.Isolation{AppRole: d.App.Role}.Migrate(t.Context(), connect(d.Owner.DSN), &Owl{})
	require.NoError(t, err)
	require.Empty(t, result.Findings)
	db := connect(d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	for tenant, names := range map[string][]string{"hogwarts": {"Hedwig", "Errol"}, "castelobruxo": {"Pluma"}} {
		for _, name := range names {
			require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), tenant)).Create(&Owl{Name: name}).Error)
		}
	}
	return db
}
