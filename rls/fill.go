package rls

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// batchBlocks is how many blocks of a table, of 8 kB each, get their tenants in one transaction: some thousand rows.
const batchBlocks = 32

// fill gives rows their tenants, parents before their children. What has a tenant is left alone, so that it goes on where an earlier
// migration has stopped.
func (s *steps) fill(ctx context.Context) error {
	tables, err := s.Foresee(ctx, s.conn, s.set.Migrator(s.db), s.set)
	if err != nil {
		return err
	}
	byName := map[string]plan.Table{}
	for _, t := range tables {
		byName[t.Quoted()] = t
	}
	for _, c := range s.Plan(tables) {
		for _, step := range plan.Early([]plan.Change{c}, plan.Fill) {
			if err := s.fillStep(ctx, step, byName[step.Relation].Size.Blocks); err != nil {
				return err
			}
		}
		// Rows that policies hide have to wait for the last transaction, which can see them.
		if t := byName[c.Fill]; c.Fill != "" && !t.Fresh && !t.Forced {
			if err := s.short(ctx, func(tx *gorm.DB) error { return s.backfill(ctx, tx, c) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillStep gives rows their tenants by one statement, in batches.
func (s *steps) fillStep(ctx context.Context, step plan.Step, blocks int64) error {
	change := Change{Table: step.Table, Description: step.Description, SQL: step.SQL}
	for {
		changed, err := s.fillBlocks(ctx, step, blocks)
		if changed > 0 && !slices.Contains(s.changes, change) {
			s.changes = append(s.changes, change)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", step.Table, step.Description, catalog.Explain(err, s.Column))
		}
		if changed == 0 || !step.Again {
			return nil
		}
	}
}

// fillBlocks goes through the table once, and returns the number of rows that it changed.
func (s *steps) fillBlocks(ctx context.Context, step plan.Step, blocks int64) (changed int64, err error) {
	for first := int64(0); ; first += batchBlocks {
		end := first + batchBlocks
		if end >= blocks {
			end = plan.NoEnd // and what has come meanwhile
		}
		err := s.short(ctx, func(tx *gorm.DB) error {
			result, err := tx.Statement.ConnPool.ExecContext(ctx, step.InBlocks(first, end))
			if err != nil {
				return err
			}
			rows, err := result.RowsAffected()
			changed += rows
			return err
		})
		if err != nil {
			return changed, err
		}
		s.report(step, min(first+batchBlocks, blocks), blocks)
		if end == plan.NoEnd {
			return changed, nil
		}
	}
}
