// Package model knows what GORM's models ask of their tables, and how GORM makes these.
package model

import (
	"errors"
	"fmt"
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

	TenantKeys bool                  // the primary keys of tenant tables begin with the tenant column
	Partitions map[string]Partitions // the partitions of new tables, by the name of the table

	given   []any
	models  []parsed // those given, and after them those that AutoMigrate migrates with them
	column  string   // the tenant column
	tenants map[*schema.Schema]bool
	related bool // relations become foreign keys
}

// Table is a table that models ask for.
type Table struct {
	Name       string // quoted as GORM quotes it in statements
	Index      string // what GORM would call an index of the tenant column
	Tenant     bool   // a model has the tenant column and is not shared
	Sharing    policy.Sharing
	OwnColumn  string   // of a SharedOwn table: whose a row is, the tenant column or the primary key
	Sides      []string // of a join table: the names of the tenant tables it joins
	Parents    []Parent // of a child table: the tenant tables it refers to
	ColumnType string   // of the tenant column, as GORM would make it; empty if the models have none
	Primary    []string // the columns of the primary key
	Named      bool     // a model has a field for the tenant column

	Uniques    []Unique
	References []Reference
}

// IsTenant reports whether the rows of the table belong to tenants. A tenant column that only the table has counts as well:
// to grant access to its rows without a policy would be a leak.
func (t Table) IsTenant(live catalog.Relation) bool {
	return t.Asked() || live.Column != nil && t.Sharing == policy.NotShared
}

// Asked reports whether the models make it a tenant table.
func (t Table) Asked() bool { return t.Tenant || len(t.Sides) > 0 || len(t.Parents) > 0 }

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
	tables, err := s.tables(m)
	if err != nil {
		return nil, err
	}
	if err := s.adopt(m, tables); err != nil {
		return nil, err
	}
	s.constraints(m, tables)
	return s, nil
}

// parse parses the models. GORM finds those that AutoMigrate migrates with them in any order; as no table has foreign keys from the
// start, they can be in that of their names.
func (s *Set) parse(m Migrator) error {
	for _, value := range s.given {
		model, err := parse(m, value)
		if errors.Is(err, errTableName) {
			return err
		}
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

// errTableName refuses the name of a table that GORM takes for a schema without a table, or a table in a schema without a name.
var errTableName = errors.New("nothing stands before or after a dot: name the table, or the schema and the table with one dot between them")

// parse parses a model.
func parse(m Migrator, value any) (model parsed, err error) {
	err = m.RunWithValue(value, func(stmt *gorm.Statement) error {
		if table := stmt.Schema; table != nil && (strings.HasPrefix(table.Table, ".") || strings.HasSuffix(table.Table, ".")) {
			return fmt.Errorf("model %T has the table name %q, in which %w", value, table.Table, errTableName)
		}
		model = parsed{value: value, name: nameOf(stmt), Statement: stmt}
		return nil
	})
	return model, err
}

// nameOf returns the name of a statement's table, quoted as GORM quotes it in statements.
func nameOf(stmt *gorm.Statement) string {
	if stmt.TableExpr != nil {
		return stmt.TableExpr.SQL
	}
	return stmt.Quote(stmt.Table)
}

// tables finds the tables of the models, and returns them by name.
func (s *Set) tables(m Migrator) (map[string]*Table, error) {
	byName := map[string]*Table{}
	for _, model := range s.models {
		if err := policy.ValidateSharing(model.Schema); err != nil {
			return nil, err
		}
		t := byName[model.name]
		if t == nil {
			t = &Table{Name: model.name, Index: m.DB.NamingStrategy.IndexName(model.Schema.Table, s.column)}
			byName[model.name], s.Tables = t, append(s.Tables, t)
		}
		t.Tenant = t.Tenant || s.isTenant(model.Schema)
		t.Primary = identifiers(model.Statement, model.Schema.PrimaryFields)
		if t.Sharing == policy.NotShared {
			t.Sharing = policy.SharingOf(model.Schema)
		}
		if field := model.Schema.FieldsByDBName[s.column]; field != nil {
			t.ColumnType, t.Named = m.DataTypeOf(field), true
		}
		if t.Sharing == policy.SharedOwn {
			if err := t.own(s.column); err != nil {
				return nil, fmt.Errorf("model %s: %w", model.Schema.Name, err)
			}
		}
	}
	return byName, nil
}

// own finds the column that says whose a row is.
func (t *Table) own(column string) error {
	switch {
	case t.Named:
		t.OwnColumn = column
	case len(t.Primary) == 1:
		t.OwnColumn = t.Primary[0]
	default:
		return fmt.Errorf("it has TenantOwnRows, but neither the column %s nor a primary key of one column, so that no column says "+
			"whose a row is: add the column", column)
	}
	return nil
}

// Column returns the name of the tenant column.
func (s *Set) Column() string { return s.column }

// isTenant reports whether the model is a tenant's.
func (s *Set) isTenant(model *schema.Schema) bool {
	return model.FieldsByDBName[s.column] != nil && !policy.IsShared(model)
}

// TableOf returns the name of a model's table, which must be among those of the set and have the columns.
func (s *Set) TableOf(db *gorm.DB, value any, columns []string) (string, error) {
	m, err := parse(s.Migrator(db), value)
	if err != nil || m.Schema == nil {
		return "", fmt.Errorf("model %T has no table: pass a pointer to a struct with at least one column", value)
	}
	if !slices.ContainsFunc(s.Tables, func(t *Table) bool { return t.Name == m.name }) {
		return "", fmt.Errorf("model %T is not among those that are migrated", value)
	}
	for _, column := range columns {
		if m.Schema.FieldsByDBName[column] == nil {
			return "", fmt.Errorf("model %T has no column %q", value, column)
		}
	}
	return m.name, nil
}
