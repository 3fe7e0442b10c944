package guard

import "context"

type (
	tenantKey struct{}
	bypassKey struct{}
)

// decision is what a context says about the tenant. An empty tenant in a decision means WithoutTenant.
type decision struct{ tenant string }

// Bypass marks the context of a statement that the bypass client sends. Only a pool opened with Config.Bypass looks
// at it; to every other pool it means nothing, so a context that escapes from a bypass opens no door.
type Bypass struct {
	// Reason is why the statement may see every tenant's rows. A bypass pool refuses a statement without one.
	Reason string
	// Table names what the statement works on, for the audit trail; empty for raw SQL.
	Table string
	// ReadOnly makes PostgreSQL refuse every write.
	ReadOnly bool
}

// WithTenant returns a context whose statements run for the tenant with this id. An empty id decides nothing:
// statements are refused as if no tenant had been named, also where an outer context named one.
func WithTenant(ctx context.Context, id string) context.Context {
	if id == "" {
		return context.WithValue(ctx, tenantKey{}, (*decision)(nil))
	}
	return context.WithValue(ctx, tenantKey{}, &decision{tenant: id})
}

// WithoutTenant returns a context whose statements run with no tenant at all: shared tables can be used, and no row of
// any tenant's table is visible.
func WithoutTenant(ctx context.Context) context.Context {
	return context.WithValue(ctx, tenantKey{}, &decision{})
}

// Tenant tells what the context says about the tenant: its id, which is empty for WithoutTenant, and whether there is
// a decision at all.
func Tenant(ctx context.Context) (id string, decided bool) {
	d := decisionOf(ctx)
	if d == nil {
		return "", false
	}
	return d.tenant, true
}

// WithBypass returns a context for one statement of the bypass client.
func WithBypass(ctx context.Context, b Bypass) context.Context {
	return context.WithValue(ctx, bypassKey{}, &b)
}

func decisionOf(ctx context.Context) *decision {
	d, _ := ctx.Value(tenantKey{}).(*decision)
	return d
}

func bypassOf(ctx context.Context) *Bypass {
	b, _ := ctx.Value(bypassKey{}).(*Bypass)
	return b
}
