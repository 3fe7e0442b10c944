package model

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
)

// Parent is what a table refers to, by a relation of a model. Where it is a tenant table, and the model has no tenant column and
// is not shared, the table is its child: its rows belong to the tenant of the row that they refer to.
type Parent struct {
	Table       string   // quoted as GORM quotes it in statements
	Columns     []string // by which the child refers to it
	Keys        []string // the columns they refer to
	Type, Value string   // of a polymorphic relation: the child's column that names the parent, and what it holds then
}

// link is a relation of two tables, which are named as GORM quotes them.
type link struct {
	child  string
	parent Parent
}

// adopt finds out which tables belong to tenants by those that they refer to, at however many steps: child tables, and join tables
// of which one side is a tenant table.
func (s *Set) adopt(m Migrator, tables map[string]*Table) error {
	var links []link
	joins := map[string][]string{}
	for _, model := range s.models {
		relations := model.Schema.Relationships.Relations
		for _, name := range slices.Sorted(maps.Keys(relations)) {
			if relations[name].JoinTable == nil {
				links = append(links, linkOf(model, relations[name]))
			} else if err := joined(m, relations[name], joins); err != nil {
				return err
			}
		}
	}
	for found := true; found; {
		found = false
		for _, l := range links {
			found = s.adoptChild(tables, l) || found
		}
		for name, sides := range joins {
			found = adoptJoin(tables[name], sides, tables) || found
		}
	}
	return nil
}

// linkOf returns what a relation links. A child can refer to its parent from either side.
func linkOf(model parsed, r *schema.Relationship) link {
	child, parent := r.Schema, r.FieldSchema
	if r.Type != schema.BelongsTo {
		child, parent = r.FieldSchema, r.Schema
	}
	l := link{child: model.Quote(child.Table), parent: Parent{Table: model.Quote(parent.Table)}}
	for _, ref := range r.References {
		column := identifier(model.Statement, ref.ForeignKey.DBName)
		if ref.PrimaryKey == nil {
			l.parent.Type, l.parent.Value = column, ref.PrimaryValue
			continue
		}
		l.parent.Columns = append(l.parent.Columns, column)
		l.parent.Keys = append(l.parent.Keys, identifier(model.Statement, ref.PrimaryKey.DBName))
	}
	return l
}

// adoptChild notes the parent of a table that belongs to tenants by it, and reports whether that is new.
func (s *Set) adoptChild(tables map[string]*Table, l link) bool {
	child, parent := tables[l.child], tables[l.parent.Table]
	switch {
	case child == nil || parent == nil || child.Tenant || child.Sharing != policy.NotShared || len(l.parent.Columns) == 0:
		return false
	case !parent.Asked() && parent.Sharing != policy.SharedOwn, slices.ContainsFunc(child.Parents, func(p Parent) bool { return reflect.DeepEqual(p, l.parent) }):
		return false
	}
	child.Parents = append(child.Parents, l.parent)
	child.ColumnType = cmp.Or(child.ColumnType, parent.ColumnType)
	return true
}

// joined notes which tables a join table joins.
func joined(m Migrator, r *schema.Relationship, joins map[string][]string) error {
	if policy.IsShared(r.JoinTable) {
		return nil
	}
	join, err := parse(m, reflect.New(r.JoinTable.ModelType).Interface())
	if err != nil {
		return err
	}
	for _, side := range []*schema.Schema{r.Schema, r.FieldSchema} {
		model, err := parse(m, reflect.New(side.ModelType).Interface())
		if err != nil {
			return err
		}
		if !slices.Contains(joins[join.name], model.name) {
			joins[join.name] = append(joins[join.name], model.name)
		}
	}
	return nil
}

// adoptJoin notes which sides of a join table are tenant tables, and reports whether one is new.
func adoptJoin(join *Table, sides []string, tables map[string]*Table) (found bool) {
	if join == nil {
		return false // GORM was told to ignore relationships
	}
	for _, side := range sides {
		if t := tables[side]; t != nil && t.Asked() && !slices.Contains(join.Sides, side) {
			join.Sides = append(join.Sides, side)
			join.ColumnType = cmp.Or(join.ColumnType, t.ColumnType)
			found = true
		}
	}
	return found
}
