package policy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// The names of the policies.
const (
	Tenant   = "tenant_isolation"
	Admin    = "tenant_admin"
	ReadOnly = "tenant_read_only"
	Lookup   = "tenant_lookup"
	Rollout  = "tenant_rollout"
)

// Names are the policies that there can be.
var Names = []string{Tenant, Admin, ReadOnly, Lookup, Rollout}

// ColumnTypes are the types that a tenant column can have, as PostgreSQL writes them.
var ColumnTypes = []string{"text", "character varying", "uuid", "smallint", "integer", "bigint"}

// Names returns the names of the policies that a tenant table should have.
func (c Config) Names() []string {
	names := []string{Tenant}
	if c.AdminRole != "" {
		names = append(names, Admin)
	}
	if c.ReadOnlyRole != "" {
		names = append(names, ReadOnly)
	}
	return names
}

// On returns c for a table whose rows are told apart by another column: the primary key of a table that says TenantOwnRows.
func (c Config) On(column string) Config {
	c.Column = column
	return c
}

// Current is the expression for the current tenant as a value of the type, NULL when there is none. NULLIF is needed
// because a setting made for one transaction reads as an empty string after it, not as NULL.
func (c Config) Current(columnType string) string {
	return fmt.Sprintf("NULLIF(current_setting(%s, true), '')::%s", sqltext.Literal(c.Setting), columnType)
}

// claimed is the expression for the tenant that a policy goes by: Current, or what a function of package signing makes of the proof.
func (c Config) claimed(columnType string) string {
	switch c.Form {
	case Signed:
		return signing.Call(signing.FunctionTenant, c.Setting) + "::" + columnType
	case Either:
		return signing.Call(signing.FunctionTenantEither, c.Setting) + "::" + columnType
	default:
		return c.Current(columnType)
	}
}

// lookups is the policy for lookups. Where there is no role for them, every tenant reads the table.
func (c Config) lookups() definition {
	d := definition{command: reads, role: c.LookupRole, rows: everyRow}
	function := map[Form]string{Signed: signing.FunctionLookup, Either: signing.FunctionLookupEither}[c.Form]
	if c.LookupRole != "" && function != "" {
		d.rows = "(SELECT " + signing.Call(function, c.Setting) + ")"
		d.written = fmt.Sprintf("( SELECT %s AS %s)", writtenCall(function, c.Setting), function)
	}
	return d
}

// WrittenLookup is how PostgreSQL writes the condition of the policy for lookups.
func (c Config) WrittenLookup() string {
	d := c.lookups()
	return cmp.Or(d.written, d.rows)
}

// Predicate is the expression of the tenant's policy. The scalar subquery makes PostgreSQL read the setting once for a
// statement and not once for a row, and leaves the bare column for an index to match. Citus takes none: its workers read the setting once
// for a row where no index serves.
func (c Config) Predicate(columnType string) string {
	if c.Inline {
		return fmt.Sprintf("%s = %s", sqltext.Ident(c.Column), c.claimed(columnType))
	}
	return fmt.Sprintf("%s = (SELECT %s)", sqltext.Ident(c.Column), c.claimed(columnType))
}

// SetDefault makes the current tenant the default of the tenant column. The table is quoted.
func (c Config) SetDefault(table, columnType string) string {
	return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", table, sqltext.Ident(c.Column), c.Current(columnType))
}

// Create makes the policy of this name on a table, which is quoted. The tenant's is for PUBLIC, so that it holds for roles that
// come later. The admin's is a policy of its own, because permissive policies are joined by OR, and PostgreSQL reduces
// "… OR true" for that role alone and leaves the index scans of all others alone. That of the read-only role is for SELECT, so
// that no other command finds a row; so is the one for lookups, before the tenant is known: by the lookup role, or by all
// where there is none.
func (c Config) Create(name, table, columnType string) string {
	d := c.definition(name)
	role, condition := "PUBLIC", d.rows
	if d.role != "" {
		role = sqltext.Ident(d.role)
	}
	if d.rows == tenantsRows {
		condition = c.Predicate(columnType)
	}
	create := fmt.Sprintf("CREATE POLICY %s ON %s FOR %s TO %s USING (%s)", sqltext.Ident(name), table, d.command, role, condition)
	if d.command == all {
		create += fmt.Sprintf(" WITH CHECK (%s)", condition)
	}
	return create
}

// definition is what a policy lets which role do.
type definition struct {
	command string
	role    string // empty for PUBLIC
	rows    string // a condition, or tenantsRows
	written string // rows as pg_get_expr writes it; empty where it is the same
}

const (
	all, reads  = "ALL", "SELECT"
	tenantsRows = "" // those of Predicate
	everyRow    = "true"
)

func (c Config) definition(name string) definition {
	switch name {
	case Admin:
		return definition{command: all, role: c.AdminRole, rows: everyRow}
	case ReadOnly:
		return definition{command: reads, role: c.ReadOnlyRole, rows: everyRow}
	case Lookup:
		return c.lookups()
	case Rollout:
		return definition{command: all, role: c.OldRole, rows: everyRow}
	default:
		return definition{command: all, role: "", rows: tenantsRows}
	}
}

// Drop drops the policy of this name on a table, which is quoted, if it is there.
func Drop(name, table string) string {
	return fmt.Sprintf("DROP POLICY IF EXISTS %s ON %s", sqltext.Ident(name), table)
}

// IsColumnType reports whether a tenant column can have the type.
func IsColumnType(name string) bool { return slices.Contains(ColumnTypes, name) }
