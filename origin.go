package tenancy

import (
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// originOf returns what tells the guard about a statement, which is the statement's context: see guard.Origin. It becomes the
// context with the first of the plugin's callbacks, before those of plugins for tracing, which expect to find at the end, on
// top, the context that they have set.
func originOf(stmt *gorm.Statement) *guard.Origin {
	if o := guard.OriginOf(stmt.Context); o.Of(&stmt.SQL) {
		return o
	}
	ctx := stmt.Context
	if outer, ok := ctx.(*guard.Origin); ok { // of a statement that this one is sent for, or of an earlier use of this one
		ctx = outer.Context
	}
	o := &guard.Origin{Context: ctx, SQL: &stmt.SQL}
	stmt.Context = o
	return o
}

// originKey is where a statement also keeps its origin, because a hook can replace the statement's context. It is among the
// clauses, where GORM's soft delete keeps a mark of its own, because that allocates nothing. GORM does not build clauses that no
// processor names.
const originKey = "tenancy:origin"

type originClause struct{ *guard.Origin }

// Build is never called.
func (originClause) Build(clause.Builder) {}

// enterContext notes which tenant the statement runs for. Statements of other kinds than these have no hooks before they are
// sent.
func (s *statement) enterContext() {
	o := originOf(s.Statement)
	o.Enter(s.Context)
	if s.op == "create" || s.op == "update" || s.op == "delete" {
		s.Clauses[originKey] = clause.Clause{Expression: originClause{o}}
	}
}

// checkContext refuses a statement whose context a hook has replaced by one of another tenant. The guard does the same if the
// new context was made from the old one.
func (s *statement) checkContext() error {
	entered, _ := s.Clauses[originKey].Expression.(originClause)
	if !entered.Of(&s.SQL) || s.bypass != nil || s.DryRun || s.Context == entered.Origin {
		return nil
	}
	if entered.Changed(s.Context) {
		return guard.ErrChanged
	}
	if guard.OriginOf(s.Context) != entered.Origin { // a new context for the same tenant
		o := originOf(s.Statement)
		o.Enter(s.Context)
		o.Proofs = entered.Proofs
	}
	return nil
}

// leaveContext gives a statement that is over its own context back.
func leaveContext(stmt *gorm.Statement) {
	delete(stmt.Clauses, originKey)
	o := guard.OriginOf(stmt.Context)
	if !o.Of(&stmt.SQL) {
		return
	}
	o.End()
	if stmt.Context == o {
		stmt.Context = o.Context
	}
}
