package check

import (
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/internal/policy"
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

	Columns     []column
	OwnPolicies []ownPolicy         // those that apply to the application
	Granted     map[string][]string // to it, by privilege
}

var modelsQuery = `
SELECT json_agg(json_build_object(
	'oid',      c.oid::bigint,
	'schema',   n.nspname,
	'table',    c.relname,
	'enabled',  c.relrowsecurity,
	'forced',   c.relforcerowsecurity,
	'granted',  ` + grantsOf(aclOf("c"), "c.relowner") + `,
	'primaryname', (SELECT conname FROM pg_constraint WHERE conrelid = c.oid AND contype = 'p'),
	'primary',     (
		SELECT json_agg(a.attname) FROM pg_constraint con JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = ANY (con.conkey)
		WHERE con.conrelid = c.oid AND con.contype = 'p'),
	'columns',     (
		SELECT json_agg(json_build_object('name', attname, 'type', format_type(atttypid, NULL)))
		FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
	'ownpolicies', (
		SELECT json_agg(json_build_object('name', p.polname, 'stored', ` + policy.StoredOf("p") + `))
		FROM pg_policy p WHERE p.polrelid = c.oid AND p.polroles && ARRAY(SELECT oid FROM self)),
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
	{
		code: ModelKeyWithoutTenant, severity: Medium,
		found: func(c *checker, m *modelTable) bool {
			return m.live != nil && m.live.Columned && m.Tenant && slices.Contains(m.Primary, c.Column) &&
				len(m.live.Primary) > 0 && !slices.Contains(m.live.Primary, c.Column)
		},
		problem: "The primary key of its model holds the tenant column, and that of the table does not: from a conflict each tenant learns " +
			"which keys others have, and Save fails where it means its own row.",
		fix: func(_ *checker, m *modelTable) []string {
			return []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s, ADD PRIMARY KEY (%s)",
				m.live.Quoted(), sqltext.Ident(m.live.PrimaryName), sqltext.Idents(m.Primary))}
		},
	},
	{
		code: SharedTableWritable, severity: High,
		found: func(_ *checker, m *modelTable) bool {
			reads := m.Sharing == policy.SharedRead || m.Sharing == policy.NotShared && m.live != nil && !m.live.Columned
			return m.live != nil && reads && !m.Asked() && len(m.writers()) > 0
		},
		problem: "All tenants share it, and the application may write it: each tenant changes what the others read. If it must, let the " +
			"model say TenantOwnRows or DangerouslyTenantWritable.",
		by: func(m *modelTable) []string { return m.writers() },
		fix: func(_ *checker, m *modelTable) []string {
			return []string{fmt.Sprintf("REVOKE INSERT, UPDATE, DELETE ON TABLE %s FROM %s", m.live.Quoted(), join(m.writers()))}
		},
	},
	{
		code: OwnRowsNotIsolated, severity: High,
		found: func(c *checker, m *modelTable) bool {
			return m.live != nil && m.Sharing == policy.SharedOwn && (!m.live.Enabled || !m.live.Forced || len(m.strangers(c)) > 0)
		},
		problem: "Its model says that each tenant writes rows of its own, and no policy of the table ensures it: each tenant changes and " +
			"deletes the rows of others.",
		by:  func(m *modelTable) []string { return m.writers() },
		fix: func(c *checker, m *modelTable) []string { return m.isolateOwn(c) },
	},
}
