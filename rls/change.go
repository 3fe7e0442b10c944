package rls

import "github.com/gormtenancy/tenancy/rls/internal/plan"

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
