package plan

import (
	"fmt"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Sequential has Citus change the shards of a table one after the other: what comes behind a statement on a reference table in the same
// transaction fails otherwise.
const Sequential = "SET LOCAL citus.multi_shard_modify_mode = 'sequential'"

// planDistribution has Citus distribute a tenant table by the tenant column, and copy a shared one to all workers. It stands before foreign
// keys, which Citus takes between distributed tables only, and before FORCE, under which it cannot copy rows. The first tenant table of a
// type says on which shard a tenant is, for all others.
func (p Planner) planDistribution(c *collector, t Table, first map[string]string) {
	name := sqltext.Literal(t.Quoted())
	unless := " WHERE NOT " + isDistributed(t)
	switch {
	case t.whole != "", t.Distributed != nil:
	case !t.isTenant():
		c.add("copy to all workers", fmt.Sprintf("SELECT create_reference_table(%s)", name)+unless)
	default:
		with, found := first[t.columnType]
		if !found {
			with = "default"
			first[t.columnType] = t.Quoted()
		}
		c.add("distribute by "+p.Column, fmt.Sprintf("SELECT create_distributed_table(%s, %s, colocate_with => %s)",
			name, sqltext.Literal(p.Column), sqltext.Literal(with))+unless)
	}
}

// isDistributed is the condition that Citus has the table.
func isDistributed(t Table) string {
	return fmt.Sprintf("EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = %s::pg_catalog.regclass)", sqltext.Literal(t.Quoted()))
}

// beforeDistribution has a script that is repeated leave the tenant column as it is, which Citus does not let change any more. The changes from
// first on are about it.
func (p Planner) beforeDistribution(c *collector, t Table, first int) {
	if !p.Distributes {
		return
	}
	for _, change := range c.changes[first:] {
		change.unless(isDistributed(t))
	}
}

// distributed returns, by the type of their tenant column, the tables on whose shards a tenant is already.
func (p Planner) distributed(tables []Table) map[string]string {
	first := map[string]string{}
	for _, t := range tables {
		if _, found := first[t.columnType]; !found && t.isTenant() && t.Distributed != nil {
			first[t.columnType] = t.Quoted()
		}
	}
	return first
}

// checkDistribution refuses tables that Citus has in another way than planDistribution makes them: tenants would not have their rows on
// one shard.
func (p Planner) checkDistribution(tables []Table) error {
	for _, t := range tables {
		switch {
		case t.Distributed == nil || t.whole != "":
		case t.isTenant() && *t.Distributed != p.Column:
			return fmt.Errorf("Citus has distributed table %s in another way than by %s: run SELECT undistribute_table(%s), and migrate again",
				t.Relation, p.Column, sqltext.Literal(t.Quoted()))
		case !t.isTenant() && *t.Distributed != "":
			return fmt.Errorf("Citus has distributed table %s, which tenants share: run SELECT undistribute_table(%s), and migrate again",
				t.Relation, sqltext.Literal(t.Quoted()))
		}
	}
	return nil
}
