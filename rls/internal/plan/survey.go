package plan

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// Known are what PostgreSQL has said of types of tenant columns.
type Known map[string]*catalog.Canonical

// Survey compares the catalog with what the models need, and returns what is left to do. What is not known yet it asks of
// PostgreSQL.
func (p Planner) Survey(ctx context.Context, conn gorm.ConnPool, set *model.Set, known Known) ([]Change, error) {
	relations, err := catalog.Inspect(ctx, conn, p.Config, names(set.Tables))
	if err != nil {
		return nil, err
	}
	tables, err := p.tables(set.Tables, relations, func(columnType string) (*catalog.Canonical, error) {
		if known[columnType] == nil {
			if known[columnType], err = catalog.AskCanonical(ctx, conn, p.Config, columnType); err != nil {
				return nil, err
			}
		}
		return known[columnType], nil
	})
	if err != nil {
		return nil, err
	}
	if tables, err = p.withParts(ctx, conn, tables); err != nil {
		return nil, err
	}
	return p.Plan(tables), nil
}

// Foresee returns the tables of the models as they are, and those that are missing as they will be. A table whose tenant
// column is to get another type counts as missing: its indexes would be made once more.
func (p Planner) Foresee(ctx context.Context, conn gorm.ConnPool, m model.Migrator, set *model.Set) ([]Table, error) {
	relations := m.Relations()
	exist, err := catalog.Exist(ctx, conn, names(set.Tables))
	if err != nil {
		return nil, err
	}
	var present []string
	for n, t := range set.Tables {
		if exist[n] {
			present = append(present, t.Name)
		}
	}
	live, err := catalog.Inspect(ctx, conn, p.Config, present)
	if err != nil {
		return nil, err
	}
	for n := range set.Tables {
		if !exist[n] {
			continue
		}
		is, wanted := live[0], relations[n]
		live = live[1:]
		if exist[n] = is.Column == nil || wanted.Column == nil || wanted.Column.Kept || is.Column.Type == wanted.Column.Type; exist[n] {
			relations[n] = is
		}
	}
	tables, err := p.tables(set.Tables, relations, func(columnType string) (*catalog.Canonical, error) {
		return &catalog.Canonical{ColumnType: columnType}, nil
	})
	for n := range tables {
		tables[n].Fresh = !exist[n]
	}
	return tables, err
}

// Expect returns the tables of the models as they are in a database where only the recorded statements have run. What cannot be
// known without looking counts as missing, so that the plan makes it, or as there, so that the plan takes it away.
func (p Planner) Expect(m model.Migrator, set *model.Set) ([]Table, error) {
	relations := m.Relations()
	for n := range relations {
		r := &relations[n]
		r.Grants = p.excess(
			[]string{"REFERENCES", "TRIGGER", "TRUNCATE"},
			[]string{"REFERENCES", "TRIGGER", "TRUNCATE", "INSERT", "UPDATE", "DELETE"})
		for s := range r.Sequences {
			r.Sequences[s].Grants = p.excess([]string{"UPDATE"}, []string{"USAGE", "SELECT", "UPDATE"})
		}
		if r.Schema == "" {
			r.Usable = p.Roles()
		}
	}
	policies := map[string]catalog.Policy{}
	for _, name := range p.Names() {
		policies[name] = catalog.Policy{}
	}
	tables, err := p.tables(set.Tables, relations, func(columnType string) (*catalog.Canonical, error) {
		return &catalog.Canonical{ColumnType: columnType, Default: p.Current(columnType), Policies: policies}, nil
	})
	for n := range tables {
		tables[n].Fresh = true
	}
	return tables, err
}

// excess returns grants of what the roles should not have: the others, and the read-only role.
func (p Planner) excess(others, reader []string) map[string][]string {
	grants := map[string][]string{}
	for _, role := range p.Roles() {
		if grants[role] = others; role == p.ReadOnlyRole {
			grants[role] = reader
		}
	}
	return grants
}

// tables puts together what the models' tables are and what they should be. The relations are in the order of the tables.
func (p Planner) tables(asked []*model.Table, relations []catalog.Relation, canonical func(columnType string) (*catalog.Canonical, error)) ([]Table, error) {
	byName := make(map[string]catalog.Relation, len(asked))
	for n, t := range asked {
		byName[t.Name] = relations[n]
	}
	tables := make([]Table, len(asked))
	for n, t := range asked {
		live := relations[n]
		if live.Owner == p.AppRole && p.AppRole != "" {
			return nil, fmt.Errorf("role %q owns table %s, and an owner can switch isolation off: "+
				"let the migrating role own it: ALTER TABLE %s OWNER TO …", p.AppRole, live, live.Quoted())
		}
		tables[n] = Table{Relation: live, name: t.Name, index: t.Index, uniques: t.Uniques, references: t.References}
		if !t.IsTenant(live) {
			continue
		}
		columnType, err := p.columnType(t, byName)
		if err != nil {
			return nil, err
		}
		if tables[n].isolated, err = canonical(columnType); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// columnType returns the type of the table's tenant column. A join table that has none yet gets that of the tables it joins.
func (p Planner) columnType(t *model.Table, relations map[string]catalog.Relation) (string, error) {
	for _, name := range append([]string{t.Name}, t.Sides...) {
		live := relations[name]
		switch {
		case live.Column == nil:
		case policy.IsColumnType(live.Column.Type):
			return live.Column.Type, nil
		default:
			return "", fmt.Errorf("column %s of table %s has type %s, which cannot hold a tenant: use one of %q",
				p.Column, live, live.Column.Type, policy.ColumnTypes)
		}
	}
	return "", fmt.Errorf("table %s has no column %s, and GORM is told not to make it: add it", relations[t.Name], p.Column)
}

// withParts returns the tables with the parts of tenant tables after them. A query of the whole is subject to its policies
// only, and a query of a part to the part's (PostgreSQL documentation, "Row Security Policies" and CREATE POLICY), so each
// needs its own. Columns, keys and foreign keys they have from the whole.
func (p Planner) withParts(ctx context.Context, conn gorm.ConnPool, tables []Table) ([]Table, error) {
	wholes := make([]string, len(tables))
	known := map[string]bool{}
	for n, t := range tables {
		wholes[n] = t.Quoted()
		known[t.Quoted()] = true
	}
	roots, parts, err := catalog.Parts(ctx, conn, wholes)
	if err != nil || len(parts) == 0 {
		return tables, err
	}
	relations, err := catalog.Inspect(ctx, conn, p.Config, parts)
	if err != nil {
		return nil, err
	}
	all := tables
	for n, live := range relations {
		if root := tables[roots[n]]; root.isolated != nil && !known[live.Quoted()] {
			known[live.Quoted()] = true
			all = append(all, Table{Relation: live, name: parts[n], whole: root.name, isolated: root.isolated})
		}
	}
	return all, nil
}

// names returns the names of tables.
func names(tables []*model.Table) []string {
	list := make([]string, len(tables))
	for n, t := range tables {
		list[n] = t.Name
	}
	return list
}
