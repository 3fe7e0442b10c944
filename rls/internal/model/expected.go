package model

import (
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// Relations returns the tables as GORM makes them, in their order.
func (m Migrator) Relations() []catalog.Relation {
	byName := map[string]catalog.Relation{}
	for _, model := range m.set.models {
		if _, known := byName[model.name]; !known {
			byName[model.name] = m.relation(model.Statement)
		}
	}
	relations := make([]catalog.Relation, len(m.set.Tables))
	for n, t := range m.set.Tables {
		relations[n] = byName[t.Name]
	}
	return relations
}

// relation returns the table of a model as GORM makes it.
func (m Migrator) relation(stmt *gorm.Statement) catalog.Relation {
	s, r := stmt.Schema, catalog.Relation{Table: identifier(stmt, stmt.Table), Version: sqltext.PostgreSQL15}
	if before, found := strings.CutSuffix(s.Table, "."+stmt.Table); found && stmt.TableExpr != nil {
		r.Schema = identifier(stmt, before)
	}
	if p, partitioned := m.set.Partitions[nameOf(stmt)]; partitioned {
		r.Partitioned, r.PartedByTenant = true, catalog.ByHash
		if p.ByList {
			r.PartedByTenant = catalog.ByList
		}
	}
	r.Primary, r.PrimaryName = identifiers(stmt, m.key(s)), sqltext.Cut(r.Table, sqltext.MaxIdentifier-len("_pkey"))+"_pkey"
	if len(s.PrimaryFields) == 1 {
		r.PrimaryType = canonicalType(m.DataTypeOf(s.PrimaryFields[0]))
	}
	if len(r.Primary) > 0 {
		r.Uniques = append(r.Uniques, catalog.UniqueIndex{Columns: r.Primary, Constraint: true, Whole: true})
	}
	if field := s.FieldsByDBName[m.set.column]; field != nil && (!field.IgnoreMigration || m.makes(field)) {
		r.Column = &catalog.Column{
			Kept:    field.IgnoreMigration,
			Type:    canonicalType(m.DataTypeOf(field)),
			Indexes: m.leading(stmt),
			NotNull: field.NotNull || slices.Contains(m.key(s), field),
		}
	}
	for _, index := range s.ParseIndexes() {
		if index.Class == "UNIQUE" && !m.widens(index) {
			u := catalog.UniqueIndex{Name: identifier(stmt, index.Name), Whole: index.Where == "" && index.Option == ""}
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
			r.Sequences = append(r.Sequences, catalog.Sequence{Schema: r.Schema, Name: sequenceName(r.Table, identifier(stmt, name))})
		}
	}
	return r
}

// leading returns the columns of each index that GORM makes and that leads with the tenant column.
func (m Migrator) leading(stmt *gorm.Statement) (indexes [][]string) {
	s := stmt.Schema
	if key := m.key(s); len(key) > 0 && key[0].DBName == m.set.column {
		indexes = append(indexes, identifiers(stmt, key))
	}
	if s.FieldsByDBName[m.set.column].Unique {
		indexes = append(indexes, []string{identifier(stmt, m.set.column)})
	}
	for _, index := range s.ParseIndexes() {
		columns := m.indexParts(index, stmt).Columns
		if columns[0] == identifier(stmt, m.set.column) && index.Where == "" && isBTree(index.Type) {
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
	for first+second+len("__seq") > sqltext.MaxIdentifier {
		if first > second {
			first--
		} else {
			second--
		}
	}
	return sqltext.Cut(table, first) + "_" + sqltext.Cut(column, second) + "_seq"
}
