package rls

import (
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Change is one step that brings a table closer to what Isolation asks for.
type Change struct {
	Table       string // the table with its schema, such as "public.invoices"
	Description string // what the step does, for people, such as "create policy tenant_isolation"
	SQL         string // the statement that does it
}

// String returns the change in one line, such as "public.invoices: create policy tenant_isolation".
func (c Change) String() string { return c.Table + ": " + c.Description }

func newChange(c plan.Change) Change {
	return Change{Table: c.Table, Description: c.Description, SQL: c.SQL}
}

// Result is what Migrate has done, and what is left to do.
type Result struct {
	Changes []Change // in their order
	// Findings are what Isolation.Check finds of the tables afterwards: what was made by hand or by older migrations and is not
	// Migrate's to change, such as a unique index without the tenant column. Empty without an AppRole.
	Findings []check.Finding
}
