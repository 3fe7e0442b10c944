package tenancy

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls/check"
)

// Config says how tenants are isolated. Its zero value is the strictest: the setting and the column have their usual names,
// there is no bypass, and everything is checked.
type Config struct {
	// Setting is the PostgreSQL setting that the policies read; "app.tenant_id" if empty. It must be identifiers joined
	// by dots, as PostgreSQL demands of a custom parameter
	// (https://www.postgresql.org/docs/current/runtime-config-custom.html), of at most 63 bytes.
	Setting string

	// Column is the tenant column; "tenant_id" if empty. The table of a model that has it is a tenant table, unless the model is a
	// SharedModel.
	Column string

	// AppRole is the role that each statement runs under (SET LOCAL ROLE, in the same round trip). Empty means the
	// login's own role. A login that is exempt from policies is refused nevertheless, because raw SQL can leave AppRole.
	AppRole string

	// AdminRole is the role that Bypass takes (SET LOCAL ROLE, in the same round trip). The login must be a member of
	// it that does not inherit from it. Empty means no bypass, unless there is an AdminDB.
	AdminRole string

	// AdminDB is a pool with its own credentials for Bypass, instead of AdminRole. The plugin does not close it. The application's
	// login then needs no membership in a role that sees every tenant's rows, so that injected SQL cannot take one. With Place it is set for each
	// of Servers.
	AdminDB *sql.DB

	// ReadOnlyRole is the role that clients of BypassReadOnly take instead of AdminRole. It may only SELECT
	// (rls.Isolation.ReadOnlyRole). The login must be a member of it that does not inherit from it. With AdminDB the role is taken
	// on AdminDB's connections, and AdminDB's login must be able to take it. Without AdminRole and AdminDB there are read-only
	// clients only. Empty means that read-only clients take AdminRole, or work as AdminDB's login; PostgreSQL refuses their writes
	// nevertheless.
	ReadOnlyRole string

	// LookupRole is the role that statements under WithoutTenant run under, to look up what is needed to find the tenant: the
	// memberships of a user, the tenant of a domain or of an API key. rls.Isolation.LookupRole grants it the columns that are named
	// there, and nothing else, so that tenants do not need to see them. The login must be a member of it that does not inherit from
	// it. Empty means that these statements run under AppRole, or as the login, and read shared tables only.
	LookupRole string

	// CleanAlways cleans the session of a connection after each use. If false, the guard cleans it after SQL that GORM did not
	// build, such as that of Raw and Exec, after statements that call a function which is not known to be harmless, and after a
	// command tag that GORM's statements do not have. Before each use it checks that the session is clean. Not cleaned is what
	// triggers, policies and operators of the database leave, such as custom settings. Set CleanAlways if yours leave something;
	// each statement then costs the server about 25 µs more.
	CleanAlways bool

	// KeepSettings names custom settings, such as "my.region", that the application's connect hook sets and that cleaning must
	// keep. PostgreSQL's own settings are kept without being named, because PostgreSQL lists them.
	KeepSettings []string

	// Place, if not nil, returns the pool of the PostgreSQL server that a tenant lives on, for tenants on several servers: a pool of pgx's
	// stdlib, always the same *sql.DB for a server, or the pool that GORM was opened with. It is asked for each statement, and again right
	// before that is sent. A transaction stays where it began: once its tenant is placed elsewhere, its statements are refused. So they are with an
	// error that it returns: a tenant can be locked out while it is moved. Each server's roles are checked before its first statement, and its tables before their first use.
	//
	// Statements under WithoutTenant go to the pool that GORM was opened with, or to that of OnServer. Clients of Bypass need OnServer or a
	// tenant in their context, because no statement reaches all servers; ForEachServer visits them all. AdminDB cannot be used: see Servers.
	//
	// It must be safe for concurrent use, and answer from memory. The error must not hold what callers should not see.
	Place func(ctx context.Context, tenant string) (*sql.DB, error)

	// Servers, if not empty, are all servers with Place, the one that GORM was opened with among them: what Place or OnServer then names beside them
	// is refused. Each can have an AdminDB for clients of Bypass, and replicas for dbresolver. ForEachServer visits them, and Check looks at each.
	Servers []Server

	// Engine says whether the database is a PostgreSQL server, the zero value, or the coordinator of a cluster of Citus. Initialize refuses
	// a database of the other kind. With Citus, SQL text with several statements is refused, and so is pgx's mode simple_protocol. AdminRole
	// and ReadOnlyRole need LOGIN, because the coordinator connects to workers as the role of a statement. LookupRole, Place,
	// SigningKeys, OmitTenantCondition and DangerouslyObserve cannot be set.
	Engine Engine

	// Share is how many of the pool's connections one tenant may use at a time; zero means as many as there are, and otherwise it must be at
	// least 2, because code that reads rows and sends a statement for each needs two. The tenant's other statements and transactions wait,
	// in the order in which they came, until one is free or their context ends. When all connections are in use, waiting tenants take turns, so
	// that a tenant with one statement does not wait behind the hundred of another. Statements under WithoutTenant and of Bypass are not bounded.
	//
	// With it (*gorm.DB).DB returns a pool that borrows its connections: its own Stats count those who wait, too, and the Stats of
	// UnguardedPool count the connections. It cannot be used with OpenDB, whose connections a statement has before its tenant is known.
	Share int

	// Settings, if not nil, returns settings of PostgreSQL that a tenant's statements run with, by their names: limits such as
	// statement_timeout and work_mem, planner settings, and custom settings that no policy reads. They are set in the round trip of a
	// transaction's first statement, and end with the transaction, in which code can set others. A statement with a setting that is not
	// allowed, or that PostgreSQL does not know, is not sent.
	//
	// It is called for each statement, or once in a transaction, on the goroutine that sends it, and must be safe for concurrent use. It must
	// not use the database, because a connection is held meanwhile: keep the tenants' plans in memory. Statements under WithoutTenant and
	// of Bypass have no such settings. SQL of the tenant's request can change them, so they are no defence against injected SQL.
	Settings func(ctx context.Context, tenant string) map[string]string

	// Logger gets warnings, and two records of level Info for each statement of Bypass; slog.Default() if nil. If it writes nothing
	// at level Info, a Config with a bypass must have OnBypass, or Initialize returns an error.
	Logger *slog.Logger

	// OnBypass, if not nil, is called before each statement of Bypass is sent, and again when its outcome is known. Mostly it is
	// called on the goroutine that sends the statement; rows whose context ends are closed on another. The statement's connection is
	// in use meanwhile. So do not write events to the database here: if each waited for a second connection, all could wait for each
	// other. Collect them, and write them when the work is done. If OnBypass panics, the statement returns a PanicError; if it panics
	// before the statement, the statement is not sent.
	OnBypass func(context.Context, BypassEvent)

	// OnRefuse, if not nil, is called once for each statement and each transaction that the plugin refuses, on the goroutine that
	// sent it, for metrics and alerts. GORM's logger gets each refusal as an error, too, with the application's line: the logger of
	// the statement's *gorm.DB, or for a refused Begin that of the *gorm.DB the plugin was installed on. Statements that do not pass
	// GORM, such as Exec of what (*gorm.DB).DB returns, are not reported: their error is all there is. Transactions are. A statement that
	// is not sent because its context has ended, its transaction has failed or its connection was lost is not refused.
	//
	// It must be safe for concurrent use. It must not use the database, because a connection may be held meanwhile. If it panics, the
	// statement's error is joined with a PanicError, which Logger gets as well.
	OnRefuse func(context.Context, Refusal)

	// OmitTenantCondition leaves the tenant condition ("notes"."tenant_id" = $1) out of the SQL that GORM builds. The policies
	// isolate without it. But PostgreSQL then plans each statement for a tenant of average size, and a cache of queries cannot tell
	// the statements of two tenants apart.
	OmitTenantCondition bool

	// Check says whether Initialize checks the whole database, and with Servers that of each, as check.Run of package rls/check does, and what it does about holes. The zero
	// value, CheckOff, does not check, because a development database has holes until it is migrated. An AdminDB is asked for the roles of its
	// login, which the application must not be able to take. In each case the plugin asks
	// PostgreSQL about each tenant table before its first use.
	Check CheckMode

	// CheckOptions are the options of that check: check.Allow tolerates a finding, check.Schemas restricts the check, check.Models names
	// the models, among which a SharedModel is skipped.
	CheckOptions []check.Option

	// SigningKeys, if not nil, sign the tenant of each statement, and policies demand the signature (rls.Isolation.Signed): SQL that names
	// another tenant, such as injected SQL, then sees none of its rows. SQL text with several statements is refused, and so is pgx's mode
	// simple_protocol. AdminRole and ReadOnlyRole cannot be set, AdminDB can.
	SigningKeys SigningKeys

	// ProofLifetime is how long a signature is good for, with SigningKeys. It is renewed when half of that is over. Zero means 5 minutes;
	// otherwise it must be one minute to one hour. The clocks of application and server may differ by a minute.
	ProofLifetime time.Duration

	// DangerouslyUnboundProofs signs for all connections of the login, and not for the one that sends the statement: for poolers in
	// transaction mode, such as PgBouncer. A signature that leaks is then good on each of them until it expires.
	DangerouslyUnboundProofs bool

	// DangerouslyAcceptUnsigned uses tables whose policies accept statements without a signature as well, while an application changes over
	// (rls.Isolation.DangerouslyAcceptUnsigned). SQL that names another tenant sees its rows for as long.
	DangerouslyAcceptUnsigned bool

	// DangerouslyShowStatements starts although SQL of one tenant can read the texts of statements that others run at the time, in
	// pg_stat_activity: hiding them needs a superuser (track_activities), which managed servers do not give. Values that are written into
	// texts are shown with them; arguments of statements, and signatures, are not. Initialize logs a warning each time.
	DangerouslyShowStatements bool

	// DangerouslyObserve, if not nil, is for the time in which an application that exists is being isolated. A statement whose context says
	// nothing about the tenant is not refused: it runs as it did before, for no tenant and in the login's own role, and this function is
	// called with what would have been refused: operation, table, and the application's line. Plugin.Observations counts the lines, and
	// the profile tenancy_without_tenant of runtime/pprof has up to 32 stacks of each. It is also called with ErrNotIsolated, at most twice
	// a minute for each table, when a statement with a tenant uses a table that has no policies yet.
	//
	// All else stays refused: ids that cannot be used, rows of another tenant than the context's, WithPgxConn without a tenant. The SQL gets
	// no tenant condition, which would hide rows that have no tenant yet. A statement that GORM builds on a table whose policies apply to
	// the login is refused again, so that it does not go on with no row: observing ends table by table.
	//
	// It must be safe for concurrent use, and must not use the database. A panic in it is logged. Initialize logs a warning each time.
	// Remove it before the isolation is enforced: raw SQL without a tenant then sees no row, instead of an error.
	DangerouslyObserve func(context.Context, Refusal)

	// DangerouslyAllowUnsafeRole skips the checks whether policies apply to the role in use and to the login, whether settings of the
	// login or another engine than Engine break isolation, and whether the admin role can be taken. Initialize then sends nothing.
	DangerouslyAllowUnsafeRole bool

	// DangerouslySkipProof trusts that each tenant table is isolated, without asking PostgreSQL.
	DangerouslySkipProof bool

	// DangerouslyTrustPolicies names tables, as in SQL ("notes", "archive.notes"), whose policies have another form than those of
	// package rls and are trusted to bind each row to its tenant, and views with security_invoker that make the tenant column from another one of
	// such a table. Row-level security must still be on for the role.
	DangerouslyTrustPolicies []string

	// DangerouslyTrustCallbacks names packages, such as "github.com/go-gorm/caches/v4", that may replace GORM's callbacks for
	// reading, even for statements without a tenant condition. Such a package must tell tenants apart itself: a cache must have the
	// tenant in its key.
	DangerouslyTrustCallbacks []string

	// DangerouslyWarnOnly only writes a warning to Logger for a table that is not isolated.
	DangerouslyWarnOnly bool
}

