package api

import (
	"context"
	"net/http"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
)

func (a *API) projects() {
	Add(a, Route{Method: http.MethodGet, Path: "/v1/projects", ID: "listProjects", Summary: "List projects", Permission: "projects:read"}, a.listProjects)
}

type projectList struct {
	Body struct {
		Items []model.Project `json:"items"`
	}
}

func (a *API) listProjects(ctx context.Context, _ *struct{}) (*projectList, error) {
	out := &projectList{}
	out.Body.Items = []model.Project{}
	return out, a.DB(ctx).Order("created_at, id").Find(&out.Body.Items).Error
}
