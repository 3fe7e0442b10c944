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

// Origin is the context of a statement while it passes GORM's callbacks, and tells the guard what they know about it.
//
// Hooks and associations send statements of their own under the same context. So an origin counts only for the statement whose
// text is exactly the one that GORM holds in SQL.
type Origin struct {
	context.Context

	// SQL is the buffer in which GORM builds the statement's text.
	SQL *strings.Builder

	// Proofs are the questions that PostgreSQL must say yes to before the statement runs.
	Proofs []*Proof

	// CanAutocommit, if not nil, reports whether the statement can be sent without the BEGIN and COMMIT of a transaction that was
	// begun under this context: no statement follows in it, and the client cannot fail to read the result. It is called just before
	// the statement is sent.
	CanAutocommit func() bool

	// Autocommitted says that the statement was sent in that way, so that its result includes that of the commit.
	Autocommitted bool

	// PlansEach makes PostgreSQL plan the statement for its arguments each time, and keep no generic plan.
	PlansEach bool

	// Observed says that the plugin has reported the statement as one without a tenant.
	Observed bool

	over    atomic.Bool
	own     bool      // the plugin has written the SQL text
	entered bool      // Enter was called
	tenant  *decision // of the context at Enter
}

type originKey struct{}

// Own returns a context for a question of the plugin itself, with exactly this text, which leaves nothing in the session.
func Own(ctx context.Context, sql string) context.Context {
	o := &Origin{Context: ctx, SQL: &strings.Builder{}, own: true}
	o.SQL.WriteString(sql)
	return o
}

// tenantQuestion is no SQL, and is never sent.
const tenantQuestion = "tenancy: the tenant of the transaction"

// TransactionTenant returns the tenant that a statement with this context runs for in a transaction, or the error with which it
// would be refused. Nothing is sent.
func TransactionTenant(ctx context.Context, tx interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (id string, err error) {
	err = tx.QueryRowContext(Own(ctx, tenantQuestion), tenantQuestion).Scan(&id)
	return id, err
}

// asksTenant reports whether this is the origin of that question.
func (o *Origin) asksTenant(sql string) bool { return o != nil && o.own && sql == tenantQuestion }

// tenantRow is the result of that question.
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

// End says that the statement is over, and SQL is not read any more: GORM may use the buffer for the next statement while a
// goroutine that a hook has started sends something under this context.
func (o *Origin) End() { o.over.Store(true) }

// Of reports whether this is the origin of the statement that is built in sql, and not over. It returns false for nil.
func (o *Origin) Of(sql *strings.Builder) bool { return o != nil && o.SQL == sql && !o.over.Load() }

// Enter notes the tenant of ctx when the callbacks let the statement pass. The statement must be sent for the same tenant, and a
// hook could replace the context before.
func (o *Origin) Enter(ctx context.Context) {
	o.tenant, _ = decisionOf(ctx)
	o.entered, o.Proofs, o.CanAutocommit, o.Autocommitted, o.PlansEach, o.Observed = true, nil, nil, false, false, false
}

// Changed reports whether ctx names another tenant than the context at Enter. If one of them says nothing, the statement
// inherits the tenant of its transaction, or is refused for that.
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

// originFor returns the origin of the statement with this text, and nil for a statement that has not passed GORM's callbacks.
func originFor(ctx context.Context, sql string) *Origin {
	if o := OriginOf(ctx); o != nil && !o.over.Load() && o.SQL.String() == sql {
		return o
	}
	return nil
}

// Proof is a question that PostgreSQL must answer with yes before a statement runs, in the statement's own transaction and round
// trip. It is asked again when the last yes is older than Valid. It is also asked again after SQL of the caller has run on the
// connection, which may have changed what a name means.
type Proof struct {
	// SQL is a single SELECT with parameters, of one row and two columns. If the answer is no, it raises an error, so that the
	// statement does not run, and Refuse makes the statement's error of it. Noted gets the first column. If the second column is
	// NULL, the yes is for this statement alone.
	SQL    string
	Args   [][]byte // the parameters in text format, as UTF-8
	Refuse func(error) error
	Valid  time.Duration
	Noted  func(answer string) // called with each yes that counts for other statements; may be nil
	Server *Server             // with Config.Place, the server that a yes is about

	yes atomic.Int64 // time of the last yes, in nanoseconds of Unix time; 0 for never
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
