package rls

import "github.com/gormtenancy/tenancy/rls/internal/plan"

// Progress says how far a step of Migrate is, or a data migration.
type Progress struct {
	Table, Description string // as in Change; or as in Batches, with its Name
	// In blocks of the table; both are zero when a step begins that has no batches. Of a data migration in rows, with an estimate of the total.
	Done, Total int64
}

// report reports the progress of a step.
func (m migration) report(step plan.Step, done, total int64) {
	if m.progress != nil {
		m.progress(Progress{Table: step.Table, Description: step.Description, Done: done, Total: total})
	}
}
