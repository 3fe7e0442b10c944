package api

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/trash"
)

// ByID is the input of a request for one row.
type ByID struct {
	ID string `path:"id" format:"uuid"`
}

// ByVersion is the input of a request that changes a row as the client has seen it.
type ByVersion struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The ETag of the row: the request is refused (412) if the row has changed since" example:"\"1\""`
}

// version reads If-Match.
func (v ByVersion) version() (int64, error) {
	if v.IfMatch == "" {
		return 0, huma.NewError(http.StatusPreconditionRequired, "send the ETag of the row as If-Match")
	}
	text, quoted := strings.CutPrefix(v.IfMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	version, err := strconv.ParseInt(text, 10, 64)
	if !quoted || !closed || err != nil {
		return 0, ErrChanged
	}
	return version, nil
}

// row is a row as the answer to a request.
type row[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// show answers with a row.
func show[T interface{ ETag() string }](r T, err error) (*row[T], error) {
	if err != nil {
		return nil, err
	}
	return &row[T]{ETag: r.ETag(), Body: r}, nil
}

// listed is a page of rows as the answer to a request.
type listed[T any] struct{ Body *page.List[T] }

// change updates a row that has not changed since the client has read it, and returns it. T is a model with a model.Row.
func change[T any](tx *gorm.DB, v ByVersion, changes map[string]any) (r T, err error) {
	version, err := v.version()
	if err != nil {
		return r, err
	}
	changes["version"] = gorm.Expr("version + 1")
	result := tx.Model(&r).Clauses(clause.Returning{}).Where("id = ? AND version = ?", v.ID, version).Updates(changes)
	if result.Error == nil && result.RowsAffected == 0 {
		return r, changed[T](tx, v.ID)
	}
	return r, result.Error
}

// remove deletes a row that has not changed since the client has read it, with what is below it, and returns it as it was.
func remove[T any](tx *gorm.DB, v ByVersion) (r T, err error) {
	version, err := v.version()
	if err != nil {
		return r, err
	}
	err = tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Take(&r, "id = ? AND version = ?", v.ID, version).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		err = changed[T](tx, v.ID)
	}
	if err != nil {
		return r, err
	}
	return r, trash.Delete(tx, new(T), v.ID)
}

// restore undoes remove.
func restore[T any](tx *gorm.DB, id string) (r T, err error) {
	if err := trash.Restore(tx, new(T), id); err != nil {
		return r, err
	}
	return r, tx.Take(&r, "id = ?", id).Error
}

// changed returns why a row with a version could not be found.
func changed[T any](tx *gorm.DB, id string) error {
	if err := tx.Take(new(T), "id = ?", id).Error; err != nil {
		return err
	}
	return ErrChanged
}

// lock returns a row that is not deleted until the transaction ends, for rows that refer to it.
func lock[T any](tx *gorm.DB, id string) (r T, err error) {
	err = tx.Clauses(clause.Locking{Strength: clause.LockingStrengthShare}).Take(&r, "id = ?", id).Error
	return r, err
}

// fields returns what all rows can be sorted and filtered by, and more. The function returns the model.Row of a model.
func fields[T any](of func(T) model.Row, more map[string]page.Field[T]) map[string]page.Field[T] {
	all := map[string]page.Field[T]{
		"created_at": {SQL: "created_at", Type: "timestamptz", Of: func(r T) string { return stamp(of(r).CreatedAt) }},
		"updated_at": {SQL: "updated_at", Type: "timestamptz", Of: func(r T) string { return stamp(of(r).UpdatedAt) }},
	}
	maps.Copy(all, more)
	return all
}

func key[T any](of func(T) model.Row) page.Field[T] {
	return page.Field[T]{SQL: "id", Type: "uuid", Of: func(r T) string { return of(r).ID }}
}

// stamp writes a time as PostgreSQL reads it, to the microsecond that it keeps.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
