package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

const (
	issuer   = "https://api.example"
	audience = "projects"
	tokenTTL = 10 * time.Minute
)

// login returns a token for the tenant of the request's host. The token is valid for that tenant only. The response is the
// same for an unknown tenant, an unknown user, a missing membership and a wrong password.
func (a *api) login(w http.ResponseWriter, r *http.Request) error {
	var in struct{ Email, Password string }
	if err := web.Read(w, r, &in); err != nil {
		return err
	}
	r = r.WithContext(tenancy.WithoutTenant(r.Context())) // shared tables only
	tenant, err := a.host(r)
	switch {
	case errors.Is(err, tenanthttp.ErrUnknownTenant):
		tenant = noTenant
	case tenanthttp.Status(err) == http.StatusBadRequest:
		return web.Refuse(http.StatusBadRequest, "the host name names no tenant")
	case err != nil:
		return err
	}
	email := strings.ToLower(in.Email)
	attempt := tenant + " " + email
	if !a.attempts.try(attempt) {
		w.Header().Set("Retry-After", "60")
		return web.Refuse(http.StatusTooManyRequests, "too many attempts")
	}
	user, err := a.userOf(r.Context(), tenant, email)
	if err != nil {
		return err
	}
	ok, err := a.passwords.Matches(r.Context(), user.PasswordHash, in.Password)
	if err != nil {
		return err
	}
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return web.Refuse(http.StatusUnauthorized, "wrong email or password")
	}
	a.attempts.succeeded(attempt)
	token, err := a.sign(user.ID, tenant)
	if err != nil {
		return err
	}
	return web.Write(w, http.StatusOK, struct {
		Token     string `json:"token"`
		ExpiresIn int    `json:"expires_in"`
	}{token, int(tokenTTL.Seconds())})
}

// noTenant is an id that no tenant has.
const noTenant = "00000000-0000-0000-0000-000000000000"

// userOf returns the user if it exists and is a member of the tenant, or else the zero value.
func (a *api) userOf(ctx context.Context, tenant, email string) (user User, err error) {
	if !web.IsText(email, 254) {
		email = ""
	}
	err = a.db.WithContext(ctx).
		Joins("JOIN memberships ON memberships.user_id = users.id AND memberships.tenant_id = ?", tenant).
		Where("users.email = ?", email).Limit(1).Find(&user).Error
	return user, err
}

// sign makes a token. It proves who the user is until it expires. What the user may do is read for each request.
func (a *api) sign(user, tenant string) (string, error) {
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": user, "tenant": tenant,
		"iat": now.Unix(), "exp": now.Add(tokenTTL).Unix(),
	}).SignedString(a.key)
}
