package rls

import (
	"fmt"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// target is a table that models ask for.
type target struct {
	name   string   // quoted as GORM quotes it in statements
	index  string   // what GORM would call an index of the tenant column
	tenant bool     // a model has the tenant column and is not shared
	shared bool     // a model says TenantShared
	sides  []string // of a join table: the names of the tenants' tables it joins

	uniques    []uniqueness
	references []reference
}

// isTenant tells whether the rows of the table belong to tenants. A tenant column that only the table has counts as well:
// to grant access to its rows without a policy would be a leak.
func (t target) isTenant(live relation) bool {
	return t.tenant || len(t.sides) > 0 || live.Column != nil && !t.shared
}

// targets returns the tables of the models and of all that AutoMigrate migrates with them, each once.
func (m migrator) targets(models []any) ([]*target, error) {
	for _, model := range models {
		if _, s, err := m.parse(model); err != nil || s == nil || len(s.DBNames) == 0 {
			// The error is left out: GORM's text holds the model's values.
			return nil, fmt.Errorf("model %T has no table: pass a pointer to a struct with at least one column", model)
		}
	}
	var (
		all     = m.all(models)
		schemas = make([]*schema.Schema, len(all))
		found   []*target
		byName  = map[string]*target{}
	)
	for n, model := range all {
		name, s, err := m.parse(model)
		if err != nil {
			return nil, err
		}
		schemas[n] = s
		t := byName[name]
		if t == nil {
			t = &target{name: name, index: m.DB.NamingStrategy.IndexName(s.Table, m.column)}
			byName[name], found = t, append(found, t)
		}
		t.tenant = t.tenant || m.isTenant(s)
		t.shared = t.shared || isShared(s)
	}
	for _, s := range schemas {
		for _, relationship := range s.Relationships.Relations {
			if err := m.join(byName, relationship); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// join notes on the join table of a relationship which tenants' tables it joins.
func (m migrator) join(tables map[string]*target, r *schema.Relationship) error {
	if r.JoinTable == nil || isShared(r.JoinTable) {
		return nil
	}
	name, _, err := m.parse(reflect.New(r.JoinTable.ModelType).Interface())
	if err != nil {
		return err
	}
	table := tables[name]
	if table == nil {
		return nil // GORM was told to ignore relationships
	}
	for _, side := range []*schema.Schema{r.Schema, r.FieldSchema} {
		if !m.isTenant(side) {
			continue
		}
		name, _, err := m.parse(reflect.New(side.ModelType).Interface())
		if err != nil {
			return err
		}
		table.sides = append(table.sides, name)
	}
	return nil
}

// parse returns a model's schema, and its table's name quoted as GORM quotes it in statements.
func (m migrator) parse(model any) (name string, s *schema.Schema, err error) {
	err = m.RunWithValue(model, func(stmt *gorm.Statement) error {
		name, s = stmt.Quote(stmt.Table), stmt.Schema
		if stmt.TableExpr != nil {
			name = stmt.TableExpr.SQL
		}
		return nil
	})
	return name, s, err
}

// isTenant tells whether the model is a tenant's.
func (m migrator) isTenant(s *schema.Schema) bool {
	return s.FieldsByDBName[m.column] != nil && !isShared(s)
}

// isShared tells whether the model says that all tenants share it.
func isShared(s *schema.Schema) bool {
	_, shared := reflect.New(s.ModelType).Interface().(interface{ TenantShared() })
	return shared
}
