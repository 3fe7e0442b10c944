package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Change is one step that brings a table closer to what Isolation asks for.
type Change struct {
	Table, Description, SQL string // as in package rls

	Relation string   // the table, qualified and quoted
	Fill     string   // the table whose rows must have a tenant before
	Repeats  bool     // it is planned again after it was done: nothing tells that no row needs it
	Misfits  string   // the query that finds the rows which keep the statement from succeeding
	Early    []Step   // what does it in short steps, or prepares it, where others use the table; nil where nothing does
	Rest     []string // after Early, what is left of it to the last transaction
	Apart    string   // the script that does it outside of a transaction

	replaces bool // it drops a policy

	// What follows makes the change fit for a script, which does not know what is there already.
	step    step
	held    string   // the condition under which there is nothing to do
	before  string   // the statement that clears the way, whatever is there
	block   bool     // it has semicolons within
	dated   string   // the statement for servers before PostgreSQL 15, where it is another
	unforce []string // the tables whose owner must see their rows
}

// step is a part of the plan. Each is done for all tables before the next.
type step int

const (
	stepOutdated step = iota
	stepKeys
	stepDistribution
	stepReferences
	stepIsolation
	stepAudit
)

// unless notes when the change is there already.
func (c *Change) unless(condition string) { c.held = condition }

// early notes a step that does the change, or a part of it, where others use the table, and what is left after it.
func (c *Change) early(t Table, stage Stage, sql string, rest ...string) {
	if !t.early() {
		return
	}
	c.Rest = rest
	if !slices.ContainsFunc(c.Early, func(s Step) bool { return s.SQL == sql }) {
		c.Early = append(c.Early, Step{Stage: stage, Table: c.Table, Relation: c.Relation, Description: c.Description, SQL: sql, Misfits: c.Misfits})
	}
}

// collector collects changes.
type collector struct {
	table, relation string // the one that is planned for, for people and in SQL
	step            step
	planned         map[string]*Change // by statement
	changes         []*Change
}

// add appends a change, unless a table before this one needed the same, as tables of one schema do.
func (c *collector) add(what, sql string) *Change {
	if change := c.planned[sql]; change != nil {
		return change
	}
	change := &Change{Table: c.table, Relation: c.relation, Description: what, SQL: sql, step: c.step}
	c.planned[sql] = change
	c.changes = append(c.changes, change)
	return change
}

// list returns the changes.
func (c *collector) list() []Change {
	var list []Change
	for _, change := range c.changes {
		list = append(list, *change)
	}
	return list
}

// grant appends what brings the privileges of a role on an object from those it has to those it should have. People are
// told which object it is by on, which is empty for the table itself.
func (c *collector) grant(on, object, role string, has, wanted []string) {
	if missing := without(wanted, has); missing != "" {
		c.add("grant "+missing+on+" to "+role, fmt.Sprintf("GRANT %s ON %s TO %s", missing, object, sqltext.Ident(role)))
	}
	c.revoke(on, object, role, has, wanted)
}

// revoke appends what takes privileges away that the role should not have.
func (c *collector) revoke(on, object, role string, has, wanted []string) {
	if excess := without(has, wanted); excess != "" {
		c.add("revoke "+excess+on+" from "+role, fmt.Sprintf("REVOKE %s ON %s FROM %s", excess, object, sqltext.Ident(role)))
	}
}

// without lists the privileges that are not among the others.
func without(privileges, others []string) string {
	var rest []string
	for _, privilege := range privileges {
		if !slices.Contains(others, privilege) {
			rest = append(rest, privilege)
		}
	}
	return strings.Join(rest, ", ")
}

// Replaced returns the tables of which changes drop policies.
func Replaced(changes []Change) []string {
	var tables []string
	for _, c := range changes {
		if c.replaces && !slices.Contains(tables, c.Relation) {
			tables = append(tables, c.Relation)
		}
	}
	return tables
}
