package plan

import (
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// planPrimary makes the tenant a part of the primary key at once, where that reads few rows, and returns the table as it is then.
// The key of others takes over an index: see adoptPrimary.
func (p Planner) planPrimary(c *collector, t Table) Table {
	var columns []string
	switch {
	case len(t.Primary) == 0 || slices.Contains(t.Primary, p.Column):
		return t
	case slices.Contains(t.primary, p.Column):
		columns = t.primary // the model has it there
	case p.adopts(t) || !p.TenantKeys:
		return t
	default:
		columns = p.leading(t.Primary)
	}
	c.add(p.primaryWhat(), fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %[2]s PRIMARY KEY (%s)",
		t.Quoted(), sqltext.Ident(t.PrimaryName), sqltext.Idents(columns))).unless(hasPrimary(t, p.Column))
	if !p.TenantKeys {
		return t
	}
	var column catalog.Column
	if t.Column != nil {
		column = *t.Column
	}
	column.Indexes = append(slices.Clone(column.Indexes), columns)
	t.Column, t.Primary = &column, columns
	t.Uniques = append(slices.Clone(t.Uniques), catalog.UniqueIndex{Name: t.PrimaryName, Columns: columns, Primary: true, Constraint: true, Whole: true})
	return t
}

func (p Planner) primaryWhat() string { return "make " + p.Column + " a part of the primary key" }

// adopts reports whether the primary key of the table takes over a unique index, which is made before while others use the table, or is
// there because foreign keys refer to it. These go on with it then. Partitioned tables cannot do so (PostgreSQL documentation,
// ALTER TABLE, "ADD table_constraint_using_index").
func (p Planner) adopts(t Table) bool {
	if !p.TenantKeys || t.Partitioned || len(t.Primary) == 0 || slices.Contains(t.Primary, p.Column) || slices.Contains(t.primary, p.Column) {
		return false
	}
	return p.hasPrimaryIndex(t) || !t.Fresh && t.Size.Bytes > 0
}

// primaryIndex is the name of the index until the primary key takes it over. Foreign keys of tables without TenantKeys refer to an index
// of the same name.
func (p Planner) primaryIndex(t Table) string {
	return sqltext.UniqueIndexName(t.Table, p.leading(t.Primary)...)
}

// hasPrimaryIndex reports whether the table has the index.
func (p Planner) hasPrimaryIndex(t Table) bool {
	live, exists := t.Unique(p.primaryIndex(t))
	return exists && live.Whole && !live.Constraint && slices.Equal(live.Columns, p.leading(t.Primary))
}

// adoptPrimary makes the index and has the primary key take it over, which reads no row.
func (p Planner) adoptPrimary(c *collector, t Table) {
	name := p.primaryIndex(t)
	if columns := p.leading(t.Primary); !p.hasPrimaryIndex(t) {
		planIndex(c, t, "make unique "+sqltext.Idents(columns), createUnique, name, columns)
	}
	c.add(p.primaryWhat(), fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %[2]s PRIMARY KEY USING INDEX %s",
		t.Quoted(), sqltext.Ident(t.PrimaryName), sqltext.Ident(name)))
}

// hasPrimary is the condition that the primary key of the table has the column.
func hasPrimary(t Table, column string) string {
	return fmt.Sprintf("EXISTS (SELECT FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey) "+
		"WHERE conrelid = %s::regclass AND contype = 'p' AND attname = %s)", sqltext.Literal(t.Quoted()), sqltext.Literal(column))
}

// checkTenantKeys refuses references to a primary key alone, which is no longer unique by itself.
func (p Planner) checkTenantKeys(tables []Table) error {
	if !p.TenantKeys {
		return nil
	}
	byName := map[string]*Table{}
	for n := range tables {
		byName[tables[n].name] = &tables[n]
	}
	for n := range tables {
		t := &tables[n]
		for _, r := range t.references {
			to := byName[r.Parent]
			if to == nil || !to.isTenant() || slices.Contains(r.Keys, p.Column) || !sameSet(p.leading(r.Keys), p.leading(to.Primary)) {
				continue
			}
			if _, ok := p.tenantKey(t, r, to); !ok {
				return fmt.Errorf("TenantKeys: table %s refers to the tenant table %s by %s alone, which is unique within a tenant only: "+
					"give its model the column %s, or no foreign key by the tag -:migration", t.Relation, to.Relation, sqltext.Idents(r.Keys), p.Column)
			}
		}
	}
	return nil
}
