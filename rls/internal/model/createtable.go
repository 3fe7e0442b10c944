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
	sql := "CREATE TABLE IF NOT EXISTS ? (\n\t" + strings.Join(lines, ",\n\t") + "\n)"
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
	keyed := false
	for _, name := range s.DBNames {
		field := s.FieldsByDBName[name]
		if field.IgnoreMigration && !m.makes(field) {
			continue
		}
		keyed = keyed || strings.Contains(strings.ToUpper(m.DataTypeOf(field)), "PRIMARY KEY")
		lines, vars = append(lines, "? ?"), append(vars, clause.Column{Name: name}, m.FullDataTypeOf(field))
	}
	if !keyed && len(s.PrimaryFields) > 0 {
		key := make([]any, len(s.PrimaryFields))
		for n, field := range s.PrimaryFields {
			key[n] = clause.Column{Name: field.DBName}
		}
		lines, vars = append(lines, "PRIMARY KEY ?"), append(vars, key)
	}
	return lines, vars
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
