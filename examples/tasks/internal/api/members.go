package api

import (
	"context"
	"net/http"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

func (a *API) members() {
	Add(a, Route{Method: http.MethodGet, Path: "/v1/members", ID: "listMembers", Permission: "members:read", Summary: "List the people of the tenant"}, a.listMembers)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/members", ID: "createMember", Permission: "members:write", Summary: "Add a person, and say which key is theirs",
		Status: http.StatusCreated, Errors: []int{404, 409},
	}, a.createMember)
}

// MemberInput is what a client says about a person.
type MemberInput struct {
	Email string  `json:"email" format:"email" maxLength:"254"`
	Name  string  `json:"name" minLength:"1" maxLength:"100"`
	KeyID *string `json:"key_id,omitempty" format:"uuid" doc:"A key that no other person has"`
}

var memberList = page.Spec[model.Member]{
	Name: "members", Sort: "email",
	Key: page.Field[model.Member]{SQL: "id", Type: "uuid", Of: func(m model.Member) string { return m.ID }},
	Fields: map[string]page.Field[model.Member]{
		"email": {SQL: "email", Type: "text", Of: func(m model.Member) string { return m.Email }},
		"name":  {SQL: "name", Type: "text", Of: func(m model.Member) string { return m.Name }},
	},
}

func (a *API) listMembers(ctx context.Context, in *struct{ page.Query }) (*listed[model.Member], error) {
	list, err := page.Find(ctx, a.DB(ctx), a.Cursors, memberList, in.Query)
	return &listed[model.Member]{list}, err
}

func (a *API) createMember(ctx context.Context, in *struct{ Body MemberInput }) (*struct{ Body model.Member }, error) {
	out := &struct{ Body model.Member }{model.Member{Email: NormalEmail(in.Body.Email), Name: in.Body.Name, KeyID: in.Body.KeyID}}
	return out, a.Tx(ctx, func(tx *gorm.DB) error {
		if in.Body.KeyID != nil {
			key, err := lock[apikey.Key](tx, *in.Body.KeyID)
			if err != nil {
				return err
			}
			subject := "key:" + key.ID
			out.Body.KeyID, out.Body.Subject = &key.ID, &subject
		}
		return tx.Create(&out.Body).Error
	})
}

// NormalEmail is how an address is stored, so that a person is found by it however it is written.
func NormalEmail(email string) string { return strings.ToLower(email) }
