package main

import (
	"errors"
	"net/http"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// keyHeader is where a program sends its API key instead of a token.
const keyHeader = "X-API-Key"

// newKeys are keys that live in the table of apikey.Key. The lookup role finds whose key it is, and cannot read the hash. That is read
// as the tenant.
func newKeys(db *gorm.DB, cfg config) (*apikey.Keys, error) {
	pepper, err := derive(cfg.key, "API keys")
	if err != nil {
		return nil, err
	}
	return apikey.New(apikey.Config{
		Prefix:      "projects",
		Environment: "live",
		Peppers:     []apikey.Pepper{{Version: 1, Secret: pepper}},
		Store:       apikey.NewStore(db),
		Header:      keyHeader,
	})
}

// addKey makes a key for a program. The secret is in this response only.
func (a *api) addKey(w http.ResponseWriter, r *http.Request) error {
	text, key, err := a.keys.Create(r.Context(), apikey.Options{Name: "a program", ExpiresAt: time.Now().AddDate(1, 0, 0)})
	if err != nil {
		return err
	}
	return web.Write(w, http.StatusCreated, struct {
		ID  string `json:"id"`
		Key string `json:"key"`
	}{key.ID, text})
}

func (a *api) deleteKey(w http.ResponseWriter, r *http.Request) error {
	switch err := a.keys.Revoke(r.Context(), r.PathValue("id")); {
	case errors.Is(err, apikey.ErrNotFound):
		return gorm.ErrRecordNotFound
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
