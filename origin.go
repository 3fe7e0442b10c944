package tenancy

import (
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// originOf returns what the guard is told about a statement, which is its context: see guard.Origin. It becomes that with the
// first of our callbacks, before those of plugins for tracing: what they put into the context they expect to find there, on
// top, when it is over.
func originOf(stmt *gorm.Statement) *guard.Origin {
	if o := guard.OriginOf(stmt.Context); o != nil && o.SQL == &stmt.SQL {
		return o
	}
	o := &guard.Origin{Context: stmt.Context, SQL: &stmt.SQL}
	stmt.Context = o
	return o
}

// checkContext refuses a statement whose context a hook has exchanged for one that names another tenant. The guard does the
// same where the new context was made from the old one.
func (s *statement) checkContext() error {
	if s.bypass != nil || s.DryRun {
		return nil
	}
	o := guard.OriginOf(s.Context)
	switch {
	case o == nil || o.SQL != &s.SQL:
		return because(ErrTenantMismatch, "a hook or another plugin has exchanged the statement's context for one that was not made "+
			"from it: make it from tx.Statement.Context")
	case o.Changed(s.Context):
		return because(ErrTenantMismatch, "a hook or another plugin has exchanged the statement's context for one of another tenant")
	}
	return nil
}
