package roles

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
)

// changes is the permission of the routes that change roles.
const changes = "roles:write"

// Routes adds the routes that list, grant and revoke roles.
func (r *Roles) Routes(a *api.API) {
	api.Add(a, api.Route{Method: http.MethodGet, Path: "/v1/roles", ID: "listRoles", Summary: "List who has which role", Permission: "roles:read"}, r.list)
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: "/v1/roles", ID: "grantRole", Summary: "Grant a role that is yours to grant", Permission: changes,
		Status: http.StatusNoContent, Errors: []int{http.StatusConflict},
	}, r.grant)
	api.Add(a, api.Route{
		Method: http.MethodDelete, Path: "/v1/roles", ID: "revokeRole", Summary: "Revoke a role that is yours to grant", Permission: changes,
		Status: http.StatusNoContent, Errors: []int{http.StatusConflict, http.StatusNotFound},
	}, r.revoke)
}

type listed struct {
	Body struct {
		Items []Grant `json:"items"`
	}
}

func (r *Roles) list(ctx context.Context, _ *struct{}) (*listed, error) {
	out := &listed{}
	var err error
	out.Body.Items, err = r.List(ctx)
	return out, err
}

type granting struct {
	Body struct {
		Subject string `json:"subject" maxLength:"121" doc:"Who gets the role, such as key:<id>"`
		Role    string `json:"role" enum:"owner,admin,member,viewer"`
		Scope   string `json:"scope,omitempty" maxLength:"400" default:"*" doc:"* for the whole tenant, or a path such as projects/<id>"`
	}
}

func (r *Roles) grant(ctx context.Context, in *granting) (*struct{}, error) {
	g := Grant{Subject: in.Body.Subject, Role: in.Body.Role, Scope: in.Body.Scope}
	return nil, problem(r.Grant(ctx, caller.From(ctx).Subject, g))
}

type revoking struct {
	Subject string `query:"subject" required:"true" maxLength:"121" doc:"Who loses the role, such as key:<id>"`
	Role    string `query:"role" required:"true" enum:"owner,admin,member,viewer"`
	Scope   string `query:"scope" maxLength:"400" default:"*" doc:"The scope that it was granted for"`
}

func (r *Roles) revoke(ctx context.Context, in *revoking) (*struct{}, error) {
	was, err := r.Revoke(ctx, caller.From(ctx).Subject, Grant{Subject: in.Subject, Role: in.Role, Scope: in.Scope})
	if err == nil && !was {
		err = huma.Error404NotFound("the subject does not have this role")
	}
	return nil, problem(err)
}

// problem turns errors of this package into answers. Others are the API's.
func problem(err error) error {
	switch {
	case errors.Is(err, ErrForbidden):
		return api.ErrForbidden
	case errors.Is(err, ErrMalformed):
		return huma.Error422UnprocessableEntity("a grant needs a subject such as key:<id>, one of the roles, and a scope such as * or projects/<id>")
	case errors.Is(err, ErrLastOwner):
		return huma.Error409Conflict("a tenant needs an owner: grant the role to another first")
	case errors.Is(err, ErrTooMany):
		return huma.Error409Conflict("there are too many grants: revoke some first")
	default:
		return err
	}
}
