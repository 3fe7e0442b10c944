package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/examples/internal/web"
)

// listProjects pages through the projects that q finds.
func (a *api) listProjects(w http.ResponseWriter, r *http.Request) error {
	p, err := a.readPage(r)
	if err != nil {
		return err
	}
	projects := []Project{}
	if err := p.scope(a.db.WithContext(r.Context())).Find(&projects).Error; err != nil {
		return err
	}
	var next string
	if len(projects) > p.limit {
		projects = projects[:p.limit]
		last := projects[p.limit-1]
		next = a.cursors.seal(p.binding, position{last.ID, last.Name})
	}
	return web.Write(w, http.StatusOK, struct {
		Projects []Project `json:"projects"`
		Next     string    `json:"next,omitempty"`
	}{projects, next})
}

type projectInput struct{ Name string }

func readProject(w http.ResponseWriter, r *http.Request) (in projectInput, err error) {
	if err := web.Read(w, r, &in); err != nil {
		return in, err
	}
	if !web.IsText(in.Name, 100) {
		return in, web.Refuse(http.StatusBadRequest, "name must be a text of 1 to 100 characters")
	}
	return in, nil
}

func (a *api) addProject(w http.ResponseWriter, r *http.Request) error {
	in, err := readProject(w, r)
	if err != nil {
		return err
	}
	project := Project{Name: in.Name}
	if err := a.db.WithContext(r.Context()).Create(&project).Error; err != nil {
		return err
	}
	return writeProject(w, http.StatusCreated, project)
}

func (a *api) showProject(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	var project Project
	if err := a.db.WithContext(r.Context()).Take(&project, id).Error; err != nil {
		return err
	}
	return writeProject(w, http.StatusOK, project)
}

// renameProject changes a project that has not changed since the client read it.
func (a *api) renameProject(w http.ResponseWriter, r *http.Request) error {
	id, version, err := pathIDAndVersion(r)
	if err != nil {
		return err
	}
	in, err := readProject(w, r)
	if err != nil {
		return err
	}
	var project Project
	result := a.db.WithContext(r.Context()).Model(&project).Clauses(clause.Returning{}).
		Where("id = ? AND version = ?", id, version).
		Updates(map[string]any{"name": in.Name, "version": gorm.Expr("version + 1")})
	if result.Error != nil {
		return result.Error
	}
	if result.RowsAffected == 0 {
		return a.notAsSeen(r, id)
	}
	return writeProject(w, http.StatusOK, project)
}

// deleteProject keeps the row, and sets its deleted_at.
func (a *api) deleteProject(w http.ResponseWriter, r *http.Request) error {
	id, version, err := pathIDAndVersion(r)
	if err != nil {
		return err
	}
	result := a.db.WithContext(r.Context()).Where("id = ? AND version = ?", id, version).Delete(&Project{})
	if result.Error != nil {
		return result.Error
	}
	if result.RowsAffected == 0 {
		return a.notAsSeen(r, id)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// restoreProject undoes deleteProject. Unscoped removes GORM's condition on deleted_at. It does not affect the
// isolation of tenants.
func (a *api) restoreProject(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	var project Project
	result := a.db.WithContext(r.Context()).Unscoped().Model(&project).Clauses(clause.Returning{}).
		Where("id = ? AND deleted_at IS NOT NULL", id).
		Updates(map[string]any{"deleted_at": nil, "version": gorm.Expr("version + 1")})
	if result.Error != nil {
		return result.Error
	}
	if result.RowsAffected == 0 {
		return gorm.ErrRecordNotFound
	}
	return writeProject(w, http.StatusOK, project)
}

// notAsSeen returns why a project could not be changed.
func (a *api) notAsSeen(r *http.Request, id int64) error {
	if err := a.db.WithContext(r.Context()).Take(&Project{}, id).Error; err != nil {
		return err
	}
	return web.Refuse(http.StatusPreconditionFailed, "the project has changed: get it again")
}

// writeProject sends the project's version as its ETag, for If-Match (https://www.rfc-editor.org/rfc/rfc9110#name-if-match).
func writeProject(w http.ResponseWriter, status int, project Project) error {
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, project.Version))
	return web.Write(w, status, project)
}

func pathIDAndVersion(r *http.Request) (id, version int64, err error) {
	if id, err = pathID(r); err != nil {
		return 0, 0, err
	}
	tags := r.Header.Values("If-Match")
	if len(tags) == 0 {
		return 0, 0, web.Refuse(http.StatusPreconditionRequired, "send the ETag of the project as If-Match")
	}
	text, quoted := strings.CutPrefix(strings.Join(tags, ","), `"`)
	text, closed := strings.CutSuffix(text, `"`)
	version, err = strconv.ParseInt(text, 10, 64)
	if !quoted || !closed || err != nil {
		return 0, 0, web.Refuse(http.StatusPreconditionFailed, "If-Match must be the ETag of the project")
	}
	return id, version, nil
}

func pathID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, gorm.ErrRecordNotFound
	}
	return id, nil
}

// addTask puts a task into a project that the tenant has. The transaction takes three round trips: BEGIN travels with the
// first statement.
func (a *api) addTask(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		ProjectID int64 `json:"project_id"`
		Title     string
	}
	if err := web.Read(w, r, &in); err != nil {
		return err
	}
	if !web.IsText(in.Title, 200) {
		return web.Refuse(http.StatusBadRequest, "title must be a text of 1 to 200 characters")
	}
	task := Task{ProjectID: in.ProjectID, Title: in.Title}
	err := a.db.WithContext(r.Context()).Transaction(func(tx *gorm.DB) error {
		// Locked, so that it is not deleted meanwhile.
		if err := tx.Clauses(clause.Locking{Strength: "SHARE"}).Take(&Project{}, in.ProjectID).Error; err != nil {
			return err
		}
		return tx.Create(&task).Error
	})
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return web.Refuse(http.StatusUnprocessableEntity, "there is no such project")
	}
	if err != nil {
		return err
	}
	return web.Write(w, http.StatusCreated, task)
}
