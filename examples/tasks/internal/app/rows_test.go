package app

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/purge"
)

// TestRestore: a restore brings back what its delete took, and not what was deleted before.
func TestRestore(t *testing.T) {
	a := start(t)
	acme, _ := clients(t, a)
	project := acme.project("p")
	kept, dropped := acme.task(project, "kept"), acme.task(project, "dropped")
	comments := func() []string { return acme.names("/v1/tasks/"+kept.id()+"/comments", "text") }
	acme.comment(kept, "kept")
	gone := acme.comment(kept, "gone")
	acme.attachment(kept, "file")
	acme.comment(dropped, "below")

	acme.remove("comments", gone.id())
	acme.remove("tasks", dropped.id())
	acme.remove("projects", project.id())
	acme.want(http.StatusNotFound, http.MethodGet, "/v1/tasks/"+kept.id(), nil)
	acme.want(http.StatusNotFound, http.MethodGet, "/v1/tasks/"+kept.id()+"/comments", nil)
	acme.want(http.StatusConflict, http.MethodPost, "/v1/tasks/"+kept.id()+"/restore", nil)
	acme.want(http.StatusConflict, http.MethodPost, "/v1/comments/"+gone.id()+"/restore", nil)
	acme.want(http.StatusNotFound, http.MethodPost, "/v1/tasks", object{"project_id": project.id(), "title": "x"})

	acme.want(http.StatusOK, http.MethodPost, "/v1/projects/"+project.id()+"/restore", nil)
	acme.want(http.StatusOK, http.MethodGet, "/v1/tasks/"+kept.id(), nil)
	require.Equal(t, []string{"kept"}, comments())
	require.Equal(t, []string{"file"}, acme.names("/v1/tasks/"+kept.id()+"/attachments", "name"))
	acme.want(http.StatusNotFound, http.MethodGet, "/v1/tasks/"+dropped.id(), nil)

	acme.want(http.StatusOK, http.MethodPost, "/v1/tasks/"+dropped.id()+"/restore", nil)
	require.Equal(t, []string{"below"}, acme.names("/v1/tasks/"+dropped.id()+"/comments", "text"))
	acme.want(http.StatusOK, http.MethodPost, "/v1/comments/"+gone.id()+"/restore", nil)
	require.Equal(t, []string{"kept", "gone"}, comments())
}

// TestNamesAreUniqueAmongTheLiving within each tenant.
func TestNamesAreUniqueAmongTheLiving(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	first := acme.project("name")
	acme.want(http.StatusConflict, http.MethodPost, "/v1/projects", object{"name": "name"})
	globex.project("name")
	acme.remove("projects", first.id())
	second := acme.project("name")
	acme.want(http.StatusConflict, http.MethodPost, "/v1/projects/"+first.id()+"/restore", nil)
	acme.remove("projects", second.id())
	acme.want(http.StatusOK, http.MethodPost, "/v1/projects/"+first.id()+"/restore", nil)
}

func TestLabels(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	task, red, foreign := acme.task(acme.project("p"), "t"), acme.label("red"), globex.label("red")
	path := "/v1/tasks/" + task.id() + "/labels/"
	labels := func() (names []string) {
		list, _ := acme.want(http.StatusOK, http.MethodGet, "/v1/tasks/"+task.id(), nil).body["labels"].([]any)
		for _, label := range list {
			names = append(names, label.(object)["name"].(string))
		}
		return names
	}
	acme.want(http.StatusOK, http.MethodPut, path+red.id(), nil)
	acme.want(http.StatusOK, http.MethodPut, path+red.id(), nil)
	require.Equal(t, []string{"red"}, labels())
	acme.want(http.StatusNotFound, http.MethodPut, path+foreign.id(), nil)
	globex.want(http.StatusNotFound, http.MethodPut, path+foreign.id(), nil)
	acme.remove("labels", red.id())
	require.Empty(t, labels())
	acme.want(http.StatusOK, http.MethodPost, "/v1/labels/"+red.id()+"/restore", nil)
	require.Equal(t, []string{"red"}, labels())
	acme.want(http.StatusOK, http.MethodDelete, path+red.id(), nil)
	require.Empty(t, labels())
}

