package rls

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Plan is what Migrate would do.
type Plan struct {
	// InSteps reports whether Migrate would go on in short steps, because a table is large. Otherwise all is one transaction.
	InSteps bool
	Steps   []Step // in their order
}

// Step is a statement that Migrate would send.
type Step struct {
	Change
	// Stage is "columns", "fill", "indexes", "references", "require" or "validate", whose steps each have transactions of their own
	// ("indexes" none), or "rest": one transaction, at the end.
	Stage    string
	Lock     string // the strongest on Table, as PostgreSQL's documentation names it, such as "ACCESS EXCLUSIVE"
	Reads    bool   // it reads all rows while it has the lock
	Rewrites bool   // it writes all rows again while it has the lock
	Bytes    int64  // the size of Table with its parts
	Rows     int64  // of Table with its parts, as PostgreSQL's planner estimates; -1 where it was never analyzed
}

// autoMigrate describes what GORM's AutoMigrate would do.
const autoMigrate = "AutoMigrate"

// String returns the step in one line, such as
//
//	rest: public.invoices: create policy tenant_isolation (ACCESS EXCLUSIVE)
//
// A step of AutoMigrate is shown with its SQL.
func (s Step) String() string {
	lock := s.Lock
	switch {
	case s.Rewrites:
		lock += ", rewrites the table"
	case s.Reads:
		lock += ", reads the table"
	}
	if (s.Reads || s.Rewrites) && s.Rows >= 0 {
		lock += fmt.Sprintf(" of about %d rows", s.Rows)
	} else if s.Reads || s.Rewrites {
		lock += fmt.Sprintf(" of %d kB", s.Bytes/1024)
	}
	what := s.Change.String()
	if s.Description == autoMigrate {
		what += ": " + s.SQL // the same words for all that it does would say nothing
	}
	return fmt.Sprintf("%s: %s (%s)", s.Stage, what, lock)
}

// String returns the plan for people, with each step in one line. It is empty when there is nothing to do.
func (p Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// Plan returns what Migrate would do, and does nothing: it only reads the catalog, in a transaction that is READ ONLY. What AutoMigrate
// would do has the description "AutoMigrate". Estimates are those of the last ANALYZE. What only the rows show is not in the plan: whether
// some have no tenant, and whether Backfill finds it.
//
// Plan fails where Migrate does before it has changed anything.
func (i Isolation) Plan(ctx context.Context, db *gorm.DB, models ...any) (result Plan, err error) {
	m, db, err := i.prepare(ctx, db, models)
	if err != nil {
		return Plan{}, err
	}
	ctx = db.Statement.Context
	if result.InSteps, err = m.inUse(ctx, db); err != nil {
		return Plan{}, fmt.Errorf("tenancy: %w", err)
	}
	err = db.Transaction(func(tx *gorm.DB) error {
		result.Steps, err = m.plan(ctx, tx, result.InSteps)
		return err
	}, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return Plan{}, fmt.Errorf("tenancy: %w", catalog.Explain(err, m.Column))
	}
	return result, nil
}

// plan returns the steps.
func (m migration) plan(ctx context.Context, tx *gorm.DB, inSteps bool) ([]Step, error) {
	conn := tx.Statement.ConnPool
	if err := m.checkEngine(ctx, conn); err != nil {
		return nil, err
	}
	if err := m.checkRoles(ctx, conn); err != nil {
		return nil, err
	}
	tables, err := m.ForeseeParts(ctx, conn, m.set.Migrator(tx), m.set)
	if err != nil {
		return nil, err
	}
	sizes := map[string]catalog.Size{}
	for _, t := range tables {
		sizes[t.Quoted()] = t.Size
	}
	if err := m.LookForSetup(ctx, conn); err != nil {
		return nil, err
	}
	steps, err := m.schemaSteps(tx, tables, inSteps)
	if err != nil {
		return nil, err
	}
	steps = append(steps, plan.Steps(m.Plan(tables), inSteps)...)
	slices.SortStableFunc(steps, func(a, b plan.Step) int { return int(a.Stage - b.Stage) })
	list := make([]Step, len(steps))
	for n, s := range steps {
		lock, size := s.Lock(), sizes[s.Relation]
		list[n] = Step{
			Change: Change{Table: s.Table, Description: s.Description, SQL: s.SQL}, Stage: s.Stage.String(),
			Lock: lock.Mode, Reads: lock.Reads, Rewrites: lock.Rewrites, Bytes: size.Bytes, Rows: size.Rows,
		}
	}
	return list, nil
}

// schemaSteps returns what AutoMigrate would do.
func (m migration) schemaSteps(tx *gorm.DB, tables []plan.Table, inSteps bool) ([]plan.Step, error) {
	if m.KeepSchema {
		return nil, nil
	}
	migrator := m.set.Migrator(tx)
	statements, err := m.set.Rehearse(tx)
	if err != nil {
		return nil, err
	}
	tagged, err := plan.Tagged(tables, migrator)
	if err != nil {
		return nil, err
	}
	var steps []plan.Step
	for _, sql := range statements {
		step := plan.Step{Stage: plan.Rest, Description: autoMigrate, SQL: sql}
		for _, t := range tables {
			if t.Names(sql) {
				step.Table, step.Relation = t.String(), t.Quoted()
				if inSteps && !t.Fresh && strings.Contains(sql, " ADD ") && !strings.Contains(sql, " ADD CONSTRAINT ") {
					step.Stage = plan.Columns
				}
			}
		}
		early := func(c plan.Change) bool {
			return len(c.Early) > 0 && strings.Replace(c.SQL, " CONCURRENTLY", "", 1) == sql
		}
		if !inSteps || !slices.ContainsFunc(tagged, early) {
			steps = append(steps, step)
		}
	}
	if inSteps {
		steps = append(steps, plan.Early(tagged, plan.Indexes)...)
	}
	return steps, nil
}
