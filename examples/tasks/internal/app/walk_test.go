package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	tasks "github.com/gormtenancy/tenancy/examples/tasks/client"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/purge"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// generated returns the generated client of a key, whose answers are compared with the document.
func generated(t *testing.T, transport described, key string) *tasks.ClientWithResponses {
	t.Helper()
	c, err := tasks.NewClientWithResponses("http://tasks.example", tasks.WithHTTPClient(&http.Client{Transport: transport}),
		tasks.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("X-API-Key", key)
			return nil
		}))
	require.NoError(t, err)
	return c
}

// got requires a status, and returns the body of that answer.
func got[B any](t *testing.T, body *B, text []byte, err error) B {
	t.Helper()
	require.NoError(t, err)
	require.NotNil(t, body, "%s", text)
	return *body
}

// ended requires a status of an answer without a body.
func ended(t *testing.T, status int, response *http.Response, text []byte, err error) {
	t.Helper()
	require.NoError(t, err)
	require.Equal(t, status, response.StatusCode, "%s", text)
}

// TestGeneratedClientWalksThroughTheProduct as a new tenant does, beside another one.
func TestGeneratedClientWalksThroughTheProduct(t *testing.T) {
	a := start(t, func(_ *pgserver.Database, cfg *Config) { cfg.DangerouslyAllowLoopbackWebhooks = true })
	api, ctx := describe(t, a.Handler()), t.Context()
	type message struct {
		header http.Header
		body   []byte
	}
	messages := make(chan message, 20)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		messages <- message{r.Header.Clone(), body}
	}))
	defer receiver.Close()

	// Sign up, and make a key that can do less.
	signUp, err := generated(t, api, "").SignUpWithResponse(ctx, tasks.SignUp{Tenant: "initech", Name: "Initech"})
	tenant := got(t, signUp.JSON201, signUp.Body, err)
	require.Equal(t, "initech", tenant.Tenant.ID)
	owner := generated(t, api, tenant.Key.Key)
	createKey, err := owner.CreateKeyWithResponse(ctx, tasks.KeyInput{Name: "reader", Scopes: []string{"tasks:read"}})
	key := got(t, createKey.JSON201, createKey.Body, err)
	reader := generated(t, api, key.Key)

	// A project, tasks, a comment, a label and the description of a file.
	createProject, err := owner.CreateProjectWithResponse(ctx, tasks.ProjectInput{Name: "Launch"})
	project := got(t, createProject.JSON201, createProject.Body, err)
	var created []tasks.Task
	for i := range 7 {
		create, err := owner.CreateTaskWithResponse(ctx, tasks.TaskInput{ProjectID: project.ID, Title: fmt.Sprint("Task ", i)})
		created = append(created, got(t, create.JSON201, create.Body, err))
	}
	task := created[0]
	comment, err := owner.CreateCommentWithResponse(ctx, task.ID, tasks.CommentInput{Text: "Well begun"})
	got(t, comment.JSON201, comment.Body, err)
	createLabel, err := owner.CreateLabelWithResponse(ctx, tasks.LabelInput{Name: "urgent"})
	label := got(t, createLabel.JSON201, createLabel.Body, err)
	add, err := owner.AddLabelWithResponse(ctx, task.ID, label.ID)
	require.Len(t, *got(t, add.JSON200, add.Body, err).Labels, 1)
	attach, err := owner.CreateAttachmentWithResponse(ctx, task.ID, tasks.AttachmentInput{
		Name: "plan.txt", ContentType: "text/plain", Size: 1, Sha256: fmt.Sprintf("%064d", 0),
	})
	got(t, attach.JSON201, attach.Body, err)

	// A change of the version that was seen, and one of an old version.
	done, etag := tasks.TaskChangeStatusDone, fmt.Sprintf("%q", fmt.Sprint(task.Version))
	change, err := owner.UpdateTaskWithResponse(ctx, task.ID, &tasks.UpdateTaskParams{IfMatch: &etag}, tasks.TaskChange{Status: &done})
	require.Equal(t, tasks.TaskStatusDone, got(t, change.JSON200, change.Body, err).Status)
	change, err = owner.UpdateTaskWithResponse(ctx, task.ID, &tasks.UpdateTaskParams{IfMatch: &etag}, tasks.TaskChange{Status: &done})
	got(t, change.ApplicationProblemJSON412, change.Body, err)

	// A role for the second key, and what it may do then.
	list, err := reader.ListTasksWithResponse(ctx, nil)
	got(t, list.ApplicationProblemJSON403, list.Body, err)
	grant, err := owner.GrantRoleWithResponse(ctx, tasks.GrantingBody{Subject: "key:" + key.ID, Role: tasks.GrantingBodyRoleViewer})
	ended(t, http.StatusNoContent, grant.HTTPResponse, grant.Body, err)
	refused, err := reader.CreateTaskWithResponse(ctx, tasks.TaskInput{ProjectID: project.ID, Title: "x"})
	got(t, refused.ApplicationProblemJSON403, refused.Body, err)

	// All tasks in pages, as the second key sees them.
	seen, limit := map[uuid.UUID]bool{}, int64(3)
	for params := (tasks.ListTasksParams{Limit: &limit}); ; {
		list, err := reader.ListTasksWithResponse(ctx, &params)
		page := got(t, list.JSON200, list.Body, err)
		for _, item := range page.Items {
			require.False(t, seen[item.ID])
			seen[item.ID] = true
		}
		if params.Cursor = page.Next; page.Next == nil {
			break
		}
	}
	require.Len(t, seen, len(created))
	first := int64(1)
	list, err = reader.ListTasksWithResponse(ctx, &tasks.ListTasksParams{Page: &first, Filter: &[]string{"status:eq:done"}})
	require.EqualValues(t, 1, *got(t, list.JSON200, list.Body, err).Total)

	// A flag, for this tenant.
	put, err := owner.OverrideFlagWithResponse(ctx, "theme", tasks.OverridingBody{Variant: "dark"})
	ended(t, http.StatusNoContent, put.HTTPResponse, put.Body, err)
	flags, err := owner.ListFlagsWithResponse(ctx)
	values := map[string]any{}
	for _, flag := range *got(t, flags.JSON200, flags.Body, err).Items {
		values[flag.Key] = flag.Value
	}
	require.Equal(t, "dark", values["theme"])

	// An endpoint for webhooks, which gets the deletion and the restoration of the project.
	hook, err := owner.CreateWebhookEndpointWithResponse(ctx, tasks.EndpointInput{
		URL: receiver.URL, Types: []string{"project.deleted", "project.restored"},
	})
	endpoint := got(t, hook.JSON201, hook.Body, err)
	version := fmt.Sprintf("%q", fmt.Sprint(project.Version))
	remove, err := owner.DeleteProjectWithResponse(ctx, project.ID, &tasks.DeleteProjectParams{IfMatch: &version})
	ended(t, http.StatusNoContent, remove.HTTPResponse, remove.Body, err)
	gone, err := owner.GetTaskWithResponse(ctx, task.ID)
	got(t, gone.ApplicationProblemJSON404, gone.Body, err)
	restore, err := owner.RestoreProjectWithResponse(ctx, project.ID)
	got(t, restore.JSON200, restore.Body, err)
	verifier, err := standardwebhooks.NewWebhook(endpoint.Secret)
	require.NoError(t, err)
	for range 2 {
		m := <-messages
		require.NoError(t, verifier.Verify(m.body, m.header))
		require.Contains(t, string(m.body), project.ID.String())
	}
	require.Eventually(t, func() bool {
		deliveries, err := owner.ListWebhookDeliveriesWithResponse(ctx, &tasks.ListWebhookDeliveriesParams{Filter: &[]string{"status:eq:delivered"}})
		return len(got(t, deliveries.JSON200, deliveries.Body, err).Items) == 2
	}, time.Minute, 10*time.Millisecond)

	// What is deleted for good is not restored.
	text, err := owner.DeleteTaskWithResponse(ctx, created[6].ID, &tasks.DeleteTaskParams{IfMatch: ptr(etagOf(t, owner, created[6].ID))})
	ended(t, http.StatusNoContent, text.HTTPResponse, text.Body, err)
	require.NoError(t, purge.Rows(tenancy.WithTenant(ctx, "initech"), a.db, time.Now()))
	purged, err := owner.RestoreTaskWithResponse(ctx, created[6].ID)
	got(t, purged.ApplicationProblemJSON404, purged.Body, err)

	// The trail has all of it.
	audit, err := owner.ListAuditWithResponse(ctx, &tasks.ListAuditParams{Filter: &[]string{"table:eq:tasks", "operation:eq:DELETE"}})
	changes := got(t, audit.JSON200, audit.Body, err).Items
	require.Len(t, changes, 1)
	require.Equal(t, created[6].ID.String(), changes[0].Key.(map[string]any)["id"])

	// Another tenant knows all ids, and has nothing of it.
	globex := generated(t, api, GlobexKey)
	foreign, err := globex.GetProjectWithResponse(ctx, project.ID)
	got(t, foreign.ApplicationProblemJSON404, foreign.Body, err)
	deny, err := globex.GetWebhookEndpointWithResponse(ctx, endpoint.ID)
	got(t, deny.ApplicationProblemJSON404, deny.Body, err)

	// The second key is revoked.
	revoke, err := owner.RevokeKeyWithResponse(ctx, uuid.MustParse(key.ID))
	ended(t, http.StatusNoContent, revoke.HTTPResponse, revoke.Body, err)
	list, err = reader.ListTasksWithResponse(ctx, nil)
	got(t, list.ApplicationProblemJSON401, list.Body, err)
}

// etagOf returns the newest version of a task, for If-Match.
func etagOf(t *testing.T, c *tasks.ClientWithResponses, id uuid.UUID) string {
	t.Helper()
	task, err := c.GetTaskWithResponse(t.Context(), id)
	got(t, task.JSON200, task.Body, err)
	return task.HTTPResponse.Header.Get("ETag")
}

func ptr[T any](v T) *T { return &v }
