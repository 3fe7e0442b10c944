package rls

import (
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/model"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Partitioned names a model whose table has partitions by the hash of the tenant column, so that a statement which names the tenant
// plans and reads one of them. Migrate and SQL make the table with them, and Migrate makes those that are missing later. Each gets the
// policies of the whole, and no role of Isolation any right on it: rows are used through the whole.
//
// A table that is there and not partitioned is an error, because PostgreSQL cannot change that of a table, and so is one with other
// partitions.
type Partitioned struct {
	// Model must have a field for the tenant column, which its primary key must hold: see TenantKeys.
	Model any

	// Hash is how many partitions the table has, from 2 to 1024. It stays so for as long as the table is there.
	Hash int
}

// maxPartitions bounds Hash. PostgreSQL plans a few thousand partitions well, where all but a few are pruned (its documentation, "Best
// Practices for Declarative Partitioning").
const maxPartitions = 1024

// partitions returns how many partitions tables have, by table, and has the set make them so.
func (i Isolation) partitions(db *gorm.DB, set *model.Set, rollout plan.Rollout) (map[string]int, error) {
	if len(i.Partition) > 0 && i.KeepSchema {
		return nil, errors.New("Partition: with KeepSchema another tool makes the tables, and so their partitions: leave one of the two out")
	}
	if rollout != plan.Enforced {
		return nil, nil
	}
	for _, p := range i.Partition {
		if p.Hash < 2 || p.Hash > maxPartitions {
			return nil, fmt.Errorf("Partition: model %T with Hash %d: must be from 2 to %d", p.Model, p.Hash, maxPartitions)
		}
		if err := set.Partition(db, p.Model, p.Hash); err != nil {
			return nil, fmt.Errorf("Partition: %w", err)
		}
	}
	return set.Partitions, nil
}
