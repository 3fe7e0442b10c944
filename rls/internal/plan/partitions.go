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
		wanted, asked := p.Partitions[t.name]
		if !asked {
			continue
		}
		by, how := catalog.ByHash, "HASH"
		if wanted.ByList {
			by, how = catalog.ByList, "LIST"
		}
		switch {
		case !t.Partitioned:
			return fmt.Errorf("Partition: table %s is there and not partitioned, which PostgreSQL cannot change: drop it if it has no rows; otherwise "+
				"leave its model out of Partition, or move it into another schema, migrate, and copy its rows", t.Relation)
		case t.PartedByTenant != by:
			return fmt.Errorf("Partition: table %s is partitioned already, but not by %s (%s): leave its model out of Partition to keep it as it is",
				t.Relation, how, sqltext.Ident(p.Column))
		}
		for _, tenant := range wanted.List {
			if err := model.CheckTenant(tenant, t.columnType); err != nil {
				return fmt.Errorf("Partition: List for table %s: %w", t.Relation, err)
			}
		}
		rest, hashed := t.rest(wanted)
		if wanted.ByList && rest != nil && wanted.Hash > 0 && rest.PartedByTenant != catalog.ByHash {
			return fmt.Errorf("Partition: the DEFAULT partition of table %s is not partitioned by HASH (%s), which PostgreSQL cannot change: leave Hash out, "+
				"or its model out of Partition to keep it as it is", t.Relation, sqltext.Ident(p.Column))
		}
		if wanted.ByList && rest != nil && wanted.Hash == 0 && rest.Partitioned {
			return fmt.Errorf("Partition: the DEFAULT partition of table %s has partitions: name their number as Hash, or leave its model out of "+
				"Partition to keep it as it is", t.Relation)
		}
		if err := checkHashed(t, hashed, wanted.Hash); err != nil {
			return err
		}
	}
	return nil
}

// checkHashed refuses partitions that are none of so many.
func checkHashed(t Table, hashed []catalog.Part, count int) error {
	bounds := make([]string, count)
	for remainder := range bounds {
		bounds[remainder] = hashBound(count, remainder)
	}
	for _, live := range hashed {
		if !slices.Contains(bounds, live.Bound) {
			return fmt.Errorf("Partition: table %s has a partition %s, which is none of %d: name the number that the table has, or leave its "+
				"model out of Partition to keep it as it is", t.Relation, live.Bound, count)
		}
	}
	return nil
}

// rest returns the partition of a table by list whose tenants have none of their own, if it is there, and those by hash.
func (t Table) rest(p model.Partitions) (rest *catalog.Part, hashed []catalog.Part) {
	for n, part := range t.Parts {
		switch {
		case part.Level == 1 && !p.ByList:
			hashed = append(hashed, part)
		case part.Level == 1 && part.Bound == catalog.Default:
			rest = &t.Parts[n]
		}
	}
	for _, part := range t.Parts {
		if rest != nil && part.Of == rest.OID {
			hashed = append(hashed, part)
		}
	}
	return rest, hashed
}

// hashBound says which rows a partition has, as PostgreSQL writes it.
func hashBound(count, remainder int) string {
	return fmt.Sprintf("FOR VALUES WITH (modulus %d, remainder %d)", count, remainder)
}

// listBound says the same of the partition of a tenant.
func listBound(tenant string) string { return "FOR VALUES IN (" + sqltext.Literal(tenant) + ")" }

// hasTenant reports whether the tenant has a partition of its own.
func (t Table) hasTenant(tenant string) bool {
	return slices.ContainsFunc(t.Parts, func(part catalog.Part) bool {
		return part.Level == 1 && catalog.IsTenantBound(part.Bound, tenant, t.columnType)
	})
}

// withPartitions returns the tables, and after them the partitions that are missing.
func (p Planner) withPartitions(tables []Table) ([]Table, error) {
	all := slices.Clip(tables)
	for _, t := range tables {
		wanted, asked := p.Partitions[t.name]
		if t.whole != "" || !asked {
			continue
		}
		add := func(name, of, bound string, partitioned bool) {
			part := Table{
				Relation: catalog.Relation{Schema: t.Schema, Table: name, Owner: t.Owner, Usable: p.Roles(), // by what is granted for the whole
					Partition: true, Partitioned: partitioned, Version: t.Version},
				Fresh: true, whole: t.name, columnType: t.columnType, sharing: t.sharing, ownColumn: t.ownColumn,
			}
			part.name = part.Quoted()
			part.making = fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF %s %s", part.Quoted(), of, bound)
			if partitioned {
				part.making += " PARTITION BY HASH (" + sqltext.Ident(p.Column) + ")"
			}
			all = append(all, part)
		}
		for _, tenant := range wanted.List {
			if t.hasTenant(tenant) {
				continue
			}
			if err := t.checkSmallRest(); err != nil {
				return nil, err
			}
			add(model.TenantPartition(t.Table, tenant), t.Quoted(), listBound(tenant), false)
		}
		rest, hashed := t.rest(wanted)
		whole := t.Quoted()
		switch {
		case !wanted.ByList:
		case rest != nil:
			whole = rest.Quoted()
		default:
			name := model.RestPartition(t.Table)
			add(name, t.Quoted(), catalog.Default, wanted.Hash > 0)
			whole = t.Sibling(name)
		}
		for remainder := range wanted.Hash {
			bound := hashBound(wanted.Hash, remainder)
			if !slices.ContainsFunc(hashed, func(part catalog.Part) bool { return part.Bound == bound }) {
				add(model.HashPartition(t.Table, wanted.Hash, remainder), whole, bound, false)
			}
		}
	}
	return all, nil
}

// smallRest is how many bytes PostgreSQL may read under lock when it makes a partition.
const smallRest = 1 << 20

// checkSmallRest refuses a partition for a tenant where PostgreSQL would look through many rows of others meanwhile.
func (t Table) checkSmallRest() error {
	var bytes int64
	for _, part := range t.Parts {
		if part.Level > 1 || part.Bound == catalog.Default {
			bytes += part.Bytes
		}
	}
	if bytes > smallRest {
		return fmt.Errorf("Partition: List for table %s has a tenant without a partition, and the others share many rows, which would be read under lock: "+
			"give the tenant its partition by tenancy tenant isolate, or leave it out of List", t.Relation)
	}
	return nil
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
		return fmt.Errorf("Partition: %s is there, but is not the partition of that name: rename it or, if it was detached, attach it again; if "+
			"tenancy tenant isolate has not ended, let it go on", missing[n].Relation)
	}
	return nil
}

// planPartition makes a partition. Nothing is granted on it but to BackupRole, by default privileges either: the rows are used through the whole.
func (p Planner) planPartition(c *collector, t Table) {
	c.add("make the partition", t.making)
	if roles := p.Roles(); len(roles) > 0 {
		c.add("revoke what is granted by default", fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s", t.Quoted(), sqltext.Idents(roles)))
	}
}
