package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls"
)

// Config says how tenants are isolated. Its zero value is the strictest: the setting and the column have their usual
// names, there is no bypass, and everything is checked.
type Config struct {
	// Setting is the PostgreSQL setting that the policies read; "app.tenant_id" if empty. It must be identifiers joined
	// by dots, as PostgreSQL demands of a custom parameter
	// (https://www.postgresql.org/docs/current/runtime-config-custom.html), of at most 63 bytes.
	Setting string

	// Column is the tenant column; "tenant_id" if empty. A model that has it is a tenant's, unless it is a SharedModel.
	Column string

	// AppRole is the role that each statement runs under (SET LOCAL ROLE, in the same round trip). Empty means the
	// login's own role. A login that no policy applies to is refused all the same, because raw SQL can leave AppRole.
	AppRole string

	// AdminRole is the role that Bypass takes (SET LOCAL ROLE, in the same round trip). The login must be a member of
	// it that does not inherit from it. Empty means no bypass, unless there is an AdminDB.
	AdminRole string

	// AdminDB is a pool with its own credentials for Bypass, instead of AdminRole. It stays open when others close. The
	// application's login then needs no membership in a role that sees every tenant's rows, so that SQL which is injected into
	// its statements can take none.
	AdminDB *sql.DB

	// ReadOnlyRole is the role that clients of BypassReadOnly take in place of AdminRole, one that may SELECT and no more
	// (rls.Isolation.ReadOnlyRole). The login must be a member of it that does not inherit from it; with AdminDB, on whose
	// connections it is taken then, AdminDB's login must be able to take it. It can be the only one: there is no client that may
	// write then. Empty means that read-only clients take AdminRole, or work as AdminDB's login; PostgreSQL refuses their writes
	// all the same.
	ReadOnlyRole string

	// LookupRole is the role that statements under WithoutTenant run in, to look up what is known before the tenant is: the
	// memberships of a user, the tenant of a domain, of an API key. rls.Isolation.LookupRole grants it the columns that are named
	// there, and nothing else, so that no tenant needs to see them. The login must be a member of it that does not inherit from
	// it. Empty means that they run under AppRole, or as the login, and read shared tables only.
	LookupRole string

	// CleanAlways cleans the session of a connection after each use. If false, that is done after SQL that GORM did not
	// build, such as that of Raw and Exec, after statements that call a function which is not known to be harmless, and
	// after a command tag that GORM's statements do not have; and before each use the guard looks whether the session is
	// clean. What remains is what triggers, policies and operators of the database's own leave: settings of their own, for
	// instance. Choose it if you fear that; each statement then costs the server some 25 µs more.
	CleanAlways bool

	// KeepSettings names the custom settings, such as "my.region", that the application's connect hook sets and that cleaning
	// a session must keep. PostgreSQL lists its own settings, which are kept without being named, but not custom ones.
	KeepSettings []string

	// Logger gets two records of level Info for each statement of Bypass, as OnBypass gets events, and warnings; slog.Default()
	// if nil. If it writes nothing at that level, a Config with a bypass must have OnBypass: Initialize refuses it otherwise.
	Logger *slog.Logger

	// OnBypass, if not nil, is called before each statement of Bypass is sent, and again when its outcome is known, mostly on the
	// goroutine that sent it; rows whose context ends are closed on another. The statement's connection is in use meanwhile: to
	// store events, collect them and send them when the work is done, because if each waited here for a second connection, all
	// could wait for each other. If it panics, the statement returns a PanicError; and is not sent, if that was before it.
	OnBypass func(context.Context, BypassEvent)

	// OnRefuse, if not nil, is called once for each statement, and each transaction, that the plugin refuses, on the goroutine
	// that wanted it: to count and alert. GORM's logger gets each refusal as well, with the application's line, as an error:
	// that of the statement's *gorm.DB, and that of the one the plugin was installed on for a refused Begin. Neither learns of
	// what does not pass through GORM, such as Exec of what (*gorm.DB).DB returns, except that it begins a transaction: there
	// the error alone says it.
	//
	// It must be safe for concurrent use, and must not use the database, because a connection may be held meanwhile. A panic
	// in it becomes a PanicError beside the statement's error, and a record of Logger.
	OnRefuse func(context.Context, Refusal)

	// OmitTenantCondition leaves the tenant condition ("notes"."tenant_id" = $1) out of the SQL that GORM builds. The policies
	// isolate without it, but PostgreSQL then plans each statement for a tenant of average size, and what looks at SQL text,
	// such as a cache of queries, takes the statements of all tenants for the same.
	OmitTenantCondition bool

	// Check says whether Initialize looks for holes in the whole database, as rls.Isolation.Check does, and what follows
	// from them. The zero value, CheckOff, does not look: a development database has holes until it is migrated. Whatever
	// is chosen, PostgreSQL is asked about each tenant's table before its first use.
	Check CheckMode

	// CheckOptions are for that check: rls.Allow tolerates a finding, rls.Schemas narrows it, rls.Models names the
	// models, of which a SharedModel is left out.
	CheckOptions []rls.CheckOption

	// DangerouslyAllowUnsafeRole skips the question whether policies apply to the role in use and to the login, whether
	// settings of the login or the extension citus undo isolation, and whether the admin role can be taken. Initialize sends
	// nothing then.
	DangerouslyAllowUnsafeRole bool

	// DangerouslySkipProof trusts that each tenant's table is isolated, without asking PostgreSQL.
	DangerouslySkipProof bool

	// DangerouslyTrustPolicies names tables, as in SQL ("notes", "archive.notes"), whose policies are of another form than
	// package rls makes and are trusted to bind each row to its tenant. Row-level security must still be on for the role.
	DangerouslyTrustPolicies []string

	// DangerouslyTrustCallbacks names packages, such as "github.com/go-gorm/caches/v4", that may replace GORM's callbacks for
	// reading. Their statements are sent also where no tenant condition tells tenants apart, which they would do themselves: a cache
	// must have the tenant in its key.
	DangerouslyTrustCallbacks []string

	// DangerouslyWarnOnly asks, and answers a table that is not isolated with a warning to Logger only.
	DangerouslyWarnOnly bool
}

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
