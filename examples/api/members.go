package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// caller is who has sent a request, and what he or she may do for its tenant.
type caller struct{ user, role string }

type callerKey struct{}

// withCaller makes room for the caller in the context, which isMember fills in.
func withCaller(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, new(caller))))
	})
}

func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// isMember asks the database with each request, and not the token: a membership can end before a token does.
func (a *api) isMember(r *http.Request, tenant string) (bool, error) {
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

// removeMember ends a membership at once: tokens that the member still has are refused from now on. The table is shared, so
// this is a query that must name the tenant.
func (a *api) removeMember(w http.ResponseWriter, r *http.Request) error {
	email := strings.ToLower(r.PathValue("email"))
	if !web.IsText(email, 254) {
		return gorm.ErrRecordNotFound
	}
	ctx := r.Context()
	tenant, _ := tenancy.TenantFromContext(ctx)
	member := a.db.WithContext(ctx).Model(&User{}).Select("id").Where("email = ?", email)
	result := a.db.WithContext(ctx).Where("tenant_id = ? AND user_id = (?)", tenant, member).
		Where("user_id <> ?", callerOf(ctx).user). // or nobody might be left to let people in again
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
