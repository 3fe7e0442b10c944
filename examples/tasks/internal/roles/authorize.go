package roles

import (
	"context"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
)

// Authorize is for api.Seams: it reports api.ErrForbidden unless a role of the caller allows the permission for the resource that the route
// names. The resource is the route itself: "/v1/projects/{project}/tasks" is "projects/<id>/tasks". So a role in "projects/<id>" holds for
// routes below it, and a handler of such a route must look for its rows within the project that the path names.
//
// Routes that change roles are not refused here: Grant and Revoke ask for the scope of the grant, which the path does not have.
func (r *Roles) Authorize(ctx context.Context, permission string) error {
	if permission == changes {
		return nil
	}
	resource, ok := resourceOf(ctx)
	if !ok {
		return api.ErrForbidden
	}
	allowed, err := r.Allows(ctx, caller.From(ctx).Subject, permission, resource)
	if err == nil && !allowed {
		err = api.ErrForbidden
	}
	return err
}

// resourceOf returns the route of a request with its parameters filled in. It returns false outside of a route, and for a parameter that is more
// than one part of a path.
func resourceOf(ctx context.Context) (string, bool) {
	route := chi.RouteContext(ctx)
	if route == nil {
		return "", false
	}
	_, path, ok := strings.Cut(strings.TrimPrefix(route.RoutePattern(), "/"), "/") // without the version
	if !ok {
		return "", false
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}") {
			name, _, _ := strings.Cut(strings.Trim(part, "{}"), ":")
			part = route.URLParam(name)
			if !parameterPattern.MatchString(part) {
				return "", false
			}
			parts[i] = part
		}
	}
	return strings.Join(parts, "/"), true
}
