package api

import (
	"context"
	"net/http"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
)

func (a *API) comments() {
	const read, write = "tasks:read", "tasks:write"
	Add(a, Route{
		Method: http.MethodGet, Path: "/v1/tasks/{id}/comments", ID: "listComments", Permission: read, Summary: "List comments of a task",
		Errors: []int{404},
	}, a.listComments)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/tasks/{id}/comments", ID: "createComment", Permission: write, Summary: "Comment on a task",
		Status: http.StatusCreated, Errors: []int{404},
	}, a.createComment)
	Add(a, Route{
		Method: http.MethodPatch, Path: "/v1/comments/{id}", ID: "updateComment", Permission: write, Summary: "Change a comment",
		Errors: []int{404, 412, 428},
	}, a.updateComment)
	Add(a, Route{
		Method: http.MethodDelete, Path: "/v1/comments/{id}", ID: "deleteComment", Permission: write, Summary: "Delete a comment",
		Errors: []int{404, 412, 428},
	}, a.deleteComment)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/comments/{id}/restore", ID: "restoreComment", Permission: write, Summary: "Restore a comment",
		Errors: []int{404, 409},
	}, a.restoreComment)
}

// CommentInput is what a client says about a comment.
type CommentInput struct {
	Text string `json:"text" minLength:"1" maxLength:"10000"`
}

type newComment struct {
	ByID
	Body CommentInput
}

type commentUpdate struct {
	ByVersion
	Body CommentInput
}

var commentList = func() page.Spec[model.Comment] {
	of := func(c model.Comment) model.Row { return c.Row }
	return page.Spec[model.Comment]{Name: "comments", Sort: "created_at", Key: key(of), Fields: fields(of, map[string]page.Field[model.Comment]{
		"author": {SQL: "author", Type: "text"},
		"text":   {SQL: "text", Type: "text"},
	})}
}()

func (a *API) listComments(ctx context.Context, in *ofTask) (*listed[model.Comment], error) {
	if err := a.DB(ctx).Take(&model.Task{}, "id = ?", in.ID).Error; err != nil {
		return nil, err
	}
	spec := commentList
	spec.Name += in.ID // so that a cursor is for the comments of one task
	list, err := page.Find(ctx, a.DB(ctx).Where("task_id = ?", in.ID), a.Cursors, spec, in.Query)
	return &listed[model.Comment]{list}, err
}

// ofTask is the input of a list of what belongs to a task.
type ofTask struct {
	ByID
	page.Query
}

func (a *API) createComment(ctx context.Context, in *newComment) (*row[model.Comment], error) {
	comment := model.Comment{TaskID: in.ID, Author: caller.From(ctx).Subject, Text: in.Body.Text}
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if _, err := lock[model.Task](tx, in.ID); err != nil {
			return err
		}
		if err := tx.Create(&comment).Error; err != nil {
			return err
		}
		return a.emit(tx, "comment.created", comment)
	})
	return show(comment, err)
}

func (a *API) updateComment(ctx context.Context, in *commentUpdate) (*row[model.Comment], error) {
	var comment model.Comment
	err := a.Tx(ctx, func(tx *gorm.DB) (err error) {
		if comment, err = change[model.Comment](tx, in.ByVersion, map[string]any{"text": in.Body.Text}); err != nil {
			return err
		}
		return a.emit(tx, "comment.updated", comment)
	})
	return show(comment, err)
}

func (a *API) deleteComment(ctx context.Context, in *ByVersion) (*struct{}, error) {
	return nil, a.Tx(ctx, func(tx *gorm.DB) error {
		comment, err := remove[model.Comment](tx, *in)
		if err != nil {
			return err
		}
		return a.emit(tx, "comment.deleted", comment)
	})
}

func (a *API) restoreComment(ctx context.Context, in *ByID) (*row[model.Comment], error) {
	var comment model.Comment
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if err := tx.Unscoped().Take(&comment, "id = ?", in.ID).Error; err != nil {
			return err
		}
		if err := parent[model.Task](tx, comment.TaskID); err != nil {
			return err
		}
		var err error
		if comment, err = restore[model.Comment](tx, in.ID); err != nil {
			return err
		}
		return a.emit(tx, "comment.restored", comment)
	})
	return show(comment, err)
}
