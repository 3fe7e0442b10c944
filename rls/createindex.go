package rls

import (
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// indexParts are the parts of an index as the tags of a model ask for it.
type indexParts struct {
	columns  []string // "" stands for an expression
	elements []string // the same as SQL
	using    string   // the access method, with what goes before the elements
	suffix   string   // what comes after them: WHERE and the like
}

// indexParts returns the parts of an index. CONCURRENTLY, which GORM takes for an option, is not among them: it has no place
// in a transaction.
func (m migrator) indexParts(index *schema.Index, stmt *gorm.Statement) indexParts {
	var parts indexParts
	for _, field := range index.Fields {
		column := identifier(stmt, field.DBName)
		if field.Expression != "" {
			column = ""
		}
		parts.columns = append(parts.columns, column)
	}
	for _, element := range m.BuildIndexOptions(index.Fields, stmt) {
		parts.elements = append(parts.elements, element.(clause.Expr).SQL)
	}
	if index.Type != "" {
		parts.using = " USING " + index.Type
	}
	if option := strings.TrimSpace(index.Option); option != "" && !strings.EqualFold(option, "CONCURRENTLY") {
		parts.suffix += " " + option
	}
	if index.Where != "" {
		parts.suffix += " WHERE " + index.Where
	}
	return parts
}

// CreateIndex makes an index that a tag asks for, except for those that the plan makes.
func (m migrator) CreateIndex(value any, name string) error {
	return m.RunWithValue(value, func(stmt *gorm.Statement) error {
		index := stmt.Schema.LookIndex(name)
		switch {
		case index == nil:
			return fmt.Errorf("the model has no index %s", name)
		case m.tenants[stmt.Schema] && m.widens(index):
			return nil
		}
		class, how := "", ""
		if index.Class != "" {
			class = index.Class + " "
		}
		if m.concurrent {
			how = concurrently
		}
		parts := m.indexParts(index, stmt)
		return m.exec("CREATE ?INDEX? IF NOT EXISTS ? ON ?? (?)?", clause.Expr{SQL: class}, clause.Expr{SQL: how}, clause.Column{Name: index.Name},
			m.CurrentTable(stmt), clause.Expr{SQL: parts.using}, clause.Expr{SQL: strings.Join(parts.elements, ", ")},
			clause.Expr{SQL: parts.suffix})
	})
}

// tagged returns the indexes that AutoMigrate would make of the tables. Those of a tenant's table that are unique are the
// plan's.
func (m migrator) tagged(tables []table, models []any) ([]Change, error) {
	byName := map[string]table{}
	for _, t := range tables {
		byName[t.name] = t
	}
	p := script{planned: map[string]*Change{}}
	for _, model := range m.all(models) {
		err := m.RunWithValue(model, func(stmt *gorm.Statement) error {
			name, s, err := m.parse(model)
			if err != nil {
				return err
			}
			t := byName[name]
			p.table = t.String()
			for _, index := range s.ParseIndexes() {
				name := identifier(stmt, index.Name)
				unfinished, exists := t.Indexes[name]
				if exists && !unfinished {
					continue
				}
				planUnfinished(&p, t, name)
				var statements []string
				m.recorded, m.concurrent = &statements, true
				err := m.CreateIndex(model, index.Name)
				m.recorded, m.concurrent = nil, false
				if err != nil {
					return err
				}
				for _, statement := range statements {
					change := p.add("make index "+index.Name, statement)
					change.early, change.apart = t.early(statement), statement+";\n"
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return p.list(), nil
}

// widens tells whether an index is unique without the tenant column.
func (m migrator) widens(index *schema.Index) bool {
	return index.Class == "UNIQUE" &&
		!slices.ContainsFunc(index.Fields, func(o schema.IndexOption) bool { return o.DBName == m.column && o.Expression == "" })
}
