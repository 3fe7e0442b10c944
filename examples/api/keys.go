package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// keyHeader is where a program sends its API key instead of a token.
const keyHeader = "X-API-Key"

// tenantByKey returns the tenant of the request's API key. The lookup role finds whose key it is, and cannot read the hash. That
// is read as the tenant.
func (a *api) tenantByKey(r *http.Request) (string, error) {
	if r.Header.Get(keyHeader) == "" {
		return "", tenanthttp.ErrNoTenant
	}
	text, secret, _ := strings.Cut(r.Header.Get(keyHeader), ".")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return "", tenanthttp.ErrUnauthenticated
	}
	var found, key APIKey
	lookup := a.db.WithContext(tenancy.WithoutTenant(r.Context()))
	err = lookup.Select("tenant_id").Where("id = ?", id).Take(&found).Error
	if err == nil {
		err = a.db.WithContext(tenancy.WithTenant(r.Context(), found.TenantID)).Where("id = ?", id).Take(&key).Error
	}
	if errors.Is(err, gorm.ErrRecordNotFound) || err == nil && subtle.ConstantTimeCompare(key.Hash, hashOf(secret)) != 1 {
		return "", tenanthttp.ErrUnauthenticated
	}
	return key.TenantID, err
}

// hashOf needs no salt: a secret is random, and longer than what can be guessed.
func hashOf(secret string) []byte {
	hash := sha256.Sum256([]byte(secret))
	return hash[:]
}

// addKey makes a key for a program. The secret is in this response only.
func (a *api) addKey(w http.ResponseWriter, r *http.Request) error {
	secret := rand.Text()
	key := APIKey{Hash: hashOf(secret)}
	if err := a.db.WithContext(r.Context()).Create(&key).Error; err != nil {
		return err
	}
	return web.Write(w, http.StatusCreated, struct {
		ID  int64  `json:"id"`
		Key string `json:"key"`
	}{key.ID, fmt.Sprintf("%d.%s", key.ID, secret)})
}

func (a *api) deleteKey(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return gorm.ErrRecordNotFound
	}
	result := a.db.WithContext(r.Context()).Where("id = ?", id).Delete(&APIKey{})
	if result.Error == nil && result.RowsAffected == 0 {
		return gorm.ErrRecordNotFound
	}
	if result.Error == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return result.Error
}
