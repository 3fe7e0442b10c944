package plan

import "slices"

// Stage is a part of a migration of tables in use. All steps of a stage are made before the next begins.
type Stage int

// The stages.
const (
	Columns    Stage = iota // columns are added, each in a transaction of its own
	Fill                    // rows get their tenants, in batches
	Indexes                 // indexes are made concurrently, outside of transactions
	References              // foreign keys are made beside those that they replace, and are validated
	Require                 // new rows must have a tenant; the rest of Fill follows
	Validate                // old rows are known to have one
	Rest                    // everything else, in one transaction
)

// String returns the name of the stage.
func (s Stage) String() string {
	return [...]string{"columns", "fill", "indexes", "references", "require", "validate", "rest"}[s]
}

// Step is a statement of a migration.
type Step struct {
	Stage
	Table, Description, SQL string // as in Change
	Relation                string
	Parent                  string // the table of a new foreign key, which is locked as well
	Misfits                 string // as in Change
	Batches                 bool   // SQL runs for ranges of blocks of the table child: see InBlocks
	Proved                  bool   // that no row stands in the way is known before
	Again                   bool   // a row may get what another has got just before: to be repeated while it changes rows
}

// Steps returns the steps of the changes. Where others use the tables they are short, and otherwise all in one transaction.
func Steps(changes []Change, inUse bool) []Step {
	var steps []Step
	for _, c := range changes {
		if inUse && len(c.Early) > 0 {
			steps = append(steps, c.Early...)
			for _, sql := range c.Rest {
				step := c.rest(sql)
				step.Proved = true
				steps = append(steps, step)
			}
			continue
		}
		steps = append(steps, c.rest(c.SQL))
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return int(a.Stage - b.Stage) })
	return steps
}

// Early returns the steps of one stage, of the changes that can be made early.
func Early(changes []Change, stage Stage) []Step {
	var steps []Step
	for _, c := range changes {
		for _, step := range c.Early {
			if step.Stage == stage {
				steps = append(steps, step)
			}
		}
	}
	return steps
}

// rest returns the step of the last transaction that runs a statement of the change.
func (c Change) rest(sql string) Step {
	return Step{Stage: Rest, Table: c.Table, Relation: c.Relation, Description: c.Description, SQL: sql, Misfits: c.Misfits}
}
