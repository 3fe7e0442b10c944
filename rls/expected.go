package rls

import (
	"slices"
	"strings"

	"gorm.io/gorm"
)

// relations returns the tables of the targets as GORM makes them, in their order.
func (m migrator) relations(targets []*target, models []any) ([]relation, error) {
	byName := map[string]*relation{}
	for _, model := range m.all(models) {
		err := m.RunWithValue(model, func(stmt *gorm.Statement) error {
			name, _, err := m.parse(model)
			if err == nil && byName[name] == nil {
				byName[name] = m.relation(stmt)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	relations := make([]relation, len(targets))
	for n, t := range targets {
		relations[n] = *byName[t.name]
	}
	return relations, nil
}

// relation returns the table of a model as GORM makes it.
func (m migrator) relation(stmt *gorm.Statement) *relation {
	s, r := stmt.Schema, &relation{Table: identifier(stmt, stmt.Table), Version: versionOfColumnLists}
	if before, found := strings.CutSuffix(s.Table, "."+stmt.Table); found && stmt.TableExpr != nil {
		r.Schema = identifier(stmt, before)
	}
	r.Primary = identifiers(stmt, s.PrimaryFields)
	if len(r.Primary) > 0 {
		r.Uniques = append(r.Uniques, uniqueIndex{Columns: r.Primary, Constraint: true, Whole: true})
	}
	if field := s.FieldsByDBName[m.column]; field != nil && (!field.IgnoreMigration || m.makes(field)) {
		r.Column = &column{
			kept:    field.IgnoreMigration,
			Type:    canonicalType(m.DataTypeOf(field)),
			Indexes: m.leading(stmt),
			NotNull: field.NotNull || slices.Contains(s.PrimaryFields, field),
		}
	}
	for _, index := range s.ParseIndexes() {
		if index.Class == "UNIQUE" && !m.widens(index) {
			u := uniqueIndex{Name: identifier(stmt, index.Name), Whole: index.Where == "" && index.Option == ""}
			for _, field := range index.Fields {
				if field.Expression != "" {
					u.Whole = false
				}
				u.Columns = append(u.Columns, identifier(stmt, field.DBName))
			}
			r.Uniques = append(r.Uniques, u)
		}
	}
	for _, name := range s.DBNames {
		field := s.FieldsByDBName[name]
		dataType := strings.ToUpper(m.DataTypeOf(field))
		if !field.IgnoreMigration && (strings.Contains(dataType, "SERIAL") || strings.Contains(dataType, "AS IDENTITY")) {
			r.Sequences = append(r.Sequences, sequence{Schema: r.Schema, Name: sequenceName(r.Table, identifier(stmt, name))})
		}
	}
	return r
}

// leading returns the columns of each index that GORM makes and that leads with the tenant column.
func (m migrator) leading(stmt *gorm.Statement) (indexes [][]string) {
	s := stmt.Schema
	if len(s.PrimaryFields) > 0 && s.PrimaryFields[0].DBName == m.column {
		indexes = append(indexes, identifiers(stmt, s.PrimaryFields))
	}
	if s.FieldsByDBName[m.column].Unique {
		indexes = append(indexes, []string{identifier(stmt, m.column)})
	}
	for _, index := range s.ParseIndexes() {
		columns := m.indexParts(index, stmt).columns
		if columns[0] == identifier(stmt, m.column) && index.Where == "" && isBTree(index.Type) {
			indexes = append(indexes, columns)
		}
	}
	return indexes
}

func isBTree(method string) bool { return method == "" || strings.EqualFold(method, "btree") }

// canonicalTypes are the names that the types of tenant columns have in PostgreSQL (its documentation, "Data Types").
var canonicalTypes = map[string]string{
	"varchar":     "character varying",
	"int2":        "smallint",
	"smallserial": "smallint",
	"int":         "integer",
	"int4":        "integer",
	"serial":      "integer",
	"int8":        "bigint",
	"bigserial":   "bigint",
}

// canonicalType returns the name of a type as PostgreSQL writes it, without length.
func canonicalType(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(name), "(")
	name = strings.Join(strings.Fields(name), " ")
	if canonical := canonicalTypes[name]; canonical != "" {
		return canonical
	}
	return name
}

// sequenceName is the name that PostgreSQL gives to the sequence of a serial column (makeObjectName in its indexcmds.c): the
// longer part is shortened until all fits.
func sequenceName(table, column string) string {
	first, second := len(table), len(column)
	for first+second+len("__seq") > maxIdentifier {
		if first > second {
			first--
		} else {
			second--
		}
	}
	return cut(table, first) + "_" + cut(column, second) + "_seq"
}
