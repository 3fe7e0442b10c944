package model

import (
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Unique is what a tag of a model asks to be unique. Among tenants that would be a leak: one would learn what the others
// have, from the error. So it is made unique within each tenant.
type Unique struct {
	Name       string
	Constraint bool // of the columns, not a mere index
	IndexParts
}

// Whole reports whether a foreign key could refer to it, and any query use it.
func (u Unique) Whole() bool { return u.Suffix == "" && !slices.Contains(u.Columns, "") }

// Reference is a foreign key that the relation of a model asks for, in GORM's words: without the tenant column.
type Reference struct {
	Name               string
	Columns            []string
	Parent             string   // the table it refers to, quoted as GORM quotes it in statements
	Keys               []string // the columns it refers to
	OnDelete, OnUpdate string
}

// constraints notes on the tables what the models ask to be unique and what they refer to, and which models are tenants'.
func (s *Set) constraints(m Migrator, tables map[string]*Table) {
	for _, model := range s.models {
		t := tables[model.name]
		if t.Asked() {
			s.tenants[model.Schema] = true
		}
		for _, u := range m.uniques(model.Statement) {
			if !slices.ContainsFunc(t.Uniques, func(other Unique) bool { return other.Name == u.Name }) {
				t.Uniques = append(t.Uniques, u)
			}
		}
		for _, r := range m.references(model.Statement) {
			if !slices.ContainsFunc(t.References, func(other Reference) bool { return other.Name == r.Name }) {
				t.References = append(t.References, r)
			}
		}
	}
}

// uniques returns what the tags of a model ask to be unique, as far as it would be unique among tenants.
func (m Migrator) uniques(stmt *gorm.Statement) []Unique {
	var (
		s    = stmt.Schema
		list []Unique
	)
	tagged := s.ParseUniqueConstraints()
	for _, name := range slices.Sorted(maps.Keys(tagged)) {
		if column := tagged[name].Field.DBName; column != m.set.column {
			columns := IndexParts{Columns: []string{identifier(stmt, column)}}
			list = append(list, Unique{Name: identifier(stmt, name), Constraint: true, IndexParts: columns})
		}
	}
	for _, index := range s.ParseIndexes() {
		if !m.widens(index) {
			continue
		}
		list = append(list, Unique{Name: identifier(stmt, index.Name), IndexParts: m.indexParts(index, stmt)})
	}
	return list
}

// references returns the foreign keys that a model's table should have, as GORM would make them.
func (m Migrator) references(stmt *gorm.Statement) []Reference {
	if !m.set.related {
		return nil
	}
	var (
		s    = stmt.Schema
		list []Reference
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
		list = append(list, Reference{
			Name:     identifier(stmt, c.Name),
			Columns:  identifiers(stmt, c.ForeignKeys),
			Parent:   stmt.Quote(c.ReferenceSchema.Table),
			Keys:     identifiers(stmt, c.References),
			OnDelete: action(c.OnDelete),
			OnUpdate: action(c.OnUpdate),
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
	return sqltext.Cut(strings.ReplaceAll(quoted[1:len(quoted)-1], `""`, `"`), sqltext.MaxIdentifier)
}

// action returns the action of a foreign key as PostgreSQL's documentation spells it. A list of columns is left out: it is
// ours to make.
func action(tag string) string {
	tag, _, _ = strings.Cut(tag, "(")
	return strings.ToUpper(strings.Join(strings.Fields(tag), " "))
}
