package tenancy

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gormtenancy/tenancy/internal/guard"
)

const (
	defaultSetting = "app.tenant_id"
	defaultColumn  = "tenant_id"
)

// maxName is the most bytes a name has in PostgreSQL; it cuts off what is longer
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS).
const maxName = 63

// settingForm is what PostgreSQL 14 and later accept as a custom parameter, less letters outside ASCII
// (valid_custom_variable_name in src/backend/utils/misc/guc.c).
var settingForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+$`)

func (c Config) withDefaults() Config {
	if c.Setting == "" {
		c.Setting = defaultSetting
	}
	if c.Column == "" {
		c.Column = defaultColumn
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// validate checks what can be checked without a server. It expects the defaults to be filled in.
func (c Config) validate() error {
	if !settingForm.MatchString(c.Setting) || len(c.Setting) > maxName {
		return fmt.Errorf("Setting %q: must be identifiers joined by dots, such as %q, of at most %d bytes",
			c.Setting, defaultSetting, maxName)
	}
	for _, name := range c.KeepSettings {
		if !settingForm.MatchString(name) || len(name) > maxName || strings.EqualFold(name, c.Setting) {
			return fmt.Errorf("KeepSettings %q: must be custom settings, identifiers joined by dots, and not Setting", name)
		}
	}
	if err := validateName("Column", c.Column); err != nil {
		return err
	}
	if err := validateRole("AppRole", c.AppRole); err != nil {
		return err
	}
	if err := validateRole("AdminRole", c.AdminRole); err != nil {
		return err
	}
	if err := validateRole("ReadOnlyRole", c.ReadOnlyRole); err != nil {
		return err
	}
	switch {
	case c.ReadOnlyRole != "" && (c.ReadOnlyRole == c.AppRole || c.ReadOnlyRole == c.AdminRole):
		return errors.New("ReadOnlyRole: must be another role than AppRole and AdminRole")
	case c.AdminRole != "" && c.AdminDB != nil:
		return errors.New("AdminRole and AdminDB: set one of them")
	case c.AdminRole != "" && c.AdminRole == c.AppRole:
		return errors.New("AdminRole and AppRole: must be two roles, or every statement would bypass")
	case c.DangerouslySkipProof && c.DangerouslyWarnOnly:
		return errors.New("DangerouslySkipProof and DangerouslyWarnOnly: set one of them")
	case c.Check > CheckRefuse:
		return fmt.Errorf("Check %d: must be CheckOff, CheckWarn or CheckRefuse", c.Check)
	case c.Check == CheckOff && len(c.CheckOptions) > 0:
		return errors.New("CheckOptions: set Check as well")
	}
	for _, table := range c.DangerouslyTrustPolicies {
		if !onlyIdentifier.MatchString(table) || strings.ContainsRune(table, 0) || !utf8.ValidString(table) {
			return fmt.Errorf("DangerouslyTrustPolicies %q: must be a table's name as in SQL, such as %q", table, "archive.notes")
		}
	}
	if c.AdminDB != nil {
		if _, guarded := guard.Of(c.AdminDB); guarded {
			return errors.New("AdminDB: must be a plain pool, not one that is guarded already")
		}
	}
	return nil
}

func validateRole(field, role string) error {
	if role == "" {
		return nil
	}
	// To PostgreSQL this is no role, but the way back to the login's
	// (https://www.postgresql.org/docs/current/sql-set-role.html).
	if strings.EqualFold(role, "none") {
		return fmt.Errorf("%s: PostgreSQL reserves the name %q", field, role)
	}
	return validateName(field, role)
}

func validateName(field, name string) error {
	if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) || !utf8.ValidString(name) {
		return fmt.Errorf("%s: must be 1 to %d bytes of UTF-8 without NUL", field, maxName)
	}
	return nil
}
