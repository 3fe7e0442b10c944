package app

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"
)

func TestRequestWithoutKeyIsRefused(t *testing.T) {
	a := start(t)
	public := []string{"POST /v1/signup"}
	tried := 0
	for path, item := range a.api.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{
			"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete,
		} {
			if op == nil || slices.Contains(public, method+" "+path) {
				continue
			}
			tried++
			path := strings.NewReplacer("{id}", "00000000-0000-4000-8000-000000000000", "{label}", "00000000-0000-4000-8000-000000000000").Replace(path)
			for _, key := range []string{"", "x", AcmeKey[:len(AcmeKey)-1] + "x", strings.ToUpper(AcmeKey)} {
				client{t, a.Handler(), key}.want(http.StatusUnauthorized, method, path, nil)
			}
		}
	}
	require.Greater(t, tried, 20)
}

func TestErrorsAreProblems(t *testing.T) {
	a := start(t)
	acme, _ := clients(t, a)
	project := acme.project("p")
	for name, r := range map[string]struct {
		status             int
		method, path, body string
		headers            []string
	}{
		"no route":               {404, "GET", "/v2", "", nil},
		"no method":              {405, "PUT", "/v1/projects", "{}", nil},
		"no row":                 {404, "GET", "/v1/projects/00000000-0000-4000-8000-000000000000", "", nil},
		"no id":                  {422, "GET", "/v1/projects/1", "", nil},
		"no JSON":                {400, "POST", "/v1/projects", "{", nil},
		"empty":                  {400, "POST", "/v1/projects", "", nil},
		"wrong type":             {422, "POST", "/v1/projects", `{"name":1}`, nil},
		"unknown field":          {422, "POST", "/v1/projects", `{"name":"x","tenant_id":"globex"}`, nil},
		"too long":               {422, "POST", "/v1/projects", `{"name":"` + strings.Repeat("x", 101) + `"}`, nil},
		"too large":              {413, "POST", "/v1/projects", `{"name":"` + strings.Repeat("x", 300<<10) + `"}`, nil},
		"too large, once":        {413, "POST", "/v1/projects", `{"name":"` + strings.Repeat("x", 300<<10) + `"}`, []string{"Idempotency-Key", "1"}},
		"NUL":                    {422, "POST", "/v1/projects", `{"name":"a\u0000b"}`, nil},
		"NUL in a filter":        {422, "GET", "/v1/projects?filter=name:eq:%00", "", nil},
		"not UTF-8":              {422, "GET", "/v1/projects?filter=name:eq:%ff", "", nil},
		"wrong type of a filter": {422, "GET", "/v1/tasks?filter=due_at:lt:never", "", nil},
		"unknown filter":         {422, "GET", "/v1/tasks?filter=tenant_id:eq:globex", "", nil},
		"unknown operator":       {422, "GET", "/v1/tasks?filter=title:like:x", "", nil},
		"unknown sort":           {422, "GET", "/v1/tasks?sort=tenant_id", "", nil},
		"SQL in a sort":          {422, "GET", "/v1/tasks?sort=title;--", "", nil},
		"sort by a filter":       {422, "GET", "/v1/tasks?sort=project_id", "", nil},
		"forged cursor":          {422, "GET", "/v1/tasks?cursor=AAAA", "", nil},
		"limit":                  {422, "GET", "/v1/tasks?limit=101", "", nil},
		"page and cursor":        {422, "GET", "/v1/tasks?page=1&cursor=x", "", nil},
		"no version":             {428, "DELETE", "/v1/projects/" + project.id(), "", nil},
		"wrong version":          {412, "DELETE", "/v1/projects/" + project.id(), "", []string{"If-Match", `"7"`}},
		"no ETag":                {412, "DELETE", "/v1/projects/" + project.id(), "", []string{"If-Match", "*"}},
		"not deleted":            {404, "POST", "/v1/projects/" + project.id() + "/restore", "", nil},
		"project of no one":      {404, "POST", "/v1/tasks", `{"project_id":"00000000-0000-4000-8000-000000000000","title":"x"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := client{t, a.Handler(), AcmeKey}
			var body any
			if r.body != "" {
				body = r.body
			}
			got := c.want(r.status, r.method, r.path, body, r.headers...)
			require.NotContains(t, got.text, "SQLSTATE")
		})
	}
}

func TestKeysHaveScopes(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	made := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": "reader", "scopes": []string{"tasks:read", "keys:write"}})
	require.Equal(t, "no-store", made.header.Get("Cache-Control"))
	reader := client{t, a.Handler(), made.body["key"].(string)}
	reader.want(http.StatusForbidden, http.MethodGet, "/v1/tasks", nil) // it has no role yet
	acme.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:" + made.id(), "role": "admin"})
	reader.want(http.StatusOK, http.MethodGet, "/v1/tasks", nil)
	reader.want(http.StatusForbidden, http.MethodGet, "/v1/projects", nil)
	reader.want(http.StatusForbidden, http.MethodPost, "/v1/projects", object{"name": "x"})
	reader.want(http.StatusForbidden, http.MethodPost, "/v1/keys", object{"name": "more", "scopes": []string{"projects:write"}})
	require.NotContains(t, acme.want(http.StatusOK, http.MethodGet, "/v1/keys", nil).text, reader.key, "the text is shown once")
	require.Len(t, acme.names("/v1/keys", "id"), 2)

	require.NotContains(t, globex.names("/v1/keys", "id"), made.id())
	globex.want(http.StatusNotFound, http.MethodDelete, "/v1/keys/"+made.id(), nil)
	reader.want(http.StatusOK, http.MethodGet, "/v1/tasks", nil)
	acme.want(http.StatusNoContent, http.MethodDelete, "/v1/keys/"+made.id(), nil)
	reader.want(http.StatusUnauthorized, http.MethodGet, "/v1/tasks", nil)
}

// TestKeysAreNotKept: an Idempotency-Key does not have the text of an API key stored.
func TestKeysAreNotKept(t *testing.T) {
	a := start(t)
	acme, _ := clients(t, a)
	body := object{"name": "x", "scopes": []string{"tasks:read"}}
	first := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys", body, "Idempotency-Key", "k")
	second := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys", body, "Idempotency-Key", "k")
	require.NotEqual(t, first.body["key"], second.body["key"])
}

func TestSignUp(t *testing.T) {
	a := start(t)
	anyone := client{t, a.Handler(), ""}
	made := anyone.want(http.StatusCreated, http.MethodPost, "/v1/signup", object{"tenant": "initech", "name": "Initech"})
	require.Equal(t, "no-store", made.header.Get("Cache-Control"))
	initech := client{t, a.Handler(), made.body["key"].(object)["key"].(string)}
	require.Empty(t, initech.names("/v1/projects", "name"))
	initech.project("First project")
	anyone.want(http.StatusConflict, http.MethodPost, "/v1/signup", object{"tenant": "initech", "name": "Again"})
	anyone.want(http.StatusConflict, http.MethodPost, "/v1/signup", object{"tenant": "acme", "name": "Acme"})
	for _, tenant := range []string{"", "a", "A", "a b", "-a", "a\x00b", strings.Repeat("a", 40)} {
		anyone.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/signup", object{"tenant": tenant, "name": "x"})
	}
	audit := initech.want(http.StatusOK, http.MethodGet, "/v1/audit?filter=table:eq:api_keys&filter=operation:eq:INSERT", nil).items()
	require.Len(t, audit, 1)
	require.Equal(t, "sign-up", audit[0].(object)["actor"])
	require.Equal(t, "***", audit[0].(object)["after"].(object)["hash"])
}

func TestIdempotentRequests(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	body := object{"name": "once"}
	first := acme.want(http.StatusCreated, http.MethodPost, "/v1/projects", body, "Idempotency-Key", "k")
	again := acme.want(http.StatusCreated, http.MethodPost, "/v1/projects", body, "Idempotency-Key", "k")
	require.Equal(t, first.id(), again.id())
	require.Equal(t, "true", again.header.Get("Idempotent-Replayed"))
	acme.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/projects", object{"name": "other"}, "Idempotency-Key", "k")
	require.Equal(t, []string{"once"}, acme.names("/v1/projects?filter=name:eq:once", "name"))

	other := globex.want(http.StatusCreated, http.MethodPost, "/v1/projects", body, "Idempotency-Key", "k")
	require.NotEqual(t, first.id(), other.id(), "the keys of tenants are apart")
}

func TestChangesNeedTheVersion(t *testing.T) {
	a := start(t)
	acme, _ := clients(t, a)
	project := acme.project("a")
	path := "/v1/projects/" + project.id()
	etag := project.header.Get("ETag")
	changed := acme.want(http.StatusOK, http.MethodPatch, path, object{"name": "b"}, "If-Match", etag)
	acme.want(http.StatusPreconditionFailed, http.MethodPatch, path, object{"name": "c"}, "If-Match", etag)
	acme.want(http.StatusPreconditionFailed, http.MethodDelete, path, nil, "If-Match", etag)
	require.Equal(t, "b", acme.want(http.StatusOK, http.MethodGet, path, nil).body["name"])
	acme.want(http.StatusNoContent, http.MethodDelete, path, nil, "If-Match", changed.header.Get("ETag"))
	acme.want(http.StatusNotFound, http.MethodPatch, path, object{"name": "c"}, "If-Match", etag)
}
