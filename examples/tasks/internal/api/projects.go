package api

import (
	"context"
	"net/http"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
)

func (a *API) projects() {
	const read, write = "projects:read", "projects:write"
	Add(a, Route{Method: http.MethodGet, Path: "/v1/projects", ID: "listProjects", Permission: read, Summary: "List projects"}, a.listProjects)
	Add(a, Route{Method: http.MethodPost, Path: "/v1/projects", ID: "createProject", Permission: write, Summary: "Create a project", Status: http.StatusCreated, Errors: []int{409}}, a.createProject)
	Add(a, Route{Method: http.MethodGet, Path: "/v1/projects/{id}", ID: "getProject", Permission: read, Summary: "Get a project", Errors: []int{404}}, a.getProject)
	Add(a, Route{Method: http.MethodPatch, Path: "/v1/projects/{id}", ID: "updateProject", Permission: write, Summary: "Rename a project", Errors: []int{404, 409, 412, 428}}, a.updateProject)
	Add(a, Route{Method: http.MethodDelete, Path: "/v1/projects/{id}", ID: "deleteProject", Permission: write, Summary: "Delete a project with its tasks", Errors: []int{404, 412, 428}}, a.deleteProject)
	Add(a, Route{Method: http.MethodPost, Path: "/v1/projects/{id}/restore", ID: "restoreProject", Permission: write, Summary: "Restore a project, with what was deleted with it", Errors: []int{404, 409}}, a.restoreProject)
}

// ProjectInput is what a client says about a project.
type ProjectInput struct {
	Name string `json:"name" minLength:"1" maxLength:"100"`
}

type projectUpdate struct {
	ByVersion
	Body ProjectInput
}

var projectList = func() page.Spec[model.Project] {
	of := func(p model.Project) model.Row { return p.Row }
	return page.Spec[model.Project]{Name: "projects", Sort: "created_at", Key: key(of), Fields: fields(of, map[string]page.Field[model.Project]{
		"name": {SQL: "name", Type: "text", Of: func(p model.Project) string { return p.Name }},
	})}
}()

func (a *API) listProjects(ctx context.Context, in *struct{ page.Query }) (*listed[model.Project], error) {
	list, err := page.Find(ctx, a.DB(ctx), a.Cursors, projectList, in.Query)
	return &listed[model.Project]{list}, err
}

func (a *API) createProject(ctx context.Context, in *struct{ Body ProjectInput }) (*row[model.Project], error) {
	project := model.Project{Name: in.Body.Name}
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if err := tx.Create(&project).Error; err != nil {
			return err
		}
		return a.emit(tx, "project.created", project)
	})
	return show(project, err)
}

func (a *API) getProject(ctx context.Context, in *ByID) (*row[model.Project], error) {
	var project model.Project
	err := a.DB(ctx).Take(&project, "id = ?", in.ID).Error
	return show(project, err)
}

func (a *API) updateProject(ctx context.Context, in *projectUpdate) (*row[model.Project], error) {
	var project model.Project
	err := a.Tx(ctx, func(tx *gorm.DB) (err error) {
		if project, err = change[model.Project](tx, in.ByVersion, map[string]any{"name": in.Body.Name}); err != nil {
			return err
		}
		return a.emit(tx, "project.updated", project)
	})
	return show(project, err)
}

func (a *API) deleteProject(ctx context.Context, in *ByVersion) (*struct{}, error) {
	return nil, a.Tx(ctx, func(tx *gorm.DB) error {
		project, err := remove[model.Project](tx, *in)
		if err != nil {
			return err
		}
		return a.emit(tx, "project.deleted", project)
	})
}

func (a *API) restoreProject(ctx context.Context, in *ByID) (*row[model.Project], error) {
	var project model.Project
	err := a.Tx(ctx, func(tx *gorm.DB) (err error) {
		if project, err = restore[model.Project](tx, in.ID); err != nil {
			return err
		}
		return a.emit(tx, "project.restored", project)
	})
	return show(project, err)
}
