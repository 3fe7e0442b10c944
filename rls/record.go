package rls

import (
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// exec runs a statement, or keeps it while statements are recorded.
func (m migrator) exec(sql string, vars ...any) error {
	if m.recorded == nil {
		return m.DB.Session(&gorm.Session{}).Exec(sql, vars...).Error
	}
	stmt := &gorm.Statement{DB: m.DB}
	clause.Expr{SQL: sql, Vars: vars}.Build(stmt)
	*m.recorded = append(*m.recorded, stmt.SQL.String())
	return nil
}

// madeTable is a table with the statements by which GORM makes it.
type madeTable struct {
	name       string // quoted as GORM quotes it in statements
	statements []string
}

// record returns what GORM runs for the models in an empty database, and runs nothing.
func (m migrator) record(models []any) ([]madeTable, error) {
	var made []madeTable
	for _, model := range m.all(models) {
		name, _, err := m.parse(model)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(made, func(t madeTable) bool { return t.name == name }) {
			continue
		}
		var statements []string
		m.recorded = &statements
		err = m.RunWithValue(model, func(stmt *gorm.Statement) error { return m.createTable(model, stmt) })
		if err != nil {
			return nil, err
		}
		made = append(made, madeTable{name: name, statements: statements})
	}
	return made, nil
}

// all returns the models and, after them, those that AutoMigrate migrates with them. GORM finds these in any order; as no
// table has foreign keys from the start, they can be in that of their names.
func (m migrator) all(models []any) []any {
	found := m.ReorderModels(models, true)
	slices.SortStableFunc(found, func(a, b any) int {
		first, _, _ := m.parse(a)
		second, _, _ := m.parse(b)
		return strings.Compare(first, second)
	})
	return append(slices.Clone(models), found...)
}
