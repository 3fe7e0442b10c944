package app

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// attacks are what globex tries with what acme has. Each makes its own rows, and reports whether it got through.
var attacks = map[string]func(acme, globex client) bool{
	"get a project": func(acme, globex client) bool { return reads(globex, "/v1/projects/"+acme.project(fresh()).id()) },
	"get a task": func(acme, globex client) bool {
		return reads(globex, "/v1/tasks/"+acme.task(acme.project(fresh()), "t").id())
	},
	"list comments": func(acme, globex client) bool {
		task := acme.task(acme.project(fresh()), "t")
		acme.comment(task, "c")
		return reads(globex, "/v1/tasks/"+task.id()+"/comments")
	},
	"list attachments": func(acme, globex client) bool {
		task := acme.task(acme.project(fresh()), "t")
		acme.attachment(task, "a")
		return reads(globex, "/v1/tasks/"+task.id()+"/attachments")
	},
	"list projects": func(acme, globex client) bool {
		project := acme.project(fresh())
		return slices.Contains(globex.names("/v1/projects?sort=-created_at", "id"), project.id())
	},
	"list tasks by filter": func(acme, globex client) bool {
		project := acme.project(fresh())
		acme.task(project, "t")
		return len(globex.names("/v1/tasks?filter="+url.QueryEscape("project_id:eq:"+project.id()), "id")) > 0
	},
	"count tasks": func(acme, globex client) bool {
		project := acme.project(fresh())
		acme.task(project, "t")
		page := globex.want(http.StatusOK, http.MethodGet, "/v1/tasks?page=1&filter="+url.QueryEscape("project_id:eq:"+project.id()), nil)
		return page.body["total"] != 0.0
	},
	"list labels": func(acme, globex client) bool {
		name := fresh()
		acme.label(name)
		return len(globex.names("/v1/labels?filter="+url.QueryEscape("name:eq:"+name), "id")) > 0
	},
	"list keys": func(acme, globex client) bool {
		key := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": "x", "scopes": []string{"tasks:read"}})
		return slices.Contains(globex.names("/v1/keys?sort=-created_at", "id"), key.id())
	},
	"list changes": func(acme, globex client) bool {
		name := fresh()
		acme.project(name)
		return strings.Contains(globex.want(http.StatusOK, http.MethodGet, "/v1/audit", nil).text, name)
	},
	"change a project": func(acme, globex client) bool {
		return writes(globex, http.MethodPatch, "/v1/projects/"+acme.project(fresh()).id(), object{"name": fresh()})
	},
	"change a task": func(acme, globex client) bool {
		return writes(globex, http.MethodPatch, "/v1/tasks/"+acme.task(acme.project(fresh()), "t").id(), object{"status": "done"})
	},
	"change a comment": func(acme, globex client) bool {
		comment := acme.comment(acme.task(acme.project(fresh()), "t"), "c")
		return writes(globex, http.MethodPatch, "/v1/comments/"+comment.id(), object{"text": "x"})
	},
	"delete a project": func(acme, globex client) bool {
		return writes(globex, http.MethodDelete, "/v1/projects/"+acme.project(fresh()).id(), nil)
	},
	"delete a task": func(acme, globex client) bool {
		return writes(globex, http.MethodDelete, "/v1/tasks/"+acme.task(acme.project(fresh()), "t").id(), nil)
	},
	"delete a comment": func(acme, globex client) bool {
		comment := acme.comment(acme.task(acme.project(fresh()), "t"), "c")
		return writes(globex, http.MethodDelete, "/v1/comments/"+comment.id(), nil)
	},
	"delete an attachment": func(acme, globex client) bool {
		attachment := acme.attachment(acme.task(acme.project(fresh()), "t"), "a")
		return writes(globex, http.MethodDelete, "/v1/attachments/"+attachment.id(), nil)
	},
	"delete a label": func(acme, globex client) bool {
		return writes(globex, http.MethodDelete, "/v1/labels/"+acme.label(fresh()).id(), nil)
	},
	"revoke a key": func(acme, globex client) bool {
		key := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": "x", "scopes": []string{"tasks:read"}})
		return writes(globex, http.MethodDelete, "/v1/keys/"+key.id(), nil)
	},
	"restore a project": func(acme, globex client) bool { return restores(acme, globex, "projects", acme.project(fresh())) },
	"restore a task": func(acme, globex client) bool {
		return restores(acme, globex, "tasks", acme.task(acme.project(fresh()), "t"))
	},
	"restore a comment": func(acme, globex client) bool {
		return restores(acme, globex, "comments", acme.comment(acme.task(acme.project(fresh()), "t"), "c"))
	},
	"restore a label": func(acme, globex client) bool { return restores(acme, globex, "labels", acme.label(fresh())) },
	"put a task into a project": func(acme, globex client) bool {
		return writes(globex, http.MethodPost, "/v1/tasks", object{"project_id": acme.project(fresh()).id(), "title": "t"})
	},
	"comment on a task": func(acme, globex client) bool {
		return writes(globex, http.MethodPost, "/v1/tasks/"+acme.task(acme.project(fresh()), "t").id()+"/comments", object{"text": "x"})
	},
	"put a label on a task": func(acme, globex client) bool {
		return writes(globex, http.MethodPut, "/v1/tasks/"+acme.task(acme.project(fresh()), "t").id()+"/labels/"+globex.label(fresh()).id(), nil)
	},
	"put a foreign label on a task": func(acme, globex client) bool {
		task := globex.task(globex.project(fresh()), "t")
		return writes(globex, http.MethodPut, "/v1/tasks/"+task.id()+"/labels/"+acme.label(fresh()).id(), nil)
	},
}

