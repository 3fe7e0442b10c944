package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// CreateTable makes the tables of models, as GORM's migrator does, except for what the plan makes: foreign keys, and what is
// unique of a tenant table.
func (m Migrator) CreateTable(values ...any) error {
	for _, value := range m.ReorderModels(values, false) {
		if err := m.RunWithValue(value, m.createTable); err != nil {
			return err
		}
	}
	return nil
}

func (m Migrator) createTable(stmt *gorm.Statement) error {
	s := stmt.Schema
	lines, vars := m.columns(s)
	for _, constraint := range m.localConstraints(s) {
		sql, values := constraint.Build()
		lines, vars = append(lines, sql), append(vars, values...)
	}
	sql := "CREATE TABLE IF NOT EXISTS ? (\n\t" + strings.Join(lines, ",\n\t") + "\n)" + m.set.partitionBy(nameOf(stmt))
	if options, ok := m.DB.Get("gorm:table_options"); ok {
		sql += fmt.Sprint(options)
	}
	if err := m.exec(sql, append([]any{m.CurrentTable(stmt)}, vars...)...); err != nil {
		return err
	}
	for _, index := range s.ParseIndexes() {
		if err := m.createIndex(stmt, index); err != nil {
			return err
		}
	}
	for _, name := range s.DBNames {
		if err := m.comment(stmt, s.FieldsByDBName[name]); err != nil {
			return err
		}
	}
	return nil
}

// columns returns the definitions of the columns and of the primary key.
func (m Migrator) columns(s *schema.Schema) (lines []string, vars []any) {
	for _, name := range s.DBNames {
		field := s.FieldsByDBName[name]
		if field.IgnoreMigration && !m.makes(field) {
			continue
		}
		lines, vars = append(lines, "? ?"), append(vars, clause.Column{Name: name}, m.FullDataTypeOf(field))
	}
	if len(s.PrimaryFields) > 0 && !m.keyedByType(s) {
		var key []any
		for _, field := range m.key(s) {
			key = append(key, clause.Column{Name: field.DBName})
		}
		lines, vars = append(lines, "PRIMARY KEY ?"), append(vars, key)
	}
	return lines, vars
}

// key returns the columns of the primary key. A tenant column that only the plan adds, as to join tables, is not among them yet.
func (m Migrator) key(s *schema.Schema) []*schema.Field {
	tenant := s.FieldsByDBName[m.set.column]
	switch {
	case !m.set.TenantKeys, !m.set.tenants[s], tenant == nil, len(s.PrimaryFields) == 0, slices.Contains(s.PrimaryFields, tenant):
		return s.PrimaryFields
	case tenant.IgnoreMigration && !m.makes(tenant), m.keyedByType(s):
		return s.PrimaryFields
	}
	return append([]*schema.Field{tenant}, s.PrimaryFields...)
}

// keyedByType reports whether the type of a column makes it the primary key.
func (m Migrator) keyedByType(s *schema.Schema) bool {
	return slices.ContainsFunc(s.DBNames, func(name string) bool {
		field := s.FieldsByDBName[name]
		return (!field.IgnoreMigration || m.makes(field)) && strings.Contains(strings.ToUpper(m.DataTypeOf(field)), "PRIMARY KEY")
	})
}

// localConstraints returns the unique and check constraints that the plan does not make, in the order of their names.
func (m Migrator) localConstraints(s *schema.Schema) []schema.ConstraintInterface {
	var list []schema.ConstraintInterface
	uniques, checks := s.ParseUniqueConstraints(), s.ParseCheckConstraints()
	for _, name := range slices.Sorted(maps.Keys(uniques)) {
		if unique := uniques[name]; !m.set.tenants[s] || unique.Field.DBName == m.set.column {
			list = append(list, &unique)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		check := checks[name]
		list = append(list, &check)
	}
	return list
}

// comment writes the comment of a column's tag.
func (m Migrator) comment(stmt *gorm.Statement, field *schema.Field) error {
	if field.Comment == "" {
		return nil
	}
	return m.exec("COMMENT ON COLUMN ?.? IS ?", m.CurrentTable(stmt), clause.Column{Name: field.DBName},
		clause.Expr{SQL: sqltext.Literal(field.Comment)})
}
