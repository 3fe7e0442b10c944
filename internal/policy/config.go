// Package policy is the one place that knows how tenants are kept apart: the setting, the column and the roles, the policies
// that package rls makes of them, how PostgreSQL writes those, and which others are as good.
package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

const (
	defaultSetting = "app.tenant_id"
	defaultColumn  = "tenant_id"
)

// Config names what isolation is made of. tenancy.Config and rls.Isolation have the same fields, and are validated as one.
type Config struct {
	Setting, Column                              string
	AppRole, AdminRole, ReadOnlyRole, LookupRole string // empty for none
	BackupRole                                   string // empty for none
	Form                                         Form
	Inline                                       bool   // the tenant's policies read the setting without a sub-select, as Citus demands
	OldRole                                      string // of the version without tenants, during a rollout; empty for none
}

// Form is what policies ask for beside the tenant.
type Form int

// The forms. With Either, policies take a statement that carries no proof as with Unsigned, for the time in which an application changes
// from one to the other; a proof that is not good is refused.
const (
	Unsigned Form = iota
	Signed
	Either
)

// WithDefaults returns c with its defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Setting == "" {
		c.Setting = defaultSetting
	}
	if c.Column == "" {
		c.Column = defaultColumn
	}
	return c
}

// Validate returns an error that begins with the field that is wrong. It expects the defaults to be filled in.
func (c Config) Validate() error {
	if !IsSetting(c.Setting) {
		return fmt.Errorf("Setting %q is not a name that PostgreSQL accepts: use letters and digits in two parts joined by a dot, "+
			"such as %q, of at most %d bytes", c.Setting, defaultSetting, sqltext.MaxIdentifier)
	}
	if err := validateName("Column", c.Column); err != nil {
		return err
	}
	for _, role := range []struct{ field, name string }{
		{"AppRole", c.AppRole}, {"AdminRole", c.AdminRole}, {"ReadOnlyRole", c.ReadOnlyRole},
		{"LookupRole", c.LookupRole}, {"BackupRole", c.BackupRole}, {"OldRole", c.OldRole},
	} {
		if err := validateRole(role.field, role.name); err != nil {
			return err
		}
	}
	switch {
	case c.OldRole != "" && c.OldRole == c.AppRole:
		return fmt.Errorf("OldRole and AppRole cannot both be %q: the application would see the rows of all tenants", c.AppRole)
	case c.AdminRole != "" && c.AdminRole == c.AppRole:
		return fmt.Errorf("AdminRole and AppRole cannot both be %q: the application would see the rows of all tenants", c.AppRole)
	case c.ReadOnlyRole != "" && (c.ReadOnlyRole == c.AppRole || c.ReadOnlyRole == c.AdminRole):
		return fmt.Errorf("ReadOnlyRole cannot be %q, which is AppRole or AdminRole", c.ReadOnlyRole)
	case c.LookupRole != "" && slices.Contains([]string{c.AppRole, c.AdminRole, c.ReadOnlyRole}, c.LookupRole):
		return fmt.Errorf("LookupRole cannot be %q, which is AppRole, AdminRole or ReadOnlyRole", c.LookupRole)
	case c.BackupRole != "" && slices.Contains([]string{c.AppRole, c.AdminRole, c.ReadOnlyRole, c.LookupRole}, c.BackupRole):
		return fmt.Errorf("BackupRole cannot be %q, which is AppRole, AdminRole, ReadOnlyRole or LookupRole: no policy binds it", c.BackupRole)
	}
	return nil
}

// customSetting is what PostgreSQL 14 and later accept as the name of a setting that they do not know, less letters outside
// ASCII (valid_custom_variable_name in src/backend/utils/misc/guc.c).
var customSetting = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+$`)

// IsSetting reports whether the name is that of a setting which an application can make up.
func IsSetting(name string) bool {
	return customSetting.MatchString(name) && len(name) <= sqltext.MaxIdentifier
}

func validateRole(field, role string) error {
	if role == "" {
		return nil
	}
	// To PostgreSQL this is no role, but the way back to the login's
	// (https://www.postgresql.org/docs/current/sql-set-role.html).
	if strings.EqualFold(role, "none") {
		return fmt.Errorf("%s cannot be %q, a name that PostgreSQL reserves", field, role)
	}
	return validateName(field, role)
}

func validateName(field, name string) error {
	if name == "" || len(name) > sqltext.MaxIdentifier || strings.ContainsRune(name, 0) || !utf8.ValidString(name) {
		return fmt.Errorf("%s must be 1 to %d bytes of UTF-8 without NUL", field, sqltext.MaxIdentifier)
	}
	return nil
}

// Roles returns the roles that are granted something.
func (c Config) Roles() []string {
	return slices.DeleteFunc([]string{c.AppRole, c.AdminRole, c.ReadOnlyRole, c.LookupRole, c.BackupRole}, func(role string) bool { return role == "" })
}

var (
	tablePrivileges    = []string{"SELECT", "INSERT", "UPDATE", "DELETE"}
	sequencePrivileges = []string{"USAGE", "SELECT"}
)

// Privileges returns what a role is granted on a table of the kind, and on its sequences.
func (c Config) Privileges(role string, kind Sharing) (onTables, onSequences []string) {
	reads := []string{"SELECT"}
	switch {
	case kind == Audit:
		return c.auditPrivileges(role)
	case role == c.AdminRole:
		return tablePrivileges, sequencePrivileges
	case role == c.ReadOnlyRole:
		return reads, nil
	case role == c.BackupRole:
		return reads, reads // pg_dump reads where a sequence stands
	case role == c.LookupRole && (kind == NotShared || kind == SharedOwn):
		return nil, nil // some columns, where they are named
	case role == c.LookupRole, kind == SharedRead:
		return reads, nil
	default:
		return tablePrivileges, sequencePrivileges
	}
}

// auditPrivileges returns what a role is granted on the records of changes: nothing that changes them.
func (c Config) auditPrivileges(role string) (onTable, onSequence []string) {
	switch role {
	case c.LookupRole:
		return nil, nil
	case c.BackupRole:
		return []string{"SELECT"}, []string{"SELECT"}
	default:
		return []string{"SELECT"}, nil
	}
}
