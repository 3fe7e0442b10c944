package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/internal/web"
)

// TestPages: each project is on one page, in order, also while others are added and deleted; and no other tenant's.
func TestPages(t *testing.T) {
	w := newFixture(t)
	for i := range 20 {
		name := fmt.Sprintf("Rocket %d", 7*i%5) // several have the same name
		require.Equal(t, http.StatusCreated, w.do(t, request{token: w.ann, method: "POST", path: "/projects", body: fmt.Sprintf(`{"name":%q}`, name)}).status)
	}
	for _, c := range []struct {
		query string
		want  int
	}{{"", 25}, {"sort=id", 25}, {"sort=name", 25}, {"q=rocket", 20}, {"q=rocket&sort=name", 20}} {
		t.Run(c.query, func(t *testing.T) {
			seen := map[int64]bool{}
			lastName, lastID, cursor := "", int64(0), ""
			for pages := 0; pages == 0 || cursor != ""; pages++ {
				require.Less(t, pages, 20)
				list := w.list(t, "/projects?limit=3&"+c.query+"&cursor="+cursor)
				require.LessOrEqual(t, len(list.Projects), 3)
				for _, p := range list.Projects {
					require.NotContains(t, p.Name, "Globex")
					require.False(t, seen[p.ID])
					seen[p.ID] = true
					if strings.Contains(c.query, "name") {
						require.True(t, p.Name > lastName || p.Name == lastName && p.ID > lastID)
					} else {
						require.Greater(t, p.ID, lastID)
					}
					lastName, lastID = p.Name, p.ID
				}
				cursor = list.Next
			}
			require.Len(t, seen, c.want)
		})
	}
	require.Len(t, w.list(t, "/projects").Projects, defaultLimit)
	require.Empty(t, w.list(t, "/projects?limit=25").Next, "no page follows that is empty")
}

type list struct {
	Projects []Project
	Next     string
}

func (w *fixture) list(t *testing.T, path string) (l list) {
	t.Helper()
	got := w.do(t, request{token: w.ann, path: path})
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.NoError(t, json.Unmarshal([]byte(got.body), &l))
	return l
}

func (w *fixture) rename(t *testing.T, id int, tag, name string) response {
	t.Helper()
	header := http.Header{}
	if tag != "" {
		header["If-Match"] = []string{tag}
	}
	return w.do(t, request{token: w.ann, method: "PUT", path: "/projects/" + strconv.Itoa(id), header: header, body: fmt.Sprintf(`{"name":%q}`, name)})
}

// TestProjectVersionIsChangedOnce: of changes to the same version, one is made.
func TestProjectVersionIsChangedOnce(t *testing.T) {
	w := newFixture(t)
	require.Equal(t, `"1"`, w.do(t, request{token: w.ann, path: "/projects/1"}).header.Get("ETag"))
	require.Equal(t, http.StatusPreconditionRequired, w.rename(t, 1, "", "x").status)
	for _, tag := range []string{"*", "1", `"0"`, `"2"`, `W/"1"`, `"1`, `"1","2"`, `"' OR true --"`} {
		require.Equal(t, http.StatusPreconditionFailed, w.rename(t, 1, tag, "x").status, tag)
	}
	require.Equal(t, http.StatusNotFound, w.rename(t, 99, `"1"`, "x").status)
	require.Equal(t, http.StatusBadRequest, w.rename(t, 1, `"1"`, "").status)

	statuses := make(chan int, 8)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { statuses <- w.rename(t, 1, `"1"`, fmt.Sprintf("Change %d", i)).status })
	}
	wg.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusPreconditionFailed: 7}, count)
	got := w.do(t, request{token: w.ann, path: "/projects/1"})
	require.Contains(t, got.body, `"version":2`)
	require.Equal(t, `"2"`, got.header.Get("ETag"))
	next := w.rename(t, 1, `"2"`, "Next")
	require.JSONEq(t, `{"id":1,"name":"Next","version":3}`, next.body)
	require.Equal(t, `"3"`, next.header.Get("ETag"))
}

