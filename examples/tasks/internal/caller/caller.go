// Package caller says who sent a request.
package caller

import "context"

// Caller is who sent a request. Its tenant is tenancy.TenantFromContext.
type Caller struct {
	// Subject is who acts, for roles, flags and the audit trail: "key:<id>".
	Subject string
	KeyID   string
}

type (
	callerKey  struct{}
	requestKey struct{}
)

// With returns a context with the caller.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From returns the caller of a request. It is the zero Caller outside of one, and before its tenant is known.
func From(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// WithRequestID returns a context with the name of a request.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestID returns the name of the request, and "" outside of one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
