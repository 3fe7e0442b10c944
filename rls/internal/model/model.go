// Package model knows what GORM's models ask of their tables, and how GORM makes these.
package model

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// Set is what models ask for. They are parsed once, into a set that is handed down.
type Set struct {
	Tables []*Table // each once

	given   []any
	models  []parsed // those given, and after them those that AutoMigrate migrates with them
	column  string   // the tenant column
	tenants map[*schema.Schema]bool
	related bool // relations become foreign keys
}

// Table is a table that models ask for.
type Table struct {
	Name       string   // quoted as GORM quotes it in statements
	Index      string   // what GORM would call an index of the tenant column
	Tenant     bool     // a model has the tenant column and is not shared
	Shared     bool     // a model says TenantShared
	Sides      []string // of a join table: the names of the tenant tables it joins
	ColumnType string   // of the tenant column, as GORM would make it; empty if the models have none

	Uniques    []Unique
	References []Reference
}

// IsTenant reports whether the rows of the table belong to tenants. A tenant column that only the table has counts as well:
// to grant access to its rows without a policy would be a leak.
func (t Table) IsTenant(live catalog.Relation) bool {
	return t.Asked() || live.Column != nil && !t.Shared
}

// Asked reports whether the models make it a tenant table.
func (t Table) Asked() bool { return t.Tenant || len(t.Sides) > 0 }

// parsed is a model with what GORM knows of it.
type parsed struct {
	value any
	name  string // of its table, quoted as GORM quotes it in statements
	*gorm.Statement
}

// Usable refuses what a database cannot be asked or migrated with.
func Usable(db *gorm.DB) error {
	if err := Supported(db); err != nil {
		return err
	}
	if db.DryRun {
		return errors.New("the *gorm.DB is in DryRun mode, in which nothing can be migrated")
	}
	return nil
}

// Supported refuses other dialects than PostgreSQL's.
func Supported(db *gorm.DB) error {
	if db == nil || db.Config == nil || db.Dialector == nil {
		return errors.New("no database: pass the *gorm.DB of the role that owns the tables")
	}
	if _, ok := unkept(db.Dialector).Migrator(db).(postgres.Migrator); !ok {
		return fmt.Errorf("dialect %q is not supported: open the database with gorm.io/driver/postgres", db.Name())
	}
	return nil
}

// Parse parses models, and finds the tables of them and of all that AutoMigrate migrates with them. The database must be Supported.
func Parse(db *gorm.DB, column string, models []any) (*Set, error) {
	s := &Set{
		given:   models,
		column:  column,
		tenants: map[*schema.Schema]bool{},
		related: !db.DisableForeignKeyConstraintWhenMigrating && !db.IgnoreRelationshipsWhenMigrating,
	}
	m := s.Migrator(db)
	if err := s.parse(m); err != nil {
		return nil, err
	}
	tables := s.tables(m)
	for _, model := range s.models {
		for _, relationship := range model.Schema.Relationships.Relations {
			if err := s.join(m, tables, relationship); err != nil {
				return nil, err
			}
		}
	}
	s.constraints(m, tables)
	return s, nil
}

// parse parses the models. GORM finds those that AutoMigrate migrates with them in any order; as no table has foreign keys from the
// start, they can be in that of their names.
func (s *Set) parse(m Migrator) error {
	for _, value := range s.given {
		model, err := parse(m, value)
		if err != nil || model.Schema == nil || len(model.Schema.DBNames) == 0 {
			// The error is left out: GORM's text holds the model's values.
			return fmt.Errorf("model %T has no table: pass a pointer to a struct with at least one column", value)
		}
		s.models = append(s.models, model)
	}
	for _, value := range m.ReorderModels(s.given, true) {
		model, err := parse(m, value)
		if err != nil {
			return err
		}
		s.models = append(s.models, model)
	}
	slices.SortStableFunc(s.models[len(s.given):], func(a, b parsed) int { return strings.Compare(a.name, b.name) })
	return nil
}

// parse parses a model.
func parse(m Migrator, value any) (model parsed, err error) {
	err = m.RunWithValue(value, func(stmt *gorm.Statement) error {
		model = parsed{value: value, name: stmt.Quote(stmt.Table), Statement: stmt}
		if stmt.TableExpr != nil {
			model.name = stmt.TableExpr.SQL
		}
		return nil
	})
	return model, err
}

// tables finds the tables of the models, and returns them by name.
func (s *Set) tables(m Migrator) map[string]*Table {
	byName := map[string]*Table{}
	for _, model := range s.models {
		t := byName[model.name]
		if t == nil {
			t = &Table{Name: model.name, Index: m.DB.NamingStrategy.IndexName(model.Schema.Table, s.column)}
			byName[model.name], s.Tables = t, append(s.Tables, t)
		}
		t.Tenant = t.Tenant || s.isTenant(model.Schema)
		t.Shared = t.Shared || policy.IsShared(model.Schema)
		if field := model.Schema.FieldsByDBName[s.column]; field != nil {
			t.ColumnType = m.DataTypeOf(field)
		}
	}
	return byName
}

// join notes on the join table of a relationship which tenant tables it joins.
func (s *Set) join(m Migrator, tables map[string]*Table, r *schema.Relationship) error {
	if r.JoinTable == nil || policy.IsShared(r.JoinTable) {
		return nil
	}
	join, err := parse(m, reflect.New(r.JoinTable.ModelType).Interface())
	if err != nil {
		return err
	}
	table := tables[join.name]
	if table == nil {
		return nil // GORM was told to ignore relationships
	}
	for _, side := range []*schema.Schema{r.Schema, r.FieldSchema} {
		if !s.isTenant(side) {
			continue
		}
		model, err := parse(m, reflect.New(side.ModelType).Interface())
		if err != nil {
			return err
		}
		table.Sides = append(table.Sides, model.name)
		if joined := tables[model.name]; joined != nil {
			table.ColumnType = cmp.Or(table.ColumnType, joined.ColumnType)
		}
	}
	return nil
}

// isTenant reports whether the model is a tenant's.
func (s *Set) isTenant(model *schema.Schema) bool {
	return model.FieldsByDBName[s.column] != nil && !policy.IsShared(model)
}
