package guard

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxTenantBytes bounds a tenant's id. It is far above any real id, and keeps a hostile one from being sent with each statement.
const maxTenantBytes = 1024

var (
	errEmptyTenant   = errors.New("the tenant's id is empty")
	errInvalidTenant = errors.New("the tenant's id must be valid UTF-8 without NUL, of at most 1024 bytes")
)

type (
	tenantKey struct{}
	bypassKey struct{}
)

// decision is what a context says about the tenant.
type decision struct {
	tenant string // empty for WithoutTenant
	lookup bool   // WithoutTenant: a lookup, under Config.LookupRole
	text   []byte // the tenant as a parameter; never nil, which would be NULL
	err    error  // why the id cannot be used; every statement under it is refused
}

// Bypass in a context lets a statement pass a pool with Config.Bypass. All other pools ignore it, so that a context that leaves
// the bypass client allows nothing elsewhere.
type Bypass struct {
	// Reason is why the statement may see every tenant's rows. A bypass pool refuses a statement without a reason.
	Reason string
	// Table is what the audit trail names; empty for raw SQL.
	Table string
	// ReadOnly makes PostgreSQL refuse every write.
	ReadOnly bool
}

// WithTenant returns a context whose statements run for the tenant with this id. An id that is empty, longer than 1024 bytes, or
// that PostgreSQL cannot store is no tenant: every statement under it is refused with ErrNoTenant, also in a transaction that
// has a tenant.
func WithTenant(ctx context.Context, id string) context.Context {
	d := &decision{tenant: id, text: append([]byte{}, id...)}
	switch {
	case id == "":
		d.err = errEmptyTenant
	case len(id) > maxTenantBytes, strings.ContainsRune(id, 0), !utf8.ValidString(id):
		d.err = errInvalidTenant
	}
	return context.WithValue(ctx, tenantKey{}, d)
}

// WithoutTenant returns a context whose statements run for no tenant: they can use shared tables, and see no row of a tenant
// table.
func WithoutTenant(ctx context.Context) context.Context {
	return context.WithValue(ctx, tenantKey{}, &decision{text: []byte{}, lookup: true})
}

// InTenantRole returns a context whose statements run with no tenant, under the role of tenants' statements and not under
// Config.LookupRole: for questions about that role, and for migrations.
func InTenantRole(ctx context.Context) context.Context {
	return context.WithValue(ctx, tenantKey{}, &decision{text: []byte{}})
}

// Decision is what one context says about the tenant, to be given to contexts that say nothing. Only DecisionOf makes one.
type Decision struct{ d *decision }

// DecisionOf returns the decision that statements under ctx run with. If there is none, it returns an ErrNoTenant that says why.
func DecisionOf(ctx context.Context) (Decision, error) {
	d, err := decisionOf(ctx)
	if d == nil && err == nil {
		err = ErrNoTenant
	}
	return Decision{d}, err
}

// For returns ctx if it carries the same decision, and a context with this decision if ctx carries none. It returns an error if
// ctx carries another decision, or one that cannot be used.
func (b Decision) For(ctx context.Context) (context.Context, error) {
	d, err := decisionOf(ctx)
	switch {
	case err != nil:
		return ctx, err
	case d == nil:
		return context.WithValue(ctx, tenantKey{}, b.d), nil
	case d.tenant != b.d.tenant:
		return ctx, errForeignBound
	default:
		return ctx, nil
	}
}

// Equal reports whether both decisions are for the same tenant, or both for none.
func (b Decision) Equal(other Decision) bool { return b.d.tenant == other.d.tenant }

// Tenant returns the id of the context's tenant, which is empty for WithoutTenant, and whether the context carries a decision
// that statements can run under.
func Tenant(ctx context.Context) (id string, decided bool) {
	d, err := decisionOf(ctx)
	if d == nil || err != nil {
		return "", false
	}
	return d.tenant, true
}