// otherwise are attacks that something else than policies keeps out: they fail without them, too.
var otherwise = map[string]func(acme, globex client) bool{
	// The unique index has the tenant.
	"learn that a name is taken": func(acme, globex client) bool {
		name := fresh()
		acme.project(name)
		return globex.do(http.MethodPost, "/v1/projects", object{"name": name}).status != http.StatusCreated
	},
	// A cursor is bound to its tenant.
	"use a cursor": func(acme, globex client) bool {
		acme.project(fresh())
		acme.project(fresh())
		next := acme.want(http.StatusOK, http.MethodGet, "/v1/projects?limit=1", nil).body["next"].(string)
		return globex.do(http.MethodGet, "/v1/projects?limit=1&cursor="+next, nil).status == http.StatusOK
	},
	// The record of an answer has the tenant in its primary key.
	"replay a request": func(acme, globex client) bool {
		key, body := fresh(), object{"name": fresh()}
		acme.want(http.StatusCreated, http.MethodPost, "/v1/projects", body, "Idempotency-Key", key)
		return globex.do(http.MethodPost, "/v1/projects", body, "Idempotency-Key", key).header.Get("Idempotent-Replayed") != ""
	},
	// No route takes a tenant from the request.
	"name the other tenant": func(acme, globex client) bool {
		id := acme.project(fresh()).id()
		for _, header := range []string{"X-Tenant-Id", "X-Tenant", "Tenant", "X-Tenant-Token", "Cookie"} {
			if globex.do(http.MethodGet, "/v1/projects/"+id, nil, header, "acme").status == http.StatusOK {
				return true
			}
		}
		return globex.do(http.MethodGet, "/v1/projects/"+id+"?tenant=acme&tenant_id=acme", nil).status == http.StatusOK
	},
}

// fresh returns a name that no row has.
func fresh() string { return fmt.Sprint("n", made.Add(1)) }

var made atomic.Int64

// reads, writes and restores report whether a client gets at what is another's.
func reads(c client, path string) bool {
	c.t.Helper()
	return through(c, c.do(http.MethodGet, path, nil))
}

func writes(c client, method, path string, body any) bool {
	c.t.Helper()
	return through(c, c.do(method, path, body, "If-Match", `"1"`))
}

func restores(owner, c client, kind string, row answer) bool {
	c.t.Helper()
	owner.remove(kind, row.id())
	return through(c, c.do(http.MethodPost, "/v1/"+kind+"/"+row.id()+"/restore", nil))
}

// through reports whether a request had an effect, or its refusal says more than that of what does not exist.
func through(c client, got answer) bool {
	c.t.Helper()
	nothing := c.want(http.StatusNotFound, http.MethodGet, "/v1/tasks/00000000-0000-4000-8000-000000000000", nil)
	return got.status != nothing.status || got.text != nothing.text
}

func TestTenantsAreApart(t *testing.T) {
	acme, globex := clients(t, start(t))
	for name, attack := range attacks {
		require.False(t, attack(acme, globex), name)
	}
	for name, attack := range otherwise {
		require.False(t, attack(acme, globex), name)
	}
}

// TestTenantsAreNotApartWithoutPolicies: each attack gets through where neither policies bind nor the plugin adds its condition, so that
// TestTenantsAreApart shows what they are good for.
func TestTenantsAreNotApartWithoutPolicies(t *testing.T) {
	d, cfg := configure(t)
	run(t, cfg)
	cfg.Demo, cfg.open = false, withoutPolicies(t, d)
	acme, globex := clients(t, run(t, cfg))
	for _, name := range slices.Sorted(maps.Keys(attacks)) {
		require.True(t, attacks[name](acme, globex), name)
	}
}

// withoutPolicies logs in as a superuser, which no policy binds, and has the plugin trust that.
func withoutPolicies(t *testing.T, d *pgserver.Database) func(context.Context, Config) (*gorm.DB, error) {
	superuser, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	superuser.Path = "/" + d.Name
	return func(ctx context.Context, cfg Config) (*gorm.DB, error) {
		db, err := connect(superuser.String())
		if err != nil {
			return nil, err
		}
		p := plugin(cfg)
		p.OmitTenantCondition, p.DangerouslyAllowUnsafeRole, p.DangerouslySkipProof = true, true, true
		return db, db.WithContext(ctx).Use(tenancy.New(p))
	}
}

// TestNothingWorksWithoutThePlugin: the policies show no row, so that no key is valid.
func TestNothingWorksWithoutThePlugin(t *testing.T) {
	d, cfg := configure(t)
	a := run(t, cfg)
	plain, err := connect(d.App.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, disconnect(plain)) })
	keys, err := a.keysIn(plain)
	require.NoError(t, err)
	_, err = keys.Verify(t.Context(), AcmeKey)
	require.Error(t, err)
	for _, table := range []string{"projects", "tasks", "api_keys", "tenants", "tenancy_audit", "river_job"} {
		var n int64
		require.NoError(t, plain.Raw("SELECT count(*) FROM "+table).Scan(&n).Error)
		require.Zero(t, n, table)
	}
	err = plain.WithContext(tenancy.WithTenant(t.Context(), "acme")).Create(&model.Project{Name: "p"}).Error
	require.Error(t, err)
}
