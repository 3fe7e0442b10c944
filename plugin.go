package tenancy

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"

	"gorm.io/gorm"

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

// Plugin isolates the tenants of every *gorm.DB it is installed on with (*gorm.DB).Use. It is safe for concurrent use,
// and keeps nothing of a statement: only pools, what PostgreSQL has said about tables, and which schemas it has seen.
type Plugin struct {
	config  Config
	pools   sync.Map   // *pool by *sql.DB, guarded and not
	opening sync.Mutex // held while a pool is added
	pattern []byte     // of policies that isolate, for questions about tables
	trusted []byte     // Config.DangerouslyTrustPolicies, for the same
	fresh   scanPools
	uniques sync.Map // *uniques by *schema.Schema
}

var _ gorm.Plugin = (*Plugin)(nil)

// New returns the plugin. Initialize validates cfg.
func New(cfg Config) *Plugin {
	cfg = cfg.withDefaults()
	return &Plugin{
		config:  cfg,
		pattern: []byte(policy.Pattern(cfg.Setting, cfg.Column)),
		trusted: []byte(textArray(cfg.DangerouslyTrustPolicies)),
	}
}

// Name returns the key under which GORM keeps the plugin.
func (p *Plugin) Name() string { return "tenancy" }

// Initialize installs the plugin on db; (*gorm.DB).Use calls it, and GORM does for every replica of dbresolver. It can
// be called again. It returns an error if Config is invalid, a bypass would leave no trace, db is not PostgreSQL below pgx, or
// PostgreSQL says that the roles are unsafe (ErrUnsafeRole, ErrUnsafeSettings) or missing (ErrNoAdminRole) or the database is one of
// Citus (ErrUnsafeDatabase), or another plugin hides statements (ErrForeignCallback); db is not usable then. With CheckRefuse it also returns an error if the database has holes
// (ErrUnsafeDatabase) or cannot be checked.
//
// From here on a statement passes three doors. The guarded pool sets its tenant, in the same round trip, or refuses it:
// nothing gets around that one. The callbacks see it earlier, with its model: they fill in the tenant column, and ask
// for each table whether PostgreSQL isolates it, at first and at least every minute. And PostgreSQL's policies decide what it sees.
//
// It exchanges db.Dialector for one by which AutoMigrate leaves alone what rls.Isolation.Migrate has made, see
// rls.Isolation.Initialize; and it writes ON CONFLICT with the tenant column where Migrate made an index have it.
func (p *Plugin) Initialize(db *gorm.DB) error {
	if err := p.config.validate(); err != nil {
		return fmt.Errorf("tenancy: invalid Config: %w", err)
	}
	if err := p.checkAudit(db.Statement.Context); err != nil {
		return err
	}
	if name := db.Name(); name != "postgres" {
		return fmt.Errorf("tenancy: row-level security needs PostgreSQL; the dialect is %q", name)
	}
	if err := checkPlugins(db); err != nil {
		return err
	}
	pool, err := p.install(db)
	if err != nil {
		return fmt.Errorf("tenancy: guard the connection pool: %w", err)
	}
	if err := p.register(db); err != nil {
		return err
	}
	if err := (rls.Isolation{Setting: p.config.Setting, Column: p.config.Column}).Initialize(db); err != nil {
		return fmt.Errorf("tenancy: prepare AutoMigrate: %w", err)
	}
	if !p.config.DangerouslyAllowUnsafeRole {
		if err := p.checkRoles(db.Statement.Context, pool); err != nil {
			return err
		}
	}
	return p.checkDatabase(db)
}

