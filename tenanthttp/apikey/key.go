package apikey

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// Key is what is stored of an API key. The secret is not in it. It is a model of GORM: migrate it with your own, or embed it in one whose
// tenant column has the type that your other tables have.
//
//	type APIKey struct {
//		apikey.Key
//		TenantID string `gorm:"type:uuid;not null"`
//	}
type Key struct {
	// ID is a random UUID, which the key shows without its dashes.
	ID       string `json:"id" gorm:"primaryKey;type:uuid;default:gen_random_uuid()"`
	TenantID string `json:"-" gorm:"not null"`
	// Name is for people, and says what the key is used for.
	Name string `json:"name" gorm:"not null"`
	// Scopes says what the key may do: words between spaces, as in OAuth (RFC 6749 section 3.3). Empty means nothing that
	// [RequireScope] guards.
	Scopes string `json:"scopes" gorm:"not null"`
	// Hash is the HMAC-SHA-256 of id and secret under the pepper of version Pepper.
	Hash      []byte    `json:"-" gorm:"not null"`
	Pepper    int       `json:"-" gorm:"not null"`
	CreatedAt time.Time `json:"created_at" gorm:"not null"`
	// ExpiresAt is when the key ends. Nil means never.
	ExpiresAt *time.Time `json:"expires_at"`
	// LastUsedAt is when the key was used, within Config.LastUsedEvery. Nil means never.
	LastUsedAt *time.Time `json:"last_used_at"`
	// RevokedAt is when the key was revoked. Nil means that it was not.
	RevokedAt *time.Time `json:"revoked_at"`
}

// TableName is the name of the table.
func (Key) TableName() string { return "api_keys" }

// Allows reports whether the key has the scope.
func (k Key) Allows(scope string) bool {
	return scope != "" && slices.Contains(strings.Fields(k.Scopes), scope)
}

type noteKey struct{}

// FromContext returns the key that the request of this context was sent with. It returns false for a request that was accepted
// otherwise, such as by a token, and outside of [tenanthttp.Middleware].
//
// [tenanthttp.Middleware]: https://pkg.go.dev/github.com/gormtenancy/tenancy/tenanthttp#Middleware
func FromContext(ctx context.Context) (Key, bool) {
	tenant, _ := tenancy.TenantFromContext(ctx)
	return noted(ctx, tenant)
}

// FromRequest is FromContext for functions that get the tenant beside the request, because it is not decided yet: those of
// tenanthttp.Authorize.
func FromRequest(r *http.Request, tenant string) (Key, bool) { return noted(r.Context(), tenant) }

// noted returns the key that a resolver has verified for this tenant.
func noted(ctx context.Context, tenant string) (Key, bool) {
	key, ok := request.Of(ctx).Get(noteKey{}).(Key)
	if !ok || tenant == "" || key.TenantID != tenant {
		return Key{}, false
	}
	return key, true
}

// RequireScope is a function for tenanthttp.Require that lets requests pass which were sent with a key that has the scope, and no others:
// also none with a token.
func RequireScope(scope string) func(r *http.Request, tenant string) (bool, error) {
	return func(r *http.Request, tenant string) (bool, error) {
		key, ok := FromRequest(r, tenant)
		return ok && key.Allows(scope), nil
	}
}
