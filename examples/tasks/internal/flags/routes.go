package flags

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/caller"
)

// Routes adds the routes that show flags as they are for the caller, and that change a tenant's overrides.
func (f *Flags) Routes(a *api.API) {
	api.Add(a, api.Route{Method: http.MethodGet, Path: "/v1/flags", ID: "listFlags", Summary: "List the flags as they are for the caller", Permission: "flags:read"}, f.list)
	api.Add(a, api.Route{Method: http.MethodGet, Path: "/v1/flags/overrides", ID: "listFlagOverrides", Summary: "List the tenant's overrides", Permission: "flags:write"}, f.listOverrides)
	api.Add(a, api.Route{
		Method: http.MethodPut, Path: "/v1/flags/{flag}/override", ID: "overrideFlag", Summary: "Override a flag for the tenant, a part of its users, or one of them",
		Permission: "flags:write", Status: http.StatusNoContent, Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, f.override)
	api.Add(a, api.Route{
		Method: http.MethodDelete, Path: "/v1/flags/{flag}/override", ID: "clearFlagOverride", Summary: "Remove an override",
		Permission: "flags:write", Status: http.StatusNoContent, Errors: []int{http.StatusNotFound},
	}, f.clear)
}

type states struct {
	Body struct {
		Items []State `json:"items"`
	}
}

func (f *Flags) list(ctx context.Context, _ *struct{}) (*states, error) {
	out := &states{}
	out.Body.Items = f.All(ctx, caller.From(ctx).Subject)
	return out, nil
}

type override struct {
	Flag      string    `json:"flag"`
	Subject   string    `json:"subject,omitempty" doc:"Absent for the whole tenant"`
	Variant   string    `json:"variant"`
	Percent   int       `json:"percent" doc:"The part of the tenant's users that get the variant"`
	SetBy     string    `json:"set_by"`
	UpdatedAt time.Time `json:"updated_at"`
}

type overrides struct {
	Body struct {
		Items []override `json:"items"`
	}
}

func (f *Flags) listOverrides(ctx context.Context, _ *struct{}) (*overrides, error) {
	all, err := f.Overrides(ctx)
	out := &overrides{}
	out.Body.Items = make([]override, len(all))
	for i, o := range all {
		out.Body.Items[i] = override{o.Flag, o.Subject, o.Variant, o.Percent, o.SetBy, o.UpdatedAt}
	}
	return out, err
}

type overriding struct {
	Flag string `path:"flag" maxLength:"63"`
	Body struct {
		Variant string `json:"variant" maxLength:"63"`
		Subject string `json:"subject,omitempty" maxLength:"121" pattern:"^[A-Za-z0-9._@:-]*$" doc:"A user, such as key:<id>. Absent for the whole tenant"`
		Percent *int   `json:"percent,omitempty" minimum:"0" maximum:"100" doc:"The part of the tenant's users that get the variant; 100 if absent"`
	}
}

func (f *Flags) override(ctx context.Context, in *overriding) (*struct{}, error) {
	o := Override{Flag: in.Flag, Subject: in.Body.Subject, Variant: in.Body.Variant, Percent: 100, SetBy: caller.From(ctx).Subject}
	if in.Body.Percent != nil {
		o.Percent = *in.Body.Percent
	}
	return nil, problem(f.Put(ctx, o))
}

type clearing struct {
	Flag    string `path:"flag" maxLength:"63" pattern:"^[a-z0-9-]*$"`
	Subject string `query:"subject" maxLength:"121" pattern:"^[A-Za-z0-9._@:-]*$" doc:"The user that it is for. Absent for the whole tenant"`
}

func (f *Flags) clear(ctx context.Context, in *clearing) (*struct{}, error) {
	was, err := f.Clear(ctx, in.Flag, in.Subject)
	if err == nil && !was {
		err = huma.Error404NotFound("there is no such override")
	}
	return nil, err
}

// problem turns errors of this package into answers. Others are the API's.
func problem(err error) error {
	switch {
	case errors.Is(err, ErrUnknownFlag):
		return huma.Error404NotFound("there is no such flag")
	case errors.Is(err, ErrUnknownVariant):
		return huma.Error422UnprocessableEntity("the flag has no such variant")
	case errors.Is(err, ErrPercent):
		return huma.Error422UnprocessableEntity("the percentage must be from 0 to 100, and 100 for a single user")
	case errors.Is(err, ErrTooMany):
		return huma.Error409Conflict("there are too many overrides: remove some first")
	default:
		return err
	}
}