func TestPages(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	project := acme.project("p")
	for i := range 7 {
		acme.want(http.StatusCreated, http.MethodPost, "/v1/tasks",
			object{"project_id": project.id(), "title": fmt.Sprint("t", i%3), "due_at": time.Date(2030, 1, 1+i/2, 0, 0, 0, 0, time.UTC)})
	}
	all := "/v1/tasks?filter=" + url.QueryEscape("project_id:eq:"+project.id()) + "&limit=2&sort="
	for _, sort := range []string{"created_at", "-created_at", "title", "-title", "due_at", "-due_at", "status", "updated_at"} {
		seen, cursor := map[string]bool{}, ""
		for {
			page := acme.want(http.StatusOK, http.MethodGet, all+sort+"&cursor="+cursor, nil)
			for _, item := range page.items() {
				id := item.(object)["id"].(string)
				require.False(t, seen[id], "%s shows a row twice", sort)
				seen[id] = true
			}
			next, more := page.body["next"].(string)
			if !more {
				break
			}
			globex.want(http.StatusUnprocessableEntity, http.MethodGet, all+sort+"&cursor="+next, nil)
			acme.want(http.StatusUnprocessableEntity, http.MethodGet, "/v1/tasks?sort="+sort+"&cursor="+next, nil)
			acme.want(http.StatusUnprocessableEntity, http.MethodGet, "/v1/projects?sort="+sort+"&cursor="+next, nil)
			cursor = next
		}
		require.Len(t, seen, 7, sort)
	}
	last := acme.want(http.StatusOK, http.MethodGet, all+"title&page=4", nil)
	require.EqualValues(t, 7, last.body["total"])
	require.Len(t, last.items(), 1)
	require.Equal(t, []string{"t2", "t2"}, acme.names("/v1/tasks?sort=title&filter=title:in:t2,t9", "title"))
	require.Equal(t, []string{"t0", "t0", "t0"}, acme.names("/v1/tasks?sort=title&filter=title:starts:T&filter=title:lt:t1", "title"))
	require.Empty(t, acme.names("/v1/tasks?filter=title:contains:%25", "title"), "no wildcard")
}

func TestAuditSaysWho(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	project := acme.project("secret name")
	changes := acme.want(http.StatusOK, http.MethodGet, "/v1/audit?filter=request_id:eq:"+project.header.Get("X-Request-Id"), nil).items()
	require.Len(t, changes, 1)
	change := changes[0].(object)
	require.Equal(t, "INSERT", change["operation"])
	require.Equal(t, "projects", change["table"])
	require.Equal(t, "key:00000000-0000-4000-8000-00000000ac3e", change["actor"])
	require.Equal(t, "secret name", change["after"].(object)["name"])
	require.NotContains(t, globex.want(http.StatusOK, http.MethodGet, "/v1/audit", nil).text, "secret name")
}

// TestSummaryIsKeptForItsTenant asks twice, so that the second answer comes out of the cache.
func TestSummaryIsKeptForItsTenant(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	acme.project("p")
	first := acme.want(http.StatusOK, http.MethodGet, "/v1/summary", nil).body
	require.EqualValues(t, 2, first["projects"])
	require.EqualValues(t, 3, first["open"])
	require.Equal(t, first, acme.want(http.StatusOK, http.MethodGet, "/v1/summary", nil).body)
	require.EqualValues(t, 1, globex.want(http.StatusOK, http.MethodGet, "/v1/summary", nil).body["projects"])
}

// TestPurge removes what was deleted before a time, of one tenant, and what hangs on it.
func TestPurge(t *testing.T) {
	a := start(t)
	acme, globex := clients(t, a)
	count := func(c client, tenant string) (rows, living int) {
		db := a.db.WithContext(tenancy.WithTenant(t.Context(), tenant))
		for _, m := range []any{&model.Project{}, &model.Task{}, &model.Comment{}, &model.Label{}} {
			var all, some int64
			require.NoError(t, db.Unscoped().Model(m).Count(&all).Error)
			require.NoError(t, db.Model(m).Count(&some).Error)
			rows, living = rows+int(all), living+int(some)
		}
		return rows, living
	}
	for _, c := range []client{acme, globex} {
		project := c.project("p")
		task, label := c.task(project, "t"), c.label("l")
		c.comment(task, "c")
		c.want(http.StatusOK, http.MethodPut, "/v1/tasks/"+task.id()+"/labels/"+label.id(), nil)
		c.remove("projects", project.id())
	}
	tenant := tenancy.WithTenant(t.Context(), "acme")
	require.NoError(t, purge.Rows(tenant, a.db, time.Now().Add(-time.Hour)))
	rows, living := count(acme, "acme")
	require.Equal(t, []int{8, 5}, []int{rows, living}, "not old enough")
	require.NoError(t, purge.Rows(tenant, a.db, time.Now()))
	rows, living = count(acme, "acme")
	require.Equal(t, []int{5, 5}, []int{rows, living})
	rows, _ = count(globex, "globex")
	require.Equal(t, 8, rows)
	require.ErrorIs(t, purge.Rows(t.Context(), a.db, time.Now()), tenancy.ErrNoTenant)
}

// TestPurgeRunsForEachTenant: the job that runs at start inserts one for each tenant, which the workers work.
func TestPurgeRunsForEachTenant(t *testing.T) {
	a := start(t)
	db := tenancy.Bypass(a.db, "see jobs in a test").WithContext(t.Context())
	require.Eventually(t, func() bool {
		var tenants []string
		err := db.Raw("SELECT tenant_id FROM river_job WHERE kind = 'purge_tenant' AND state = 'completed' ORDER BY 1").Scan(&tenants).Error
		return err == nil && fmt.Sprint(tenants) == "[acme globex]"
	}, time.Minute, 20*time.Millisecond)
}
