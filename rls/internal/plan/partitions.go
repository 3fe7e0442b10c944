package plan

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// checkPartitions refuses tables that are there and not partitioned as they should be: PostgreSQL cannot change that of a table.
func (p Planner) checkPartitions(tables []Table) error {
	for _, t := range tables {
		count := p.Partitions[t.name]
		switch {
		case count == 0:
		case !t.Partitioned:
			return fmt.Errorf("Partition: table %s is there and not partitioned, which PostgreSQL cannot change: drop it if it has no rows; otherwise "+
				"leave its model out of Partition, or move it into another schema, migrate, and copy its rows", t.Relation)
		case !t.HashedByTenant:
			return fmt.Errorf("Partition: table %s is partitioned already, but not by HASH (%s): leave its model out of Partition to keep it as it is",
				t.Relation, sqltext.Ident(p.Column))
		}
		if count == 0 {
			continue
		}
		bounds := make([]string, count)
		for remainder := range bounds {
			bounds[remainder] = bound(count, remainder)
		}
		for _, live := range t.Bounds {
			if !slices.Contains(bounds, live) {
				return fmt.Errorf("Partition: table %s has a partition %s, which is none of %d: name the number that the table has, or leave its "+
					"model out of Partition to keep it as it is", t.Relation, live, count)
			}
		}
	}
	return nil
}

// bound says which rows a partition has, as PostgreSQL writes it.
func bound(count, remainder int) string {
	return fmt.Sprintf("FOR VALUES WITH (modulus %d, remainder %d)", count, remainder)
}

// withPartitions returns the tables, and after them the partitions that are missing.
func (p Planner) withPartitions(tables []Table) []Table {
	all := slices.Clip(tables)
	for _, t := range tables {
		count := p.Partitions[t.name]
		if t.whole != "" || count == 0 {
			continue
		}
		for remainder := range count {
			if slices.Contains(t.Bounds, bound(count, remainder)) {
				continue
			}
			part := Table{
				Relation: catalog.Relation{Schema: t.Schema, Table: model.PartitionName(t.Table, count, remainder), Owner: t.Owner, Partition: true, Version: t.Version},
				Fresh:    true, whole: t.name, columnType: t.columnType, sharing: t.sharing, ownColumn: t.ownColumn,
			}
			part.name = part.Quoted()
			part.making = fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s %s", part.Quoted(), t.Quoted(), bound(count, remainder))
			all = append(all, part)
		}
	}
	return all
}

// checkNames refuses partitions that are missing, while another table has their name: IF NOT EXISTS would be content with it.
func checkNames(ctx context.Context, conn gorm.ConnPool, tables []Table) error {
	var missing []Table
	var names []string
	for _, t := range tables {
		if t.making != "" {
			missing, names = append(missing, t), append(names, t.Quoted())
		}
	}
	exist, err := catalog.Exist(ctx, conn, names)
	if err != nil {
		return err
	}
	if n := slices.Index(exist, true); n >= 0 {
		return fmt.Errorf("Partition: %s is there, but is not the partition of that name: rename it or, if it was detached, attach it again", missing[n].Relation)
	}
	return nil
}

// planPartition makes a partition. Nothing is granted on it, by default privileges either: the rows are used through the whole.
func (p Planner) planPartition(c *collector, t Table) {
	c.add("make the partition", t.making)
	if roles := p.Roles(); len(roles) > 0 {
		c.add("revoke what is granted by default", fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s", t.Quoted(), sqltext.Idents(roles)))
	}
}
