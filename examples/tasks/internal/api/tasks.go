package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
)

func (a *API) tasks() {
	const read, write = "tasks:read", "tasks:write"
	Add(a, Route{Method: http.MethodGet, Path: "/v1/tasks", ID: "listTasks", Permission: read, Summary: "List tasks"}, a.listTasks)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/tasks", ID: "createTask", Permission: write, Summary: "Create a task", Status: http.StatusCreated,
		Errors: []int{404},
	}, a.createTask)
	Add(a, Route{Method: http.MethodGet, Path: "/v1/tasks/{id}", ID: "getTask", Permission: read, Summary: "Get a task", Errors: []int{404}}, a.getTask)
	Add(a, Route{
		Method: http.MethodPatch, Path: "/v1/tasks/{id}", ID: "updateTask", Permission: write, Summary: "Change a task",
		Errors: []int{404, 412, 428},
	}, a.updateTask)
	Add(a, Route{
		Method: http.MethodDelete, Path: "/v1/tasks/{id}", ID: "deleteTask", Permission: write, Summary: "Delete a task with its comments",
		Errors: []int{404, 412, 428},
	}, a.deleteTask)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/tasks/{id}/restore", ID: "restoreTask", Permission: write,
		Summary: "Restore a task, with what was deleted with it", Errors: []int{404, 409},
	}, a.restoreTask)
}

// TaskInput is what a client says about a new task.
type TaskInput struct {
	ProjectID string     `json:"project_id" format:"uuid"`
	Title     string     `json:"title" minLength:"1" maxLength:"200"`
	DueAt     *time.Time `json:"due_at,omitempty"`
	// AssigneeID is a member of the tenant.
	AssigneeID *string `json:"assignee_id,omitempty" format:"uuid"`
}

// TaskChange is what a client changes of a task. What is left out stays.
type TaskChange struct {
	Title  *string    `json:"title,omitempty" minLength:"1" maxLength:"200"`
	Status *string    `json:"status,omitempty" enum:"open,done"`
	DueAt  *time.Time `json:"due_at,omitempty"`
	// AssigneeID is a member of the tenant.
	AssigneeID *string `json:"assignee_id,omitempty" format:"uuid"`
}

type taskUpdate struct {
	ByVersion
	Body TaskChange
}

var taskList = func() page.Spec[model.Task] {
	of := func(t model.Task) model.Row { return t.Row }
	return page.Spec[model.Task]{
		Name: "tasks", Sort: "created_at", Key: key(of), Preload: []string{"Labels"},
		Fields: fields(of, map[string]page.Field[model.Task]{
			"title":       {SQL: "title", Type: "text", Of: func(t model.Task) string { return t.Title }},
			"status":      {SQL: "status", Type: "text", Of: func(t model.Task) string { return t.Status }},
			"project_id":  {SQL: "project_id", Type: "uuid"},
			"assignee_id": {SQL: "assignee_id", Type: "uuid"},
			"due_at":      {SQL: "COALESCE(due_at, 'infinity')", Type: "timestamptz", Of: due}, // what is never due comes last
		}),
	}
}()

func due(t model.Task) string {
	if t.DueAt == nil {
		return "infinity"
	}
	return stamp(*t.DueAt)
}

func (a *API) listTasks(ctx context.Context, in *struct{ page.Query }) (*listed[model.Task], error) {
	list, err := page.Find(ctx, a.DB(ctx), a.Cursors, taskList, in.Query)
	return &listed[model.Task]{list}, err
}

func (a *API) createTask(ctx context.Context, in *struct{ Body TaskInput }) (*row[model.Task], error) {
	task := model.Task{ProjectID: in.Body.ProjectID, Title: in.Body.Title, DueAt: in.Body.DueAt, AssigneeID: in.Body.AssigneeID}
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if _, err := lock[model.Project](tx, task.ProjectID); err != nil {
			return err
		}
		if err := assignee(tx, task.AssigneeID); err != nil {
			return err
		}
		if err := tx.Create(&task).Error; err != nil {
			return err
		}
		return a.emit(tx, "task.created", task)
	})
	return show(task, err)
}

func (a *API) getTask(ctx context.Context, in *ByID) (*row[model.Task], error) {
	var task model.Task
	err := a.DB(ctx).Preload("Labels").Take(&task, "id = ?", in.ID).Error
	return show(task, err)
}

func (a *API) updateTask(ctx context.Context, in *taskUpdate) (*row[model.Task], error) {
	changes := map[string]any{}
	if in.Body.Title != nil {
		changes["title"] = *in.Body.Title
	}
	if in.Body.Status != nil {
		changes["status"] = *in.Body.Status
	}
	if in.Body.DueAt != nil {
		changes["due_at"] = *in.Body.DueAt
	}
	if in.Body.AssigneeID != nil {
		changes["assignee_id"] = *in.Body.AssigneeID
	}
	var task model.Task
	err := a.Tx(ctx, func(tx *gorm.DB) (err error) {
		if err := assignee(tx, in.Body.AssigneeID); err != nil {
			return err
		}
		if task, err = change[model.Task](tx, in.ByVersion, changes); err != nil {
			return err
		}
		return a.emit(tx, "task.updated", task)
	})
	return show(task, err)
}

func (a *API) deleteTask(ctx context.Context, in *ByVersion) (*struct{}, error) {
	return nil, a.Tx(ctx, func(tx *gorm.DB) error {
		task, err := remove[model.Task](tx, *in)
		if err != nil {
			return err
		}
		return a.emit(tx, "task.deleted", task)
	})
}

func (a *API) restoreTask(ctx context.Context, in *ByID) (*row[model.Task], error) {
	var task model.Task
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if err := tx.Unscoped().Take(&task, "id = ?", in.ID).Error; err != nil {
			return err
		}
		if err := parent[model.Project](tx, task.ProjectID); err != nil {
			return err
		}
		var err error
		if task, err = restore[model.Task](tx, in.ID); err != nil {
			return err
		}
		return a.emit(tx, "task.restored", task)
	})
	return show(task, err)
}

// assignee locks the member that a task is given to, if it is.
func assignee(tx *gorm.DB, id *string) error {
	if id == nil {
		return nil
	}
	_, err := lock[model.Member](tx, *id)
	return err
}

// parent locks the row above one that is to be restored, and refuses the request if that is deleted itself.
func parent[T any](tx *gorm.DB, id string) error {
	_, err := lock[T](tx, id)
	if isNotFound(err) {
		return huma.Error409Conflict("what it belongs to is deleted: restore that")
	}
	return err
}
