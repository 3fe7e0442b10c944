// Package trash deletes rows, with what is below them, so that they can be restored. A row that is deleted keeps its place in the table, and GORM
// leaves it out of what is read.
package trash

import (
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
)

// kind is rows that are deleted with others.
type kind struct {
	model, parent any
	column        string
}

// below says which rows are deleted with others, from the top down. Its models are new each time, because GORM writes what it updates into them.
func below() []kind {
	return []kind{
		{&model.Task{}, &model.Project{}, "project_id"},
		{&model.Comment{}, &model.Task{}, "task_id"},
		{&model.Attachment{}, &model.Task{}, "task_id"},
	}
}

// Delete deletes a row, and all that is below it and lives. The model is a pointer to an empty one.
func Delete(tx *gorm.DB, m any, id string) error {
	now, deletion := time.Now(), uuid.NewString()
	mark := func(rows *gorm.DB) error {
		return rows.Updates(map[string]any{"deleted_at": now, "deletion": deletion, "version": gorm.Expr("version + 1")}).Error
	}
	if err := mark(tx.Model(m).Where("id = ?", id)); err != nil {
		return err
	}
	// From the top down, because a row that is marked is locked: requests that add something below it wait, and then do not find it.
	for _, b := range below() {
		parents := tx.Unscoped().Model(b.parent).Select("id").Where("deletion = ?", deletion)
		if err := mark(tx.Model(b.model).Where(b.column+" IN (?)", parents)); err != nil {
			return err
		}
	}
	return nil
}

// Restore brings a deleted row back, and all that was deleted with it. What was deleted before stays deleted. It returns
// gorm.ErrRecordNotFound for a row that is not deleted. The model is a pointer to an empty one.
func Restore(tx *gorm.DB, m any, id string) error {
	var found struct{ Deletion string }
	err := tx.Unscoped().Model(m).Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).
		Where("id = ? AND deleted_at IS NOT NULL", id).Take(&found).Error
	if err != nil {
		return err
	}
	for _, m := range []any{&model.Project{}, &model.Label{}, &model.Task{}, &model.Comment{}, &model.Attachment{}} {
		err := tx.Unscoped().Model(m).Where("deletion = ?", found.Deletion).
			Updates(map[string]any{"deleted_at": nil, "deletion": nil, "version": gorm.Expr("version + 1")}).Error
		if err != nil {
			return err
		}
	}
	return nil
}
