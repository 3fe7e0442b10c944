package model

import (
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// exec runs a statement, or keeps it while statements are recorded.
func (m Migrator) exec(sql string, vars ...any) error {
	if m.recorded == nil {
		return m.DB.Session(&gorm.Session{}).Exec(sql, vars...).Error
	}
	stmt := &gorm.Statement{DB: m.DB}
	clause.Expr{SQL: sql, Vars: vars}.Build(stmt)
	*m.recorded = append(*m.recorded, stmt.SQL.String())
	return nil
}

// recorder takes the statements of a migrator instead of PostgreSQL.
type recorder struct {
	recorded   *[]string // nil to run them
	concurrent bool      // indexes are made concurrently
	rehearsed  bool      // the tenant column is left to the plan
}

// Made is a table with the statements by which GORM makes it.
type Made struct {
	Name       string // quoted as GORM quotes it in statements
	Statements []string
}

// Record returns what GORM runs for the models in an empty database, and runs nothing.
func (m Migrator) Record() ([]Made, error) {
	var made []Made
	for _, model := range m.set.models {
		if slices.ContainsFunc(made, func(t Made) bool { return t.Name == model.name }) {
			continue
		}
		table := Made{Name: model.name}
		m.recorded = &table.Statements
		err := m.createTable(model.Statement)
		m.recorded = nil
		if err != nil {
			return nil, err
		}
		made = append(made, table)
	}
	return made, nil
}