// CheckTenant returns nil if the context carries such a decision, and an ErrNoTenant that says why not otherwise.
func CheckTenant(ctx context.Context) error {
	d, err := decisionOf(ctx)
	if d == nil && err == nil {
		return ErrNoTenant
	}
	return err
}

// WithBypass returns a context for statements of the bypass client.
func WithBypass(ctx context.Context, b Bypass) context.Context {
	return context.WithValue(ctx, bypassKey{}, &b)
}

// decisionOf returns nil if ctx says nothing about the tenant, and an error if what it says cannot be used.
func decisionOf(ctx context.Context) (*decision, error) {
	d, _ := ctx.Value(tenantKey{}).(*decision)
	if d != nil && d.err != nil {
		return nil, wrap(ErrNoTenant, d.err)
	}
	return d, nil
}

func bypassOf(ctx context.Context) *Bypass {
	b, _ := ctx.Value(bypassKey{}).(*Bypass)
	return b
}

// scope is what a statement or a transaction runs for: a tenant, none, or a bypass.
type scope struct {
	tenant string  // empty: no tenant
	text   []byte  // the tenant as a parameter
	bypass *Bypass // not nil on a bypass pool, and only there
	lookup bool    // runs under Config.LookupRole, if there is one

	observed bool // would be refused without Config.Observe
}

// isWithoutTenant reports whether the scope is that of WithoutTenant.
func (s scope) isWithoutTenant() bool { return s.tenant == "" && s.bypass == nil }

func (s scope) readOnly() bool { return s.bypass != nil && s.bypass.ReadOnly }

// scope decides which tenant a statement with this context runs for, or refuses it. In a transaction a context that says nothing
// inherits the transaction's tenant, and one that names another tenant is refused. A transaction without a tenant takes that of
// its first statement: it has seen no tenant's rows before.
func (c *conn) scope(ctx context.Context) (scope, error) {
	if c.cfg.Bypass {
		return c.bypassScope(ctx)
	}
	d, err := decisionOf(ctx)
	switch {
	case err != nil:
		return scope{}, err
	case d == nil && (c.tx == nil || !c.tx.decided):
		if c.cfg.Observe != nil {
			return scope{text: []byte{}, observed: true}, nil
		}
		return scope{}, ErrNoTenant
	case d == nil:
		return c.tx.scope, nil
	case c.tx != nil && c.tx.scope.tenant != "" && c.tx.scope.tenant != d.tenant:
		return scope{}, errForeignTx
	default:
		return scope{tenant: d.tenant, text: d.text, lookup: d.lookup}, nil
	}
}

// beginScope decides which tenant a transaction runs for. If its context says nothing, it has no tenant yet.
func (c *conn) beginScope(ctx context.Context) (s scope, decided bool, err error) {
	if !c.cfg.Bypass {
		if d, err := decisionOf(ctx); d == nil && err == nil {
			return scope{text: []byte{}}, false, nil
		}
	}
	s, err = c.scope(ctx)
	return s, err == nil, err
}

// adopt gives a transaction the scope of the statement that is about to be sent in it. An observed statement decides nothing.
func (t *tx) adopt(s scope) {
	if t != nil && s.bypass == nil {
		t.scope, t.decided = s, !s.observed
	}
}

func (c *conn) bypassScope(ctx context.Context) (scope, error) {
	mark := bypassOf(ctx)
	switch {
	case c.tx != nil && mark == nil:
		return c.tx.scope, nil
	case mark == nil || mark.Reason == "":
		return scope{}, errNoReason
	case c.tx != nil && c.tx.scope.readOnly() && !mark.ReadOnly:
		return scope{}, errReadOnlyTx
	case c.tx != nil && !c.tx.scope.readOnly() && mark.ReadOnly:
		return scope{}, errReadOnlyIn
	default:
		return scope{text: []byte{}, bypass: mark}, nil
	}
}
