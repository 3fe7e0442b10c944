package rls

import (
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// constraints notes on the targets, which are the tables of the models, what the models ask to be unique and what they
// refer to. The session learns which models are tenants'.
func (m migrator) constraints(models []any, targets []*target) error {
	tables := make(map[string]*target, len(targets))
	for _, t := range targets {
		tables[t.name] = t
	}
	for _, model := range m.all(models) {
		name, s, err := m.parse(model)
		if err != nil {
			return err
		}
		t := tables[name]
		if t.tenant || len(t.sides) > 0 {
			m.tenants[s] = true
		}
		if err := m.constrain(t, model); err != nil {
			return err
		}
	}
	return nil
}

// constrain notes on a table what one of its models asks for.
func (m migrator) constrain(t *target, model any) error {
	return m.RunWithValue(model, func(stmt *gorm.Statement) error {
		for _, u := range m.uniques(stmt) {
			if !slices.ContainsFunc(t.uniques, func(other uniqueness) bool { return other.name == u.name }) {
				t.uniques = append(t.uniques, u)
			}
		}
		for _, r := range m.references(stmt) {
			if !slices.ContainsFunc(t.references, func(other reference) bool { return other.name == r.name }) {
				t.references = append(t.references, r)
			}
		}
		return nil
	})
}

// uniques returns what the tags of a model ask to be unique, as far as it would be unique among tenants.
func (m migrator) uniques(stmt *gorm.Statement) []uniqueness {
	var (
		s    = stmt.Schema
		list []uniqueness
	)
	tagged := s.ParseUniqueConstraints()
	for _, name := range slices.Sorted(maps.Keys(tagged)) {
		if column := tagged[name].Field.DBName; column != m.column {
			columns := indexParts{columns: []string{identifier(stmt, column)}}
			list = append(list, uniqueness{name: identifier(stmt, name), constraint: true, indexParts: columns})
		}
	}
	for _, index := range s.ParseIndexes() {
		if !m.widens(index) {
			continue
		}
		list = append(list, uniqueness{name: identifier(stmt, index.Name), indexParts: m.indexParts(index, stmt)})
	}
	return list
}

// references returns the foreign keys that a model's table should have, as GORM would make them.
func (m migrator) references(stmt *gorm.Statement) []reference {
	if !m.related {
		return nil
	}
	var (
		s    = stmt.Schema
		list []reference
	)
	relations := s.Relationships.Relations
	for _, name := range slices.Sorted(maps.Keys(relations)) {
		if relations[name].Field.IgnoreMigration {
			continue
		}
		c := relations[name].ParseConstraint()
		if c == nil || c.Schema != s {
			continue
		}
		list = append(list, reference{
			name:     identifier(stmt, c.Name),
			columns:  identifiers(stmt, c.ForeignKeys),
			parent:   stmt.Quote(c.ReferenceSchema.Table),
			keys:     identifiers(stmt, c.References),
			onDelete: action(c.OnDelete),
			onUpdate: action(c.OnUpdate),
		})
	}
	return list
}

// identifiers returns the names of the fields' columns.
func identifiers(stmt *gorm.Statement, fields []*schema.Field) []string {
	list := make([]string, len(fields))
	for n, field := range fields {
		list[n] = identifier(stmt, field.DBName)
	}
	return list
}

// identifier returns the name that an object has in PostgreSQL when GORM calls it so. GORM takes two quotes for one that is
// quoted already; PostgreSQL cuts off what is too long.
func identifier(stmt *gorm.Statement, name string) string {
	quoted := stmt.Quote(clause.Column{Name: name})
	return cut(strings.ReplaceAll(quoted[1:len(quoted)-1], `""`, `"`), maxIdentifier)
}
