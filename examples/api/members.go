package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// caller is the user who sent a request, and the user's role at its tenant.
type caller struct{ user, role string }

type callerKey struct{}

// withCaller puts an empty caller into the context. isMember fills it in.
func withCaller(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, new(caller))))
	})
}

func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// isMember asks the database for each request, because a membership can end before a token does. An API key is as good as a
// member.
func (a *api) isMember(r *http.Request, tenant string) (bool, error) {
	if _, ok := apikey.FromRequest(r, tenant); ok {
		callerOf(r.Context()).role = "member"
		return true, nil
	}
	if r.Header.Get(keyHeader) != "" {
		return false, nil // another tenant's key
	}
	claims, err := a.tokens.Claims(r)
	if err != nil {
		return false, err
	}
	user, err := claims.GetSubject()
	if err != nil {
		return false, tenanthttp.ErrUnauthenticated
	}
	var membership Membership
	err = a.db.WithContext(r.Context()).Where("user_id = ? AND tenant_id = ?", user, tenant).Take(&membership).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return false, nil
	}
	*callerOf(r.Context()) = caller{user, membership.Role}
	return err == nil, err
}

func isAdmin(r *http.Request, _ string) (bool, error) {
	return callerOf(r.Context()).role == "admin", nil
}

// removeMember ends a membership at once: the member's tokens are refused from now on.
func (a *api) removeMember(w http.ResponseWriter, r *http.Request) error {
	email := strings.ToLower(r.PathValue("email"))
	if !web.IsText(email, 254) {
		return gorm.ErrRecordNotFound
	}
	ctx := r.Context()
	member := a.db.WithContext(ctx).Model(&User{}).Select("id").Where("email = ?", email)
	result := a.db.WithContext(ctx).Where("user_id = (?)", member).
		Where("user_id <> ?", callerOf(ctx).user). // an admin cannot lock out the tenant
		Delete(&Membership{})
	if result.Error != nil {
		return result.Error
	}
	if result.RowsAffected == 0 {
		return gorm.ErrRecordNotFound
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
