package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

func (a *API) keys() {
	Add(a, Route{Method: http.MethodGet, Path: "/v1/keys", ID: "listKeys", Permission: "keys:read", Summary: "List keys"}, a.listKeys)
	Add(a, Route{
		Method: http.MethodPost, Path: "/v1/keys", ID: "createKey", Permission: "keys:write", Summary: "Make a key, whose text is shown once",
		Status: http.StatusCreated, ShowsSecret: true,
	}, a.createKey)
	Add(a, Route{
		Method: http.MethodDelete, Path: "/v1/keys/{id}", ID: "revokeKey", Permission: "keys:write", Summary: "Revoke a key", Errors: []int{404},
	}, a.revokeKey)
}

// KeyInput is what a new key may do, and until when.
type KeyInput struct {
	Name      string     `json:"name" minLength:"1" maxLength:"100"`
	Scopes    []string   `json:"scopes" minItems:"1" maxItems:"50" nullable:"false" doc:"Of those that your own key has" example:"[\"tasks:read\"]"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// NewKey is a key with its text, which is not stored.
type NewKey struct {
	apikey.Key
	Text string `json:"key" doc:"Send it as X-API-Key. It is shown this once"`
}

var keyList = page.Spec[apikey.Key]{
	Name: "keys", Sort: "created_at",
	Key: page.Field[apikey.Key]{SQL: "id", Type: "uuid", Of: func(k apikey.Key) string { return k.ID }},
	Fields: map[string]page.Field[apikey.Key]{
		"created_at": {SQL: "created_at", Type: "timestamptz", Of: func(k apikey.Key) string { return stamp(k.CreatedAt) }},
		"name":       {SQL: "name", Type: "text", Of: func(k apikey.Key) string { return k.Name }},
	},
}

func (a *API) listKeys(ctx context.Context, in *struct{ page.Query }) (*listed[apikey.Key], error) {
	list, err := page.Find(ctx, a.DB(ctx), a.Cursors, keyList, in.Query)
	return &listed[apikey.Key]{list}, err
}

// createKey gives a key no scope that the sender's does not have.
func (a *API) createKey(ctx context.Context, in *struct{ Body KeyInput }) (*struct{ Body NewKey }, error) {
	own, _ := apikey.FromContext(ctx)
	if slices.ContainsFunc(in.Body.Scopes, func(scope string) bool { return !own.Allows(scope) }) {
		return nil, huma.Error403Forbidden("a key cannot have a scope that yours does not have")
	}
	options := apikey.Options{Name: in.Body.Name, Scopes: in.Body.Scopes}
	if in.Body.ExpiresAt != nil {
		options.ExpiresAt = *in.Body.ExpiresAt
	}
	text, key, err := a.Keys.Create(ctx, options)
	return &struct{ Body NewKey }{NewKey{Key: key, Text: text}}, err
}

func (a *API) revokeKey(ctx context.Context, in *ByID) (*struct{}, error) {
	err := a.Keys.Revoke(ctx, in.ID)
	if errors.Is(err, apikey.ErrNotFound) {
		err = gorm.ErrRecordNotFound
	}
	return nil, err
}
