package rls

import (
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/model"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Partitioned names a model whose table has partitions by the tenant column, so that a statement which names the tenant plans and reads one
// of them. Migrate and SQL make the table with them, and Migrate makes those that are missing later. Each gets the policies of the
// whole, and no role of Isolation any right on it but BackupRole, which reads it: rows are used through the whole.
//
// With Hash alone, tenants are spread over so many partitions. With ByList, a tenant can have a partition of its own: those that List
// names, and those that lifecycle.Tenants.Isolate (the command tenancy tenant isolate) moves there later. The other tenants share the rest:
// one partition or, with Hash, so many.
//
// A table that is there and not partitioned is an error, because PostgreSQL cannot change that of a table, and so is one with other
// partitions.
type Partitioned struct {
	// Model must have a field for the tenant column, which its primary key must hold: see TenantKeys.
	Model any

	// Hash is how many partitions the tenants share, from 2 to 1024. It stays so for as long as the table is there. Zero means one, and
	// needs ByList.
	Hash int

	// ByList has the table partitioned by LIST, with a DEFAULT partition for the tenants that have none of their own. False, with an empty
	// List, means that the table is partitioned by HASH, and no tenant can have a partition of its own.
	ByList bool

	// List has the tenants that get a partition of their own from the beginning, as PostgreSQL writes their ids. It implies ByList. A tenant
	// with rows in a table that is there cannot be added: Isolate moves them. Partitions of tenants that are not in List stay as they are.
	List []string
}

// maxPartitions bounds Hash and List. PostgreSQL plans a few thousand partitions well, where all but a few are pruned (its documentation,
// "Best Practices for Declarative Partitioning").
const maxPartitions = 1024

// partitions returns how tables are partitioned, by table, and has the set make them so.
func (i Isolation) partitions(db *gorm.DB, set *model.Set, rollout plan.Rollout) (map[string]model.Partitions, error) {
	if len(i.Partition) > 0 && i.KeepSchema {
		return nil, errors.New("Partition: with KeepSchema another tool makes the tables, and so their partitions: leave one of the two out")
	}
	if rollout != plan.Enforced {
		return nil, nil
	}
	for _, p := range i.Partition {
		byList := p.ByList || len(p.List) > 0
		switch {
		case p.Hash == 0 && byList:
		case p.Hash == 0:
			return nil, fmt.Errorf("Partition: model %T has neither Hash nor ByList: say how many partitions its table gets, or for which tenants", p.Model)
		case p.Hash < 2 || p.Hash > maxPartitions:
			return nil, fmt.Errorf("Partition: model %T with Hash %d: must be from 2 to %d", p.Model, p.Hash, maxPartitions)
		}
		if len(p.List) > maxPartitions {
			return nil, fmt.Errorf("Partition: model %T has %d tenants in List: must be at most %d", p.Model, len(p.List), maxPartitions)
		}
		if err := set.Partition(db, p.Model, model.Partitions{Hash: p.Hash, ByList: byList, List: p.List}); err != nil {
			return nil, fmt.Errorf("Partition: %w", err)
		}
	}
	return set.Partitions, nil
}
