package guard

import (
	"context"
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

// Value returns the origin itself for its key, and what the context below has for any other.
func (o *Origin) Value(key any) any {
	if key == (originKey{}) {
		return o
	}
	return o.Context.Value(key)
}

// Enter notes what ctx says about the tenant when the callbacks let the statement pass. What is sent must be for the same
// tenant: a hook could exchange the context in between.
func (o *Origin) Enter(ctx context.Context) {
	o.tenant, _ = decisionOf(ctx)
	o.entered, o.Proofs = true, nil
}

// Changed reports whether ctx says something else about the tenant than the context at Enter did.
func (o *Origin) Changed(ctx context.Context) bool {
	if !o.entered {
		return false
	}
	d, err := decisionOf(ctx)
	switch {
	case d == o.tenant:
		return err != nil
	case d == nil || o.tenant == nil:
		return true
	}
	return d.tenant != o.tenant.tenant
}

// OriginOf returns the innermost origin in ctx, or nil.
func OriginOf(ctx context.Context) *Origin {
	o, _ := ctx.Value(originKey{}).(*Origin)
	return o
}

// originFor returns the origin of the statement with this text, and nil if there is none: for what did not come through
// GORM's callbacks.
func originFor(ctx context.Context, sql string) *Origin {
	if o := OriginOf(ctx); o != nil && o.SQL.String() == sql {
		return o
	}
	return nil
}

// Proof is a question that PostgreSQL must answer with yes before a statement runs, in the statement's own transaction and
// round trip. It is asked again when the last yes is older than Valid, and whenever SQL of the caller that may have changed
// what a name means has run on the connection since it was borrowed.
type Proof struct {
	// SQL is a single SELECT with parameters. It raises an error where the answer is no; the statement then does not run,
	// and its error is what Refuse makes of PostgreSQL's.
	SQL    string
	Args   [][]byte // the parameters in text format, as UTF-8
	Refuse func(error) error
	Valid  time.Duration

	yes atomic.Int64 // when PostgreSQL said yes last, in nanoseconds of Unix time; 0 for never
}

// age is by how much proofs are older than they say.
var age atomic.Int64

// AgeProofs makes all proofs of the process older. Tests use it instead of waiting.
func AgeProofs(by time.Duration) { age.Add(int64(by)) }

// Now is the time by which proofs grow old.
func Now() time.Time { return time.Now().Add(time.Duration(age.Load())) }

// Due reports whether the last yes is too old.
func (p *Proof) Due(now time.Time) bool { return now.UnixNano()-p.yes.Load() > int64(p.Valid) }

// Yes notes that PostgreSQL has said yes at this time. The zero time takes it back.
func (p *Proof) Yes(at time.Time) {
	if at.IsZero() {
		p.yes.Store(0)
		return
	}
	p.yes.Store(at.UnixNano())
}

// Raises reports whether an error is the one that PostgreSQL raises for current_setting of a setting with this name, which
// no one has, and not one from within a function.
func Raises(err error, name string) bool { return raises(err, name) }