// TestSoftDelete: what is deleted is gone from everywhere, and comes back.
func TestSoftDelete(t *testing.T) {
	w := newFixture(t)
	remove := request{token: w.ann, method: "DELETE", path: "/projects/2", header: http.Header{"If-Match": {`"1"`}}}
	require.Equal(t, http.StatusNoContent, w.do(t, remove).status)
	require.Equal(t, http.StatusNotFound, w.do(t, remove).status)
	require.Equal(t, http.StatusNotFound, w.do(t, request{token: w.ann, path: "/projects/2"}).status)
	require.Equal(t, http.StatusNotFound, w.rename(t, 2, `"1"`, "x").status)
	require.NotContains(t, w.do(t, request{token: w.ann, path: "/projects"}).body, "Acme project 2")
	require.NotContains(t, w.do(t, request{token: w.ann, path: "/overview"}).body, "Acme project 2")
	require.Equal(t, http.StatusUnprocessableEntity, w.do(t, request{token: w.ann, method: "POST", path: "/tasks", body: `{"project_id":2,"title":"x"}`}).status)

	restore := request{token: w.ann, method: "POST", path: "/projects/2/restore"}
	theirs := restore
	theirs.host, theirs.token = "globex.localhost", w.eve
	require.Equal(t, http.StatusNotFound, w.do(t, theirs).status, "Unscoped shows nothing of another tenant's")
	require.JSONEq(t, `{"id":2,"name":"Acme project 2","version":2}`, w.do(t, restore).body)
	require.Equal(t, http.StatusNotFound, w.do(t, restore).status)
	require.Contains(t, w.do(t, request{token: w.ann, path: "/overview"}).body, `{"project":"Acme project 2","tasks":3}`)
	stale := remove
	require.Equal(t, http.StatusPreconditionFailed, w.do(t, stale).status, "it was changed by being restored")
}

func TestTasks(t *testing.T) {
	w := newFixture(t)
	got := w.do(t, request{token: w.bob, method: "POST", path: "/tasks", body: `{"project_id":1,"title":"Celebrate"}`})
	require.Equal(t, http.StatusCreated, got.status)
	require.JSONEq(t, `{"id":31,"project_id":1,"title":"Celebrate"}`, got.body)
	require.Contains(t, w.do(t, request{token: w.ann, path: "/overview"}).body, `{"project":"Acme project 1","tasks":4}`)
	for _, body := range []string{`{}`, `{"project_id":1}`, `{"project_id":"1","title":"x"}`, `{"project_id":1,"title":"a\nb"}`} {
		require.Equal(t, http.StatusBadRequest, w.do(t, request{token: w.bob, method: "POST", path: "/tasks", body: body}).status, body)
	}
}

// TestLog: the log tells a page from an N+1, and a transaction from its statements.
func TestLog(t *testing.T) {
	w := newFixture(t)
	last := func(q request) string {
		q.token, q.header = w.ann, http.Header{"X-Request-Id": {"warm-up-1"}}
		w.do(t, q) // prepares statements
		q.header = http.Header{"X-Request-Id": {"second-1"}}
		got := w.do(t, q)
		require.Equal(t, "second-1", got.header.Get("X-Request-Id"))
		lines := strings.Split(strings.TrimSpace(w.log.String()), "\n")
		require.Contains(t, lines[len(lines)-1], "request_id=second-1")
		return lines[len(lines)-1]
	}
	uuid := regexp.MustCompile(`tenant=[0-9a-f-]{36} `)
	for _, c := range []struct {
		request request
		want    string
	}{
		{request{path: "/projects/1?secret=x"}, `route="GET /projects/{id}" method=GET status=200 statements=2 round_trips=2`},
		{request{path: "/overview"}, `route="GET /overview" method=GET status=200 statements=3 round_trips=3`},
		{request{path: "/overview/n-plus-1"}, `route="GET /overview/n-plus-1" method=GET status=200 statements=7 round_trips=7`},
		{request{path: "/tasks", method: "POST", body: `{"project_id":1,"title":"secret"}`},
			`route="POST /tasks" method=POST status=201 statements=3 round_trips=4`},
	} {
		line := last(c.request)
		require.Contains(t, line, c.want)
		require.Regexp(t, uuid, line)
		require.NotContains(t, line, "secret")
	}
	require.Contains(t, last(request{host: "globex.localhost", path: "/projects"}), `status=403 statements=1 round_trips=1`, "as for a tenant that does not exist")
}

// TestProjectNames: a text that cannot be stored or displayed is refused.
func TestProjectNames(t *testing.T) {
	w := newFixture(t)
	for _, name := range []string{``, ` `, `a\u0000b`, `a\nb`, strings.Repeat("a", 101)} {
		got := w.do(t, request{token: w.ann, method: "POST", path: "/projects", body: `{"name":"` + name + `"}`})
		require.Equal(t, http.StatusBadRequest, got.status, name)
	}
	const odd = `<b>O'Hara</b> "100%" \\ 🚀 $1 ?`
	require.True(t, web.IsText(odd, 100))
	got := w.do(t, request{token: w.ann, method: "POST", path: "/projects", body: `{"name":` + strconv.Quote(odd) + `}`})
	require.Equal(t, http.StatusCreated, got.status)
	var project Project
	require.NoError(t, json.Unmarshal([]byte(got.body), &project))
	require.Equal(t, odd, project.Name)
}
