package plan

import (
	"fmt"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// batches notes that rows can get their tenants in batches, by an UPDATE of the table child. Rows behind policies that are forced on
// the owner wait for the last transaction, which can see them.
func (c *Change) batches(t Table, update string, from ...*Table) {
	for _, other := range from {
		if other.hidden || other.Fresh {
			return
		}
	}
	if t.hidden {
		return
	}
	again := len(from) > 0 && from[0].name == t.name
	c.early(t, Fill, update)
	for n := range c.Early {
		c.Early[n].Batches, c.Early[n].Again = true, again
	}
}

// InBlocks returns the statement of a step in Batches for the blocks from first on, up to and without end, of the table child. PostgreSQL
// reads these blocks only, from version 14 on (release notes, "Allow efficient heap scanning of a range of TIDs").
func (s Step) InBlocks(first, end int64) string {
	sql := fmt.Sprintf("%s AND child.ctid >= '(%d,0)'::tid", s.SQL, first)
	if end != NoEnd {
		sql += fmt.Sprintf(" AND child.ctid < '(%d,0)'::tid", end)
	}
	return sql
}

// NoEnd is the end of the last batch.
const NoEnd = -1

// planRequired requires the tenant column. SET NOT NULL reads the whole table while it keeps others from it, unless a valid check
// constraint says that no row lacks the value (PostgreSQL documentation, ALTER TABLE). On tables in use this constraint comes first:
// made without a look at the rows, and validated while others read and write.
func (p Planner) planRequired(c *collector, t Table) {
	column, name, alter := sqltext.Ident(p.Column), sqltext.Ident(p.requirement()), "ALTER TABLE "+t.Quoted()
	require := alter + " ALTER COLUMN " + column + " SET NOT NULL"
	change := c.add("require "+p.Column, require)
	change.Misfits = p.orphans(&t)
	validated, exists := t.Required[p.requirement()]
	if validated {
		return
	}
	change.Fill = t.Quoted()
	if !exists {
		change.early(t, Require, fmt.Sprintf("%s ADD CONSTRAINT %s CHECK (%s IS NOT NULL) NOT VALID", alter, name, column))
	}
	change.early(t, Validate, alter+" VALIDATE CONSTRAINT "+name, require)
	if !exists && change.Rest != nil {
		change.Rest = append(change.Rest, p.dropRequirement(t))
	}
}

// requirement is the name of the check constraint that requires the tenant column for as long as a migration takes.
func (p Planner) requirement() string { return sqltext.Fit(catalog.RequiredPrefix + p.Column) }

// Release returns the statement that drops the check constraint, if the table has it.
func (p Planner) Release(t Table) string {
	if _, exists := t.Required[p.requirement()]; !exists {
		return ""
	}
	return p.dropRequirement(t)
}

// dropRequirement drops the check constraint.
func (p Planner) dropRequirement(t Table) string {
	return fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", t.Quoted(), sqltext.Ident(p.requirement()))
}
