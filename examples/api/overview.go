package main

import (
	"net/http"

	"github.com/gormtenancy/tenancy/examples/internal/web"
)

// summary is a line of the overview.
type summary struct {
	Project string `json:"project"`
	Tasks   int    `json:"tasks"`
}

// overview takes two statements, whatever the number of projects.
func (a *api) overview(w http.ResponseWriter, r *http.Request) error {
	var projects []Project
	err := a.db.WithContext(r.Context()).Preload("Tasks").Order("id").Limit(defaultLimit).Find(&projects).Error
	if err != nil {
		return err
	}
	return writeOverview(w, projects)
}

// overviewSlowly returns the same with one more statement for each project. It is here to be found in the log.
func (a *api) overviewSlowly(w http.ResponseWriter, r *http.Request) error {
	db := a.db.WithContext(r.Context())
	var projects []Project
	if err := db.Order("id").Limit(defaultLimit).Find(&projects).Error; err != nil {
		return err
	}
	for i := range projects {
		if err := db.Where("project_id = ?", projects[i].ID).Find(&projects[i].Tasks).Error; err != nil {
			return err
		}
	}
	return writeOverview(w, projects)
}

func writeOverview(w http.ResponseWriter, projects []Project) error {
	summaries := make([]summary, len(projects))
	for i, p := range projects {
		summaries[i] = summary{p.Name, len(p.Tasks)}
	}
	return web.Write(w, http.StatusOK, summaries)
}
