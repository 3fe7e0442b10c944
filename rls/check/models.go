package check

import (
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// modelTable is a table that models ask for, and what there is of it.
type modelTable struct {
	*model.Table
	oid  int64
	live *modelFact // nil if the table does not exist
}

// modelFact is the table of a model.
type modelFact struct {
	catalog.Relation
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

func (m *modelTable) String() string {
	if m.live == nil {
		return m.Name
	}
	return m.live.String()
}

var modelRules = []rule[*modelTable]{
	{
		code: ModelTableMissing, severity: Medium,
		found: func(_ *checker, m *modelTable) bool { return m.live == nil },
		problem: "The table of this model does not exist, or not in the search_path of the connection, so that its isolation could " +
			"not be checked: run Migrate, or check as a role with the search_path of the application.",
	},
	{
		code: ModelColumnMissing, severity: Critical,
		found: func(_ *checker, m *modelTable) bool {
			return m.live != nil && !m.live.Columned && m.Asked()
		},
		problem: "Its model is a tenant's, but the table lacks the tenant column, so that each tenant reads and changes the rows of " +
			"all: give rows that are there their tenant between the first two statements of the fix.",
		fix: func(c *checker, m *modelTable) []string {
			t := &tenantTable{Relation: m.live.Relation, Name: sqltext.Ident(c.Column), wanted: m.ColumnType}
			return slices.Concat(
				[]string{
					t.alter(fmt.Sprintf("ADD COLUMN %s %s", t.Name, t.wanted)),
					t.alter(fmt.Sprintf("ALTER COLUMN %s SET NOT NULL", t.Name)),
					c.SetDefault(t.Quoted(), t.wanted),
					c.index(t),
				},
				c.isolate(t))
		},
	},
}
