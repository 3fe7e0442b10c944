package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// Origin is the context of a statement on its way through GORM's callbacks, and says what they know about it.
//
// Contexts travel further than the statement they were made for: hooks and associations send statements of their own under
// it. So an origin counts only for the statement whose text is exactly the one that GORM holds in SQL.
type Origin struct {
	context.Context

	// SQL is the buffer in which GORM builds the statement's text.
	SQL *strings.Builder

	// Proofs are asked for in the statement's transaction, before it runs, as each of them demands.
	Proofs []*Proof

	// Alone, if not nil, reports whether a transaction that was begun under this context can be left out: nothing follows the
	// statement in it, and nothing of what the client does with the answer can fail. It is called when the statement is about
	// to be sent.
	CanAutocommit func() bool

	// Autocommitted says that the statement was sent without that transaction, and that its answer told the outcome of the commit.
	Autocommitted bool

	// PlansEach has PostgreSQL plan the statement for its arguments each time, and not keep a plan for all.
	PlansEach bool

	over    atomic.Bool
	own     bool      // the plugin has written the text
	entered bool      // Enter was called
	tenant  *decision // what the context said then
}

type originKey struct{}

// Own returns a context for a question of the plugin's, with exactly this text, that leaves nothing in the session.
func Own(ctx context.Context, sql string) context.Context {
	o := &Origin{Context: ctx, SQL: &strings.Builder{}, own: true}
	o.SQL.WriteString(sql)
	return o
}

// tenantQuestion is no SQL, and is never sent.
const tenantQuestion = "tenancy: the tenant of the transaction"

// TransactionTenant returns the tenant that a statement with this context runs for in a transaction, or an error if it would be
// refused. Nothing is sent.
func TransactionTenant(ctx context.Context, tx interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (id string, err error) {
	err = tx.QueryRowContext(Own(ctx, tenantQuestion), tenantQuestion).Scan(&id)
	return id, err
}

// asksTenant reports whether this is the origin of the question above.
func (o *Origin) asksTenant(sql string) bool { return o != nil && o.own && sql == tenantQuestion }

// tenantRow answers it.
type tenantRow struct {
	tenant string
	read   bool
}

func (r *tenantRow) Columns() []string { return []string{"tenant"} }
func (r *tenantRow) Close() error      { return nil }

func (r *tenantRow) Next(dest []driver.Value) error {
	if r.read {
		return io.EOF
	}
	dest[0], r.read = r.tenant, true
	return nil
}

// Value returns the origin itself for its key, and what the context below has for any other.
func (o *Origin) Value(key any) any {
	if key == (originKey{}) {
		return o
	}
	return o.Context.Value(key)
}

// End says that the statement is over, so that SQL is not looked at any more: a goroutine that a hook has started may send
// something under the context while GORM uses the buffer for the next statement.
func (o *Origin) End() { o.over.Store(true) }

// Of reports whether this is the origin of the statement that is built in sql, and not over. A nil origin is none.
func (o *Origin) Of(sql *strings.Builder) bool { return o != nil && o.SQL == sql && !o.over.Load() }

// Enter notes what ctx says about the tenant when the callbacks let the statement pass. What is sent must be for the same
// tenant: a hook could exchange the context in between.
func (o *Origin) Enter(ctx context.Context) {
	o.tenant, _ = decisionOf(ctx)
	o.entered, o.Proofs, o.CanAutocommit, o.Autocommitted, o.PlansEach = true, nil, nil, false, false
}

// Changed reports whether ctx names another tenant than the context at Enter did. Where one of them says nothing, the
// statement inherits from its transaction, which is for one tenant, or is refused for that.
func (o *Origin) Changed(ctx context.Context) bool {
	if !o.entered || o.tenant == nil {
		return false
	}
	d, err := decisionOf(ctx)
	return err == nil && d != nil && d != o.tenant && d.tenant != o.tenant.tenant
}

// OriginOf returns the innermost origin in ctx, or nil.
func OriginOf(ctx context.Context) *Origin {
	o, _ := ctx.Value(originKey{}).(*Origin)
	return o
}

// originFor returns the origin of the statement with this text, and nil if there is none: for what did not come through
// GORM's callbacks.
func originFor(ctx context.Context, sql string) *Origin {
	if o := OriginOf(ctx); o != nil && !o.over.Load() && o.SQL.String() == sql {
		return o
	}
	return nil
}

// Proof is a question that PostgreSQL must answer with yes before a statement runs, in the statement's own transaction and
// round trip. It is asked again when the last yes is older than Valid, and whenever SQL of the caller that may have changed
// what a name means has run on the connection since it was borrowed.
type Proof struct {
	// SQL is a single SELECT with parameters, of one row and two columns. It raises an error where the answer is no; the
	// statement then does not run, and its error is what Refuse makes of PostgreSQL's. A yes whose second column is NULL is for
	// this statement alone; the first column is what Noted gets.
	SQL    string
	Args   [][]byte // the parameters in text format, as UTF-8
	Refuse func(error) error
	Valid  time.Duration
	Noted  func(answer string) // called with each yes that counts for other statements; may be nil

	yes atomic.Int64 // when PostgreSQL said yes last, in nanoseconds of Unix time; 0 for never
}

// Due reports whether the last yes is too old.
func (p *Proof) Due(now time.Time) bool { return now.UnixNano()-p.yes.Load() > int64(p.Valid) }

// Yes notes that PostgreSQL has said yes at this time.
func (p *Proof) Yes(at time.Time, answer string) {
	p.yes.Store(at.UnixNano())
	if p.Noted != nil {
		p.Noted(answer)
	}
}
