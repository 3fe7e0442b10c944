package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Route says what a handler is for, and who may call it.
type Route struct {
	Method, Path string
	// ID names the operation, for generated clients: "createTask".
	ID string
	// Summary is one line for the documentation.
	Summary string
	// Permission is the scope that a key needs, and what Seams.Authorize is asked for: "tasks:write". It must not be empty.
	Permission string
	// Status of an answer without an error. Zero means 200, or 204 without a body.
	Status int
	// ShowsSecret says that the answer has a secret, which idempotency must not store: such a request is never replayed.
	ShowsSecret bool
	// Errors are the statuses that the documentation names beside those of all routes.
	Errors []int
}

// Add adds a route. The handler runs for the tenant of the key, and its statements go through API.DB or API.Tx. What it returns as an error
// becomes a problem: see problem.go.
func Add[I, O any](a *API, route Route, handler func(context.Context, *I) (*O, error)) {
	if route.Permission == "" {
		panic("api: " + route.ID + " has no Permission; DangerouslyAddPublic adds routes for everyone")
	}
	add(a, route, handler)
}

// DangerouslyAddPublic adds a route for everyone, without a key and without a tenant.
func DangerouslyAddPublic[I, O any](a *API, route Route, handler func(context.Context, *I) (*O, error)) {
	if route.Permission != "" {
		panic("api: " + route.ID + " is public, and has a Permission")
	}
	add(a, route, handler)
}

func add[I, O any](a *API, route Route, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: route.ID, Method: route.Method, Path: route.Path, Summary: route.Summary,
		Tags:          []string{strings.SplitN(strings.TrimPrefix(route.Path, "/v1/"), "/", 2)[0]},
		DefaultStatus: route.Status,
		MaxBodyBytes:  maxBody,
		Errors:        append([]int{http.StatusUnprocessableEntity, http.StatusInternalServerError}, route.Errors...),
		Metadata:      map[string]any{routeKey: route},
	}
	if route.Permission != "" {
		op.Security = []map[string][]string{{"key": {}}}
		op.Description = "Needs the scope " + route.Permission + "."
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

// routeKey is where the Metadata of an operation has its Route.
const routeKey = "route"
