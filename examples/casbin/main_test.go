package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/readme"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

func TestReadme(t *testing.T) {
	program := readme.Start(t)
	program.Check(t, "README.md")
	require.Contains(t, program.Said, "curl -s http://acme.localhost:")
}

func start(t *testing.T) (handler http.Handler, database *pgserver.Database) {
	t.Helper()
	database = pgserver.New(t)
	app, err := open(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, app.Close()) })
	return app.Handler, database
}

func send(handler http.Handler, method, host, path, body string) (status int, answer string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = host
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	said, _ := io.ReadAll(w.Result().Body)
	return w.Code, strings.TrimSpace(string(said))
}

// TestRulesOfTwoCompaniesAtOnce: two companies that add and replace rules at the same time have their own rules afterwards.
func TestRulesOfTwoCompaniesAtOnce(t *testing.T) {
	handler, _ := start(t)
	const replaced = `[{"user":"%[1]s","object":"everything","action":"read"}]`
	var wg sync.WaitGroup
	for _, company := range []string{"acme", "globex"} {
		host := company + ".localhost"
		wg.Go(func() {
			for i := range 10 {
				body := fmt.Sprintf(`{"user":%q,"object":"%d","action":"read"}`, company, i)
				if status, said := send(handler, http.MethodPost, host, "/rules", body); status != http.StatusCreated {
					t.Errorf("%s: %d %s", company, status, said)
				}
			}
			if _, said := send(handler, http.MethodGet, host, "/rules", ""); strings.Count(said, `"`+company+`"`) != 10 {
				t.Errorf("%s: %s", company, said)
			}
			if status, said := send(handler, http.MethodPut, host, "/rules", fmt.Sprintf(replaced, company)); status != http.StatusOK {
				t.Errorf("%s: %d %s", company, status, said)
			}
		})
	}
	wg.Wait()
	for _, company := range []string{"acme", "globex"} {
		_, said := send(handler, http.MethodGet, company+".localhost", "/rules", "")
		require.JSONEq(t, fmt.Sprintf(replaced, company), said)
	}
}

// TestBadRequests touches nothing, and makes no enforcer.
func TestBadRequests(t *testing.T) {
	handler, _ := start(t)
	for _, c := range []struct {
		method, host, path, body string
		status                   int
	}{
		{http.MethodGet, "initech.localhost", "/rules", "", http.StatusForbidden},
		{http.MethodGet, "localhost", "/rules", "", http.StatusBadRequest},
		{http.MethodPost, "acme.localhost", "/rules", `{"user":"ann"}`, http.StatusBadRequest},
		{http.MethodPost, "acme.localhost", "/rules", `{"user":"ann","object":"a","action":"b","tenant_id":"globex"}`, http.StatusBadRequest},
		{http.MethodPut, "acme.localhost", "/rules", `[{"user":"","object":"a","action":"b"}]`, http.StatusBadRequest},
	} {
		status, said := send(handler, c.method, c.host, c.path, c.body)
		require.Equal(t, c.status, status, "%s %s%s %s: %s", c.method, c.host, c.path, c.body, said)
	}
	_, said := send(handler, http.MethodGet, "acme.localhost", "/rules", "")
	require.Equal(t, "[]", said)
}

// TestEnforcerNeedsTenant: no enforcer is made for a request without a tenant.
func TestEnforcerNeedsTenant(t *testing.T) {
	_, database := start(t)
	db, err := demo.Connect(database.App.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, demo.Disconnect(db)) })
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	_, err = newEnforcer(t.Context(), db)
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
	_, err = (&enforcers{db: db}).of(t.Context())
	require.ErrorIs(t, err, tenancy.ErrNoTenant)
}

// TestMigrateAgain changes nothing, and finds nothing.
func TestMigrateAgain(t *testing.T) {
	database := pgserver.New(t)
	require.NoError(t, migrate(t.Context(), database))
	owner, err := demo.Connect(database.Owner.DSN)
	require.NoError(t, err)
	defer func() { require.NoError(t, demo.Disconnect(owner)) }()
	result, err := rls.Isolation{AppRole: database.App.Role}.Migrate(t.Context(), owner, &Rule{})
	require.NoError(t, err)
	require.Empty(t, result.Changes)
	require.Empty(t, result.Findings)
}
