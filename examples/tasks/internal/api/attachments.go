package api

import (
	"context"
	"net/http"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
)

func (a *API) attachments() {
	const read, write = "tasks:read", "tasks:write"
	Add(a, Route{
		Method: http.MethodGet, Path: "/v1/tasks/{id}/attachments", ID: "listAttachments", Permission: read,
		Summary: "List attachments of a task", Errors: []int{404},
	}, a.listAttachments)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/tasks/{id}/attachments", ID: "createAttachment", Permission: write,
		Summary: "Describe a file of a task", Status: http.StatusCreated, Errors: []int{404},
	}, a.createAttachment)
	Add(a, Route{
		Method: http.MethodDelete, Path: "/v1/attachments/{id}", ID: "deleteAttachment", Permission: write, Summary: "Delete an attachment",
		Errors: []int{404, 412, 428},
	}, a.deleteAttachment)
}

// AttachmentInput describes a file, which is kept elsewhere.
type AttachmentInput struct {
	Name        string `json:"name" minLength:"1" maxLength:"255"`
	ContentType string `json:"content_type" pattern:"^[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}$" example:"text/plain"`
	Size        int64  `json:"size" minimum:"0" maximum:"1099511627776" doc:"In bytes"`
	SHA256      string `json:"sha256" pattern:"^[0-9a-f]{64}$"`
}

type newAttachment struct {
	ByID
	Body AttachmentInput
}

var attachmentList = func() page.Spec[model.Attachment] {
	of := func(a model.Attachment) model.Row { return a.Row }
	return page.Spec[model.Attachment]{
		Name: "attachments", Sort: "created_at", Key: key(of),
		Fields: fields(of, map[string]page.Field[model.Attachment]{
			"name":         {SQL: "name", Type: "text", Of: func(a model.Attachment) string { return a.Name }},
			"content_type": {SQL: "content_type", Type: "text"},
			"size":         {SQL: "size", Type: "bigint"},
		}),
	}
}()

func (a *API) listAttachments(ctx context.Context, in *ofTask) (*listed[model.Attachment], error) {
	if err := a.DB(ctx).Take(&model.Task{}, "id = ?", in.ID).Error; err != nil {
		return nil, err
	}
	spec := attachmentList
	spec.Name += in.ID
	list, err := page.Find(ctx, a.DB(ctx).Where("task_id = ?", in.ID), a.Cursors, spec, in.Query)
	return &listed[model.Attachment]{list}, err
}

func (a *API) createAttachment(ctx context.Context, in *newAttachment) (*row[model.Attachment], error) {
	b := in.Body
	attachment := model.Attachment{TaskID: in.ID, Name: b.Name, ContentType: b.ContentType, Size: b.Size, SHA256: b.SHA256}
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if _, err := lock[model.Task](tx, in.ID); err != nil {
			return err
		}
		if err := tx.Create(&attachment).Error; err != nil {
			return err
		}
		return a.emit(tx, "attachment.created", attachment)
	})
	return show(attachment, err)
}

func (a *API) deleteAttachment(ctx context.Context, in *ByVersion) (*struct{}, error) {
	return nil, a.Tx(ctx, func(tx *gorm.DB) error {
		attachment, err := remove[model.Attachment](tx, *in)
		if err != nil {
			return err
		}
		return a.emit(tx, "attachment.deleted", attachment)
	})
}
