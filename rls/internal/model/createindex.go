package model

import (
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// IndexParts are the parts of an index as the tags of a model ask for it.
type IndexParts struct {
	Columns  []string // "" stands for an expression
	Elements []string // the same as SQL
	Using    string   // the access method, with what goes before the elements
	Suffix   string   // what comes after them: WHERE and the like
}

// indexParts returns the parts of an index. CONCURRENTLY, which GORM takes for an option, is not among them: it has no place
// in a transaction.
func (m Migrator) indexParts(index *schema.Index, stmt *gorm.Statement) IndexParts {
	var parts IndexParts
	for _, field := range index.Fields {
		column := identifier(stmt, field.DBName)
		if field.Expression != "" {
			column = ""
		}
		parts.Columns = append(parts.Columns, column)
	}
	for _, element := range m.BuildIndexOptions(index.Fields, stmt) {
		parts.Elements = append(parts.Elements, element.(clause.Expr).SQL)
	}
	if index.Type != "" {
		parts.Using = " USING " + index.Type
	}
	if option := strings.TrimSpace(index.Option); option != "" && !strings.EqualFold(option, "CONCURRENTLY") {
		parts.Suffix += " " + option
	}
	if index.Where != "" {
		parts.Suffix += " WHERE " + index.Where
	}
	return parts
}

// CreateIndex makes an index that a tag asks for, except for those that the plan makes.
func (m Migrator) CreateIndex(value any, name string) error {
	return m.RunWithValue(value, func(stmt *gorm.Statement) error {
		index := stmt.Schema.LookIndex(name)
		if index == nil {
			return fmt.Errorf("the model has no index %s", name)
		}
		return m.createIndex(stmt, index)
	})
}

func (m Migrator) createIndex(stmt *gorm.Statement, index *schema.Index) error {
	if m.set.tenants[stmt.Schema] && m.widens(index) {
		return nil
	}
	class, how := "", ""
	if index.Class != "" {
		class = index.Class + " "
	}
	if m.concurrent {
		how = " CONCURRENTLY"
	}
	parts := m.indexParts(index, stmt)
	return m.exec("CREATE ?INDEX? IF NOT EXISTS ? ON ?? (?)?", clause.Expr{SQL: class}, clause.Expr{SQL: how}, clause.Column{Name: index.Name},
		m.CurrentTable(stmt), clause.Expr{SQL: parts.Using}, clause.Expr{SQL: strings.Join(parts.Elements, ", ")},
		clause.Expr{SQL: parts.Suffix})
}

// Tagged is an index that a tag asks for, and that the plan does not make.
type Tagged struct {
	Table string // the name of the table, as in Table
	Name  string
	Tag   string   // the name as the tag has it
	SQL   []string // the statements that make it concurrently
}

// Tagged returns the indexes that AutoMigrate would make. Those of a tenant table that are unique are the plan's.
func (m Migrator) Tagged() ([]Tagged, error) {
	var list []Tagged
	for _, model := range m.set.models {
		for _, index := range model.Schema.ParseIndexes() {
			tagged := Tagged{Table: model.name, Name: identifier(model.Statement, index.Name), Tag: index.Name}
			m.recorded, m.concurrent = &tagged.SQL, true
			err := m.createIndex(model.Statement, index)
			m.recorded, m.concurrent = nil, false
			if err != nil {
				return nil, err
			}
			list = append(list, tagged)
		}
	}
	return list, nil
}

// widens reports whether an index is unique without the tenant column.
func (m Migrator) widens(index *schema.Index) bool {
	return index.Class == "UNIQUE" &&
		!slices.ContainsFunc(index.Fields, func(o schema.IndexOption) bool { return o.DBName == m.set.column && o.Expression == "" })
}
