package tenancy

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
)

// isolation is the part of c that package rls knows as well.
func (c Config) isolation() policy.Config {
	return policy.Config{
		Setting: c.Setting, Column: c.Column, AppRole: c.AppRole, AdminRole: c.AdminRole, ReadOnlyRole: c.ReadOnlyRole,
		LookupRole: c.LookupRole,
	}
}

func (c Config) withDefaults() Config {
	isolation := c.isolation().WithDefaults()
	c.Setting, c.Column = isolation.Setting, isolation.Column
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// validate checks what can be checked without a server. It expects the defaults to be filled in.
func (c Config) validate() error {
	if err := c.isolation().Validate(); err != nil {
		return err
	}
	for _, name := range c.KeepSettings {
		if !policy.IsSetting(name) || strings.EqualFold(name, c.Setting) {
			return fmt.Errorf("KeepSettings %q: must be custom settings, identifiers joined by dots, and not Setting", name)
		}
	}
	switch {
	case c.AdminRole != "" && c.AdminDB != nil:
		return errors.New("AdminRole and AdminDB: set one of them")
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
