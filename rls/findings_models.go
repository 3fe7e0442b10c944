package rls

import (
	"cmp"
	"fmt"
	"slices"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// Codes of models.
const (
	ModelTableMissing  Code = "model-table-missing"
	ModelColumnMissing Code = "model-column-missing"
)

// model is a table that models ask for, and what there is of it.
type model struct {
	*target
	columnType string // of the tenant column, as GORM would make it; empty if the model has none
	oid        int64
	live       *modelFact // nil if the table does not exist
}

// modelFact is the table of a model.
type modelFact struct {
	relation
	OID      int64
	Columned bool // it has the tenant column
}

const modelsQuery = `
SELECT json_agg(json_build_object(
	'oid',      c.oid::bigint,
	'schema',   n.nspname,
	'table',    c.relname,
	'columned', EXISTS (
		SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = $1 AND attnum > 0 AND NOT attisdropped)))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($7::oid[])`

func (m *model) String() string {
	if m.live == nil {
		return m.name
	}
	return m.live.String()
}

var modelRules = []rule[*model]{
	{
		code: ModelTableMissing, severity: Medium,
		found: func(_ *checker, m *model) bool { return m.live == nil },
		problem: "The table of this model does not exist, or not in the search_path of the connection, so that its isolation could " +
			"not be checked: run Migrate, or check as a role with the search_path of the application.",
	},
	{
		code: ModelColumnMissing, severity: Critical,
		found: func(_ *checker, m *model) bool {
			return m.live != nil && !m.live.Columned && (m.tenant || len(m.sides) > 0)
		},
		problem: "Its model is a tenant's, but the table lacks the tenant column, so that each tenant reads and changes the rows of " +
			"all: give rows that are there their tenant between the first two statements of the fix.",
		fix: func(c *checker, m *model) []string {
			t := &tenantTable{relation: m.live.relation, Name: ident(c.Column), wanted: m.columnType}
			return slices.Concat(
				[]string{
					t.alter(fmt.Sprintf("ADD COLUMN %s %s", t.Name, t.wanted)),
					t.alter(fmt.Sprintf("ALTER COLUMN %s SET NOT NULL", t.Name)),
					c.setDefault(t.quoted(), t.wanted),
					c.index(t),
				},
				c.isolate(t))
		},
	},
}

// parseModels returns the tables that the models ask for.
func (c *checker) parseModels(tx *gorm.DB) ([]*model, error) {
	m := migrator{Migrator: unkept(tx.Dialector).Migrator(tx.Session(&gorm.Session{})).(postgres.Migrator), column: c.Column}
	targets, err := m.targets(c.models)
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, parsed := range m.ReorderModels(c.models, true) {
		name, s, err := m.parse(parsed)
		if err != nil {
			return nil, err
		}
		if field := s.FieldsByDBName[c.Column]; field != nil {
			types[name] = m.DataTypeOf(field)
		}
	}
	var models []*model
	for _, t := range targets {
		found := &model{target: t, columnType: types[t.name]}
		for _, side := range t.sides { // of a join table, which has no field
			found.columnType = cmp.Or(found.columnType, types[side])
		}
		models = append(models, found)
	}
	return models, nil
}