// register puts the callbacks into all six processors of GORM, in the order that
// https://gorm.io/docs/write_plugins.html describes. They come after dbresolver's, whichever is registered first,
// because that one stands before "*"; and before the transaction begins, so that a refused statement costs nothing.
func (p *Plugin) register(db *gorm.DB) error {
	const begin, end = "gorm:begin_transaction", "gorm:commit_or_rollback_transaction"
	create, query, update := db.Callback().Create(), db.Callback().Query(), db.Callback().Update()
	del, row, raw := db.Callback().Delete(), db.Callback().Row(), db.Callback().Raw()
	if create.Get("tenancy:create") != nil {
		return nil
	}
	chains := map[string]*chain{"create": {op: "create"}, "update": {op: "update"}, "delete": {op: "delete"}}
	for _, c := range []struct {
		on interface {
			Register(string, func(*gorm.DB)) error
		}
		name string
		fn   func(*gorm.DB)
	}{
		{create.Before("*"), "tenancy:mark", start("create")},
		{create.Before(first(create, begin, "gorm:before_create")), "tenancy:create", p.create(chains["create"])},
		{create.Before(first(create, "gorm:save_before_associations", "gorm:create")), "tenancy:check_hooks", p.checkHooks("create")},
		{create.Before("gorm:create"), "tenancy:check_create", p.checkCreate},
		{create.Before(first(create, end, "gorm:after_create")), "tenancy:note", finish},
		{create.After("*"), "tenancy:settle", p.restoreError("create")},

		{query.Before("*"), "tenancy:mark", start("query")},
		{query.Before("gorm:query"), "tenancy:query", p.query},
		{query.After("*"), "tenancy:settle", p.restoreError("query")},

		{update.Before("*"), "tenancy:mark", start("update")},
		{update.Before(first(update, begin, "gorm:setup_reflect_value")), "tenancy:update", p.update(chains["update"])},
		{update.Before(first(update, "gorm:save_before_associations", "gorm:update")), "tenancy:check_hooks", p.checkHooks("update")},
		{update.Before("gorm:update"), "tenancy:check_update", p.checkUpdate},
		{update.Before(first(update, end, "gorm:after_update")), "tenancy:note", finish},
		{update.After("*"), "tenancy:settle", p.restoreError("update")},

		{del.Before("*"), "tenancy:mark", start("delete")},
		{del.Before(first(del, begin, "gorm:before_delete")), "tenancy:delete", p.delete(chains["delete"])},
		{del.Before(first(del, "gorm:delete_before_associations", "gorm:delete")), "tenancy:check_hooks", p.checkHooks("delete")},
		{del.Before("gorm:delete"), "tenancy:check_delete", p.checkHooks("delete")},
		{del.Before(first(del, end, "gorm:after_delete")), "tenancy:note", finish},
		{del.After("*"), "tenancy:settle", p.restoreError("delete")},

		{row.Before("*"), "tenancy:mark", start("row")},
		{row.Before("gorm:row"), "tenancy:row", p.row},
		{row.After("*"), "tenancy:settle", p.restoreError("row")},

		{raw.Before("*"), "tenancy:mark", start("raw")},
		{raw.Before("gorm:raw"), "tenancy:raw", p.raw},
		{raw.After("*"), "tenancy:settle", p.restoreError("raw")},
	} {
		if err := c.on.Register(c.name, c.fn); err != nil {
			return fmt.Errorf("tenancy: register the callback %s: %w", c.name, err)
		}
	}
	p.buildClauses(db)
	chains["create"].of(create)
	chains["update"].of(update)
	chains["delete"].of(del)
	return p.followResolver(db)
}

// first returns the first of the names that a callback is registered under. GORM leaves out the callbacks of its
// default transaction where that is switched off, and puts at the end whatever stands before a name that is missing.
func first(processor interface{ Get(string) func(*gorm.DB) }, names ...string) string {
	for _, name := range names {
		if processor.Get(name) != nil {
			return name
		}
	}
	return ""
}

// guardConfig is what the guarded pools of tenants' statements set.
func (p *Plugin) guardConfig() guard.Config {
	onBegin := &guard.BeginHook{}
	onBegin.Set(func(_ context.Context, refusal error) error { return beginError(refusal) })
	return guard.Config{
		Setting: p.config.Setting, Role: p.config.AppRole, LookupRole: p.config.LookupRole, CleanAlways: p.config.CleanAlways, KeepSettings: p.config.KeepSettings,
		OnBegin: onBegin, NewPanicError: newPanicError,
	}
}
