package tenancy

import (
	"context"
	"fmt"
	"sync"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/rls"
)

// A statement passes three layers:
//
//  1. GORM's callbacks, with those that register adds (callbacks.go). They know the model: they fill in and check the tenant
//     column, add the tenant condition, and ask PostgreSQL whether it isolates the table.
//  2. The guard, which is the statement's connection pool (pools.go, package guard). It sets the tenant in the statement's round
//     trip, or refuses the statement. No statement gets around it, raw SQL and transactions included.
//  3. PostgreSQL's policies (package rls), which decide what rows the statement sees.

// Plugin isolates the tenants of every *gorm.DB it is installed on with (*gorm.DB).Use. It is safe for concurrent use. It keeps
// pools, what PostgreSQL has said about tables, and which schemas it has seen; of a statement it keeps nothing.
type Plugin struct {
	config    Config
	known     known           // Config.Servers
	signer    *signing.Signer // nil without Config.SigningKeys
	pools     sync.Map        // *pool by *sql.DB, guarded and not
	opening   sync.Mutex      // held while a pool is added
	pattern   []byte          // of policies that isolate, for questions about tables
	trusted   []byte          // Config.DangerouslyTrustPolicies, for the same
	scanPools scanPools
	uniques   sync.Map // *uniques by *schema.Schema
	seen      observations
}

var _ gorm.Plugin = (*Plugin)(nil)

// New returns the plugin. Initialize validates cfg.
func New(cfg Config) *Plugin {
	cfg = cfg.withDefaults()
	return &Plugin{
		config:  cfg,
		known:   newKnown(cfg.Servers),
		signer:  newSigner(cfg),
		pattern: []byte(cfg.isolation().Pattern()),
		trusted: []byte(textArray(cfg.DangerouslyTrustPolicies)),
	}
}

// Name returns the key under which GORM keeps the plugin.
func (p *Plugin) Name() string { return "tenancy" }

// Initialize installs the plugin on db. (*gorm.DB).Use calls it, and GORM calls it for every replica of dbresolver. It can be
// called again.
//
// It replaces the connection pool of db by a guarded one, registers callbacks, and replaces db.Dialector, so that AutoMigrate
// leaves alone what rls.Isolation.Migrate has made (see rls.Isolation.Initialize). It also asks PostgreSQL about the roles, and about
// the whole database if Config.Check says so.
//
// It returns an error, and db cannot be used, if
//
//   - Config is invalid, or a bypass would leave no trace in a log;
//   - db is not PostgreSQL with pgx, or another plugin hides statements (ErrForeignCallback);
//   - the roles are unsafe (ErrUnsafeRole, ErrUnsafeSettings) or missing (ErrNoAdminRole, ErrSetRole);
//   - the database has the extension citus and Config.Engine is not Citus, or the other way round; or Config.Check is CheckRefuse and the database has holes (ErrUnsafeDatabase) or
//     cannot be checked.
func (p *Plugin) Initialize(db *gorm.DB) error {
	if err := p.config.validate(); err != nil {
		return fmt.Errorf("tenancy: invalid Config: %w", err)
	}
	p.warnObserving(db)
	if err := p.checkAudit(db.Statement.Context); err != nil {
		return err
	}
	if name := db.Name(); name != "postgres" {
		return fmt.Errorf("tenancy: the dialect is %q: row-level security needs PostgreSQL, open db with gorm.io/driver/postgres", name)
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
	return p.checkDatabases(db, pool)
}

// register adds the plugin's callbacks to GORM's six processors (https://gorm.io/docs/write_plugins.html), and its clause builders.
func (p *Plugin) register(db *gorm.DB) error {
	all := processors(db)
	if all[0].get("tenancy:start") != nil {
		return nil // on an earlier call
	}
	chains := map[string]*chain{"create": {op: "create"}, "update": {op: "update"}, "delete": {op: "delete"}}
	for _, on := range all {
		for _, c := range p.callbacksOf(on, chains[on.op]) {
			if err := c.at.Register(c.name, c.fn); err != nil {
				return fmt.Errorf("tenancy: register the callback %s: %w", c.name, err)
			}
		}
	}
	p.buildClauses(db)
	for _, on := range all {
		if c := chains[on.op]; c != nil {
			c.of(on)
		}
	}
	return p.followResolver(db)
}

// callback is a callback of the plugin, and its place.
type callback struct {
	at   registrar
	name string
	fn   func(*gorm.DB)
}

// callbacksOf returns the callbacks for one kind of statement, in the order in which they run. The first one that refuses comes
// after dbresolver's callback, which stands before "*", and before the transaction begins, so that a refused statement costs nothing.
func (p *Plugin) callbacksOf(on processor, chain *chain) []callback {
	const begin, end = "gorm:begin_transaction", "gorm:commit_or_rollback_transaction"
	check := p.checkHooks(on.op)
	var fill func(*gorm.DB)
	var firstStep, associations string
	switch on.op {
	case "create":
		fill, check, firstStep, associations = p.create(chain), p.checkCreate, "gorm:before_create", "gorm:save_before_associations"
	case "update":
		fill, check, firstStep, associations = p.update(chain), p.checkUpdate, "gorm:setup_reflect_value", "gorm:save_before_associations"
	case "delete":
		fill, firstStep, associations = p.delete(chain), "gorm:before_delete", "gorm:delete_before_associations"
	case "query":
		fill = p.query
	case "row":
		fill = p.row
	case "raw":
		fill = p.raw
	}
	send := "gorm:" + on.op // GORM's callback that sends the statement
	start := callback{on.before("*"), "tenancy:start", startStatement(on.op)}
	finish := callback{on.after("*"), "tenancy:end", p.endStatement(on.op)}
	if chain == nil {
		return []callback{start, {on.before(send), "tenancy:" + on.op, fill}, finish}
	}
	return []callback{
		start,
		{on.before(on.first(begin, firstStep)), "tenancy:" + on.op, fill},
		{on.before(on.first(associations, send)), "tenancy:check_hooks", p.checkHooks(on.op)},
		{on.before(send), "tenancy:check_" + on.op, check},
		{on.before(on.first(end, "gorm:after_"+on.op)), "tenancy:before_commit", beforeCommit},
		finish,
	}
}

// guardConfig is what the guarded pools of tenants' statements set.
func (p *Plugin) guardConfig() guard.Config {
	onBegin := &guard.BeginHook{}
	onBegin.Set(func(_ context.Context, refusal error) error { return beginError(refusal) })
	cfg := guard.Config{
		Setting: p.config.Setting, Role: p.config.AppRole, LookupRole: p.config.LookupRole, Signer: p.signer,
		CleanAlways: p.config.CleanAlways, KeepSettings: p.config.KeepSettings, Settings: p.config.Settings,
		Citus: p.config.Engine == Citus, OnBegin: onBegin, NewPanicError: newPanicError,
	}
	if p.observes() {
		cfg.Observe = p.observeBelow
	}
	return cfg
}