// isolation is the part of c that package rls knows as well.
func (c Config) isolation() policy.Config {
	form := policy.Unsigned
	switch {
	case c.DangerouslyAcceptUnsigned:
		form = policy.Either
	case c.SigningKeys != nil:
		form = policy.Signed
	}
	return policy.Config{
		Form: form, Setting: c.Setting, Column: c.Column, AppRole: c.AppRole, AdminRole: c.AdminRole, ReadOnlyRole: c.ReadOnlyRole,
		LookupRole: c.LookupRole,
	}
}

func (c Config) withDefaults() Config {
	isolation := c.isolation().WithDefaults()
	c.Setting, c.Column = isolation.Setting, isolation.Column
	if c.DangerouslyObserve != nil {
		c.OmitTenantCondition = true
	}
	if c.SigningKeys != nil {
		c.ProofLifetime = cmp.Or(c.ProofLifetime, defaultProofLifetime)
	}
	c.Servers = slices.Clone(c.Servers)
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
	if err := c.validateEngine(); err != nil {
		return err
	}
	if err := c.validateSigning(); err != nil {
		return err
	}
	if err := c.validateServers(); err != nil {
		return err
	}
	if c.Share < 0 || c.Share == 1 {
		return fmt.Errorf("Share %d: must be at least 2, or 0 for no bound", c.Share)
	}
	for _, name := range c.KeepSettings {
		if !policy.IsSetting(name) || strings.EqualFold(name, c.Setting) {
			return fmt.Errorf("KeepSettings %q: must be custom settings, identifiers joined by dots, and not Setting", name)
		}
	}
	switch {
	case c.AdminRole != "" && c.hasAdminDB():
		return errors.New("AdminRole and AdminDB: set one of them")
	case c.DangerouslySkipProof && c.DangerouslyWarnOnly:
		return errors.New("DangerouslySkipProof and DangerouslyWarnOnly: set one of them")
	case c.Check == CheckRefuse && c.DangerouslyObserve != nil:
		return errors.New("CheckRefuse and DangerouslyObserve: set one of them, because a database that is observed has holes")
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
			return errors.New("AdminDB: must not be a guarded pool: open one with pgx's stdlib")
		}
	}
	return nil
}
