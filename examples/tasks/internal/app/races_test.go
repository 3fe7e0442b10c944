package app

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// atOnce sends the same attempt several times at once, and returns how often each status came.
func (h *hostile) atOnce(times int, a attempt) map[int]int {
	h.t.Helper()
	all := slices.Repeat([]attempt{a}, times)
	statuses := map[int]int{}
	var mu sync.Mutex
	var senders sync.WaitGroup
	begin := make(chan struct{})
	for _, a := range all {
		senders.Go(func() {
			<-begin
			status, err := h.send(a)
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
			if err != nil {
				h.t.Errorf("%s: %v", a.what, err)
			}
		})
	}
	close(begin)
	senders.Wait()
	return statuses
}

// requireStatuses checks that there are no others.
func requireStatuses(t *testing.T, what string, statuses map[int]int, allowed ...int) {
	t.Helper()
	for status := range maps.Keys(statuses) {
		require.Contains(t, allowed, status, "%s: %v", what, statuses)
	}
}

// TestDuplicatesAtOnce: what is sent several times at once happens once, and none of the requests fails for it.
func TestDuplicatesAtOnce(t *testing.T) {
	const times = 12
	h := newHostile(t)
	p := h.attacker
	post := func(path string, body any, headers ...string) attempt {
		a := attempt{what: path, method: http.MethodPost, path: path, header: http.Header{"X-Api-Key": {p.key}, "Content-Type": {"application/json"}}}
		a.body = h.encode(body)
		for i := 0; i < len(headers); i += 2 {
			a.header.Set(headers[i], headers[i+1])
		}
		return a
	}
	count := func(filter string) float64 {
		return p.want(http.StatusOK, http.MethodGet, "/v1/"+filter, nil).body["total"].(float64)
	}

	statuses := h.atOnce(times, post("/v1/projects", object{"name": "one name"}))
	require.Equal(t, map[int]int{http.StatusCreated: 1, http.StatusConflict: times - 1}, statuses)
	statuses = h.atOnce(times, post("/v1/tasks", object{"project_id": p.ids["projects"], "title": "one key"}, "Idempotency-Key", "one-key"))
	requireStatuses(t, "one key", statuses, http.StatusCreated, http.StatusConflict)
	require.Positive(t, statuses[http.StatusCreated])
	require.EqualValues(t, 1, count("tasks?page=1&filter=title:eq:one%20key"))
	statuses = h.atOnce(times, post("/v1/signup", object{"tenant": "onetenant", "name": "One"}))
	require.Equal(t, map[int]int{http.StatusCreated: 1, http.StatusConflict: times - 1}, statuses)

	// Changes and deletions of one version.
	task := p.task(answer{body: object{"id": p.ids["projects"]}}, "one version")
	change := post("/v1/tasks/"+task.id(), object{"status": "done"}, "If-Match", `"1"`)
	change.method = http.MethodPatch
	statuses = h.atOnce(times, change)
	require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusPreconditionFailed: times - 1}, statuses)
	remove := attempt{what: "delete", method: http.MethodDelete, path: change.path, header: change.header.Clone()}
	remove.header.Set("If-Match", `"2"`)
	statuses = h.atOnce(times, remove)
	require.Equal(t, map[int]int{http.StatusNoContent: 1, http.StatusNotFound: times - 1}, statuses)
	statuses = h.atOnce(times, attempt{what: "restore", method: http.MethodPost, path: change.path + "/restore", header: change.header})
	require.Equal(t, 1, statuses[http.StatusOK])
	requireStatuses(t, "restore", statuses, http.StatusOK, http.StatusNotFound)

	// Limits, of which the last place is wanted by many.
	endpoint := post("/v1/webhooks/endpoints", object{"url": h.receiver.URL, "types": []string{"webhook.test"}})
	statuses = h.atOnce(30, endpoint)
	requireStatuses(t, "endpoints", statuses, http.StatusCreated, http.StatusConflict)
	require.EqualValues(t, 20, count("webhooks/endpoints?page=1"))

	// A role that is revoked by many.
	p.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:one", "role": "owner"})
	statuses = h.atOnce(times, attempt{what: "revoke", method: http.MethodDelete, path: "/v1/roles?role=owner&subject=key:one", header: change.header})
	require.Equal(t, map[int]int{http.StatusNoContent: 1, http.StatusNotFound: times - 1}, statuses)

	// The same Idempotency-Key for something else, and by the victim.
	first := post("/v1/labels", object{"name": "first"}, "Idempotency-Key", "again")
	status, err := h.send(first)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	for i, other := range []attempt{
		post("/v1/labels", object{"name": "second"}, "Idempotency-Key", "again"), post("/v1/projects", object{"name": "first"}, "Idempotency-Key", "again"),
	} {
		status, err := h.send(other)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnprocessableEntity, status, fmt.Sprint(i))
	}
	require.NotEqual(t, p.want(http.StatusOK, http.MethodGet, "/v1/labels?filter=name:eq:first", nil).items()[0].(object)["id"],
		h.victim.want(http.StatusCreated, http.MethodPost, "/v1/labels", object{"name": "first"}, "Idempotency-Key", "again").id())
	h.requireQuietLog()
}
