package api

import (
	"context"
	"net/http"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
)

func (a *API) labels() {
	const read, write = "labels:read", "labels:write"
	Add(a, Route{Method: http.MethodGet, Path: "/v1/labels", ID: "listLabels", Permission: read, Summary: "List labels"}, a.listLabels)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/labels", ID: "createLabel", Permission: write, Summary: "Create a label",
		Status: http.StatusCreated, Errors: []int{409},
	}, a.createLabel)
	Add(a, Route{
		Method: http.MethodDelete, Path: "/v1/labels/{id}", ID: "deleteLabel", Permission: write, Summary: "Delete a label",
		Errors: []int{404, 412, 428},
	}, a.deleteLabel)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/labels/{id}/restore", ID: "restoreLabel", Permission: write, Summary: "Restore a label",
		Errors: []int{404, 409},
	}, a.restoreLabel)
	Add(a, Route{
		Method: http.MethodPut, Path: "/v1/tasks/{id}/labels/{label}", ID: "addLabel", Permission: "tasks:write",
		Summary: "Put a label on a task", Errors: []int{404},
	}, a.addLabel)
	Add(a, Route{
		Method: http.MethodDelete, Path: "/v1/tasks/{id}/labels/{label}", ID: "removeLabel", Permission: "tasks:write",
		Summary: "Take a label off a task", Errors: []int{404},
	}, a.removeLabel)
}

// LabelInput is what a client says about a label.
type LabelInput struct {
	Name string `json:"name" minLength:"1" maxLength:"50"`
}

// onTask names a label and a task.
type onTask struct {
	ByID
	Label string `path:"label" format:"uuid"`
}

var labelList = func() page.Spec[model.Label] {
	of := func(l model.Label) model.Row { return l.Row }
	return page.Spec[model.Label]{Name: "labels", Sort: "name", Key: key(of), Fields: fields(of, map[string]page.Field[model.Label]{
		"name": {SQL: "name", Type: "text", Of: func(l model.Label) string { return l.Name }},
	})}
}()

func (a *API) listLabels(ctx context.Context, in *struct{ page.Query }) (*listed[model.Label], error) {
	list, err := page.Find(ctx, a.DB(ctx), a.Cursors, labelList, in.Query)
	return &listed[model.Label]{list}, err
}

func (a *API) createLabel(ctx context.Context, in *struct{ Body LabelInput }) (*row[model.Label], error) {
	label := model.Label{Name: in.Body.Name}
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if err := tx.Create(&label).Error; err != nil {
			return err
		}
		return a.emit(tx, "label.created", label)
	})
	return show(label, err)
}

func (a *API) deleteLabel(ctx context.Context, in *ByVersion) (*struct{}, error) {
	return nil, a.Tx(ctx, func(tx *gorm.DB) error {
		label, err := remove[model.Label](tx, *in)
		if err != nil {
			return err
		}
		return a.emit(tx, "label.deleted", label)
	})
}

func (a *API) restoreLabel(ctx context.Context, in *ByID) (*row[model.Label], error) {
	var label model.Label
	err := a.Tx(ctx, func(tx *gorm.DB) (err error) {
		if label, err = restore[model.Label](tx, in.ID); err != nil {
			return err
		}
		return a.emit(tx, "label.restored", label)
	})
	return show(label, err)
}

func (a *API) addLabel(ctx context.Context, in *onTask) (*row[model.Task], error) {
	return a.relabel(ctx, in, func(labels *gorm.Association, label *model.Label) error { return labels.Append(label) })
}

func (a *API) removeLabel(ctx context.Context, in *onTask) (*row[model.Task], error) {
	return a.relabel(ctx, in, func(labels *gorm.Association, label *model.Label) error { return labels.Delete(label) })
}

// relabel changes the labels of a task, and returns the task. Both must be the tenant's and live.
func (a *API) relabel(ctx context.Context, in *onTask, do func(*gorm.Association, *model.Label) error) (*row[model.Task], error) {
	var task model.Task
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		found, err := lock[model.Task](tx, in.ID)
		if err != nil {
			return err
		}
		label, err := lock[model.Label](tx, in.Label)
		if err != nil {
			return err
		}
		// Without the label's own columns, which stay as they are.
		if err := do(tx.Model(&found).Omit("Labels.*").Association("Labels"), &label); err != nil {
			return err
		}
		if err := tx.Preload("Labels").Take(&task, "id = ?", in.ID).Error; err != nil {
			return err
		}
		return a.emit(tx, "task.updated", task)
	})
	return show(task, err)
}
