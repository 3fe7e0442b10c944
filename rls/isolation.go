package rls

import (
	"context"
	"fmt"
	"regexp"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

const (
	defaultSetting = "app.tenant_id"
	defaultColumn  = "tenant_id"

	tenantPolicy = "tenant_isolation"
	adminPolicy  = "tenant_admin"
	readerPolicy = "tenant_read_only"

	// maxIdentifier is the length in bytes at which PostgreSQL cuts an identifier off (NAMEDATALEN - 1).
	maxIdentifier = 63
)

// Isolation says how tenants are kept apart in a database. The zero value is complete: it isolates by the column
// "tenant_id" and the setting "app.tenant_id", and leaves roles alone.
type Isolation struct {
	// Setting is the PostgreSQL setting that holds the current tenant. Its name has at least two parts joined by a dot, as
	// PostgreSQL demands of settings it does not know itself. Empty means "app.tenant_id".
	Setting string

	// Column is the column that holds the tenant a row belongs to. Empty means "tenant_id".
	Column string

	// AppRole is the role the application logs in as. It is granted what it needs to work with the rows of the migrated
	// tables, and nothing else. It must neither own the tables nor be able to escape their policies. Empty means that nothing
	// is granted.
	AppRole string

	// AdminRole is a role that sees and changes every tenant's rows, and is granted the same as AppRole. AppRole may be a
	// member of it, but must not inherit from it. Empty means that no role is exempt.
	AdminRole string

	// ReadOnlyRole is a role that reads every tenant's rows and is granted SELECT only: by a policy of its own, which is for
	// SELECT. AppRole may be a member of it, but must not inherit from it. Empty means that there is none.
	ReadOnlyRole string

	// Backfill gives the rows of a table their tenant, when the table is older than its tenant column. Migrate calls it for
	// each tenant's table that has rows without a tenant, in the order of the models and with join tables last, after the
	// column was added and before it becomes NOT NULL. The table is qualified and quoted, fit for SQL. Statements must go
	// through tx, the migration's transaction; policies don't hide rows from them. Nil means that such rows are an error.
	//
	//	func(ctx context.Context, tx *gorm.DB, table string) error {
	//		return tx.Exec("UPDATE " + table + " SET tenant_id = 'acme' WHERE tenant_id IS NULL").Error
	//	}
	Backfill func(ctx context.Context, tx *gorm.DB, table string) error

	// ConcurrentIndexes makes the indexes that are missing on tables which are there already by CREATE INDEX CONCURRENTLY,
	// before the transaction of Migrate, which then finds them. Others go on writing to the tables meanwhile. False means that
	// all indexes are made in the transaction, which keeps writers waiting. See Migrate for what it takes.
	ConcurrentIndexes bool
}

// customSetting is what PostgreSQL accepts as the name of a setting that it does not know (valid_custom_variable_name in
// its guc.c).
var customSetting = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+$`)

// complete returns i with its defaults filled in, or an error that says what is wrong with it.
func (i Isolation) complete() (Isolation, error) {
	if i.Setting == "" {
		i.Setting = defaultSetting
	}
	if i.Column == "" {
		i.Column = defaultColumn
	}
	if !customSetting.MatchString(i.Setting) {
		return i, fmt.Errorf("rls: setting %q is not a name that PostgreSQL accepts: "+
			"use letters and digits in two parts joined by a dot, such as %q", i.Setting, defaultSetting)
	}
	if len(i.Column) > maxIdentifier {
		return i, fmt.Errorf("rls: column %q is longer than the %d bytes of a PostgreSQL identifier", i.Column, maxIdentifier)
	}
	if i.AppRole != "" && i.AppRole == i.AdminRole {
		return i, fmt.Errorf("rls: role %q can't be both AppRole and AdminRole: the application would see every tenant's rows",
			i.AppRole)
	}
	if i.ReadOnlyRole != "" && (i.ReadOnlyRole == i.AppRole || i.ReadOnlyRole == i.AdminRole) {
		return i, fmt.Errorf("rls: role %q cannot be ReadOnlyRole, because it is AppRole or AdminRole", i.ReadOnlyRole)
	}
	return i, nil
}

// roles returns the roles that are granted something.
func (i Isolation) roles() []string {
	roles := make([]string, 0, 3)
	for _, role := range []string{i.AppRole, i.AdminRole, i.ReadOnlyRole} {
		if role != "" {
			roles = append(roles, role)
		}
	}
	return roles
}

// privileges returns what a role is granted on tables and on their sequences.
func (i Isolation) privileges(role string) (onTables, onSequences []string) {
	if role == i.ReadOnlyRole {
		return []string{"SELECT"}, nil
	}
	return tablePrivileges, sequencePrivileges
}

// policyNames returns the names of the policies that a tenant's table should have.
func (i Isolation) policyNames() []string {
	names := []string{tenantPolicy}
	if i.AdminRole != "" {
		names = append(names, adminPolicy)
	}
	if i.ReadOnlyRole != "" {
		names = append(names, readerPolicy)
	}
	return names
}

// current is the expression for the current tenant as a value of the type, NULL when there is none. NULLIF is needed
// because a setting made for one transaction reads as an empty string after it, not as NULL.
func (i Isolation) current(columnType string) string {
	return fmt.Sprintf("NULLIF(current_setting(%s, true), '')::%s", sqltext.Literal(i.Setting), columnType)
}

// predicate is the expression of the tenant's policy. The scalar subquery makes PostgreSQL read the setting once for a
// statement and not once for a row, and leaves the bare column for an index to match.
func (i Isolation) predicate(columnType string) string {
	return fmt.Sprintf("%s = (SELECT %s)", ident(i.Column), i.current(columnType))
}
