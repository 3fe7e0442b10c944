package tenancy

import (
	"context"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// WithActor returns a context that says who acts: a user's id, or the name of a job. The records that rls.Isolation.Audits makes of changes
// under it have it as their actor. It is sent in the round trip of each statement, and costs nothing where nothing is said.
//
// In a transaction it holds until a statement's context names another. Text of more than 1024 bytes is cut off. It is what the application
// says, and proves nothing: SQL that a tenant gets to run can say something else in its own statement.
func WithActor(ctx context.Context, actor string) context.Context {
	return guard.WithActor(ctx, actor)
}

// WithRequestID returns a context that says which request a change belongs to, as WithActor says who acts.
func WithRequestID(ctx context.Context, id string) context.Context {
	return guard.WithRequestID(ctx, id)
}
