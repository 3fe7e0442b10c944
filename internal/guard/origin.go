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

	// Own says that the plugin has written the text, and that it leaves nothing in the session.
	Own bool

	// Proofs are asked for in the statement's transaction, before it runs, as each of them demands.
	Proofs []*Proof
}

type originKey struct{}

// Own returns a context for a question of the plugin's, with exactly this text.
func Own(ctx context.Context, sql string) context.Context {
	o := &Origin{Context: ctx, SQL: &strings.Builder{}, Own: true}
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
// round trip. It is asked again when the last yes is older than Valid, and whenever SQL of the caller has run on the
// connection since it was borrowed, which may have changed what a name means.
type Proof struct {
	// SQL is a single SELECT with parameters. It raises an error where the answer is no; the statement then does not run,
	// and its error is what Refuse makes of PostgreSQL's.
	SQL    string
	Args   [][]byte // the parameters in text format, as UTF-8
	Refuse func(error) error
	Valid  time.Duration

	yes atomic.Int64 // when PostgreSQL said yes last, in nanoseconds of Unix time; 0 for never
}

// Due reports whether the last yes is too old.
func (p *Proof) Due(now time.Time) bool { return now.UnixNano()-p.yes.Load() > int64(p.Valid) }

// Yes notes that PostgreSQL has said yes at this time.
func (p *Proof) Yes(at time.Time) { p.yes.Store(at.UnixNano()) }
