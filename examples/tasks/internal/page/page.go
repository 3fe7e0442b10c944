// Package page lists rows in pages: by cursor, which stays right while rows come and go, or by number, with a total.
//
// What a client may sort and filter by is a list of fields. Its values become arguments of a statement, and its names choose among these fields.
// They never become SQL.
package page

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gormtenancy/tenancy"
)

// Query is what a client asks for. Embed it in the input of a list.
type Query struct {
	Limit  int      `query:"limit" default:"20" minimum:"1" maximum:"100"`
	Cursor string   `query:"cursor" maxLength:"2000" doc:"The next of the page before, with the same sort and filter"`
	Page   int      `query:"page" minimum:"1" maximum:"1000" doc:"A number, in place of a cursor: the answer then has a total"`
	Sort   string   `query:"sort" maxLength:"50" doc:"A field; with - in front, the greatest come first" example:"-created_at"`
	Filter []string `query:"filter,explode" maxItems:"10" doc:"field:operator:value. Operators are eq, ne, lt, lte, gt, gte, in (values between commas), contains and starts" example:"[\"status:eq:open\"]"`
}

// List is a page.
type List[T any] struct {
	Items []T `json:"items" nullable:"false"`
	// Next is the cursor of the next page. It is empty after the last one.
	Next  string `json:"next,omitempty" doc:"The cursor of the next page, if there is one"`
	Total *int64 `json:"total,omitempty" doc:"Of all pages, if a page was asked for by its number"`
}

// Field is what rows are sorted and filtered by. Its SQL is never null.
type Field[T any] struct {
	SQL  string         // a column or an expression
	Type string         // of its values in PostgreSQL, such as "timestamptz"
	Of   func(T) string // its value in a row, as PostgreSQL reads it. Nil means that it is for filters alone
}

// Spec is a list that clients can ask for.
type Spec[T any] struct {
	Name    string // of the list: cursors of another one are refused
	Key     Field[T]
	Fields  map[string]Field[T]
	Preload []string // relations to read with the rows
	Sort    string   // without a Query.Sort; it must be one of Fields
}

// Find returns a page of the rows that db finds.
func Find[T any](ctx context.Context, db *gorm.DB, cursors *Cursors, spec Spec[T], q Query) (*List[T], error) {
	name, descending := strings.CutPrefix(q.Sort, "-")
	if q.Sort == "" {
		name, descending = strings.CutPrefix(spec.Sort, "-")
	}
	field, ok := spec.Fields[name]
	if !ok || field.Of == nil {
		return nil, refuse("query.sort", "it cannot be sorted by this field")
	}
	if q.Page > 0 && q.Cursor != "" {
		return nil, refuse("query.page", "ask for a page by cursor or by number")
	}
	db, err := filter(db.WithContext(ctx), spec.Fields, q.Filter)
	if err != nil {
		return nil, err
	}
	list := &List[T]{Items: []T{}}
	binding := bind(ctx, spec.Name, name, descending, q.Filter)
	direction, after := "", ">"
	if descending {
		direction, after = " DESC", "<"
	}
	switch {
	case q.Page > 0:
		list.Total = new(int64)
		if err := db.Session(&gorm.Session{}).Model(new(T)).Count(list.Total).Error; err != nil {
			return nil, err
		}
		db = db.Offset((q.Page - 1) * q.Limit)
	case q.Cursor != "":
		at, ok := cursors.open(binding, q.Cursor)
		if !ok {
			return nil, refuse("query.cursor", "it must be the next of a page with the same sort and filter")
		}
		db = db.Where(fmt.Sprintf("(%s, %s) %s (?::%s, ?::%s)", field.SQL, spec.Key.SQL, after, field.Type, spec.Key.Type), at.Value, at.Key)
	}
	for _, relation := range spec.Preload {
		db = db.Preload(relation)
	}
	err = db.Order(field.SQL + direction + ", " + spec.Key.SQL + direction).Limit(q.Limit + 1).Find(&list.Items).Error
	if err == nil && len(list.Items) > q.Limit {
		list.Items = list.Items[:q.Limit]
		last := list.Items[q.Limit-1]
		list.Next = cursors.seal(binding, position{Value: field.Of(last), Key: spec.Key.Of(last)})
	}
	return list, err
}

// bind names the list that a cursor is for: it is good for no other tenant, order or filter.
func bind(ctx context.Context, parts ...any) string {
	tenant, _ := tenancy.TenantFromContext(ctx)
	return fmt.Sprintf("%q %q", tenant, parts)
}

func refuse(location, message string) error {
	return huma.Error422UnprocessableEntity("the list cannot be made", &huma.ErrorDetail{Location: location, Message: message})
}
