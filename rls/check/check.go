package check

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// Option changes what Run looks at.
type Option func(*checker)

// Allow tolerates a finding, named by its code and object as the report names them, for a reason. The finding moves to
// Report.Allowed. An entry that matches nothing is itself reported, as AllowStale. With the code SharedTable, the object is
// a table, such as "public.memberships", that all tenants share although it has the tenant column, or refers to a tenant table.
func Allow(code Code, object, reason string) Option {
	return func(c *checker) {
		c.allowed = append(c.allowed, &allowance{code: code, object: object, reason: reason})
	}
}

// Schemas narrows Run to the tables, functions and privileges of these schemas. Views that read their tables are looked
// at wherever they are.
func Schemas(names ...string) Option {
	return func(c *checker) { c.schemas = append(c.schemas, names...) }
}

// Models adds the models of the application: a table that is missing, or lacks the tenant column of its model, is a
// finding, and the table of a model with a method TenantShared() is left out.
func Models(models ...any) Option {
	return func(c *checker) { c.models = append(c.models, models...) }
}

// ServerVersion checks as if the server had this version, in the form of PostgreSQL's server_version_num, such as 150018
// for 15.18: for a schema that is checked on one server and used on another.
func ServerVersion(num int) Option {
	return func(c *checker) { c.version = num }
}

// Login adds the role that the application logs in as, where its statements run under another one, AppRole: SQL can leave that by
// RESET ROLE. Empty means the login of the connection.
func Login(role string) Option {
	return func(c *checker) { c.login, c.logsIn = role, true }
}

// AdminLogin says that clients of tenancy.Bypass have a login of their own, tenancy.Config.AdminDB, and names the roles that policies exempt and
// whose rights it has: these count as AdminRole does, which can be set as well. It is a finding then, RoleBecomesAdmin, that the application
// can take one of these roles or the read-only role. The names of the application's role and of its login are ignored.
func AdminLogin(roles ...string) Option {
	return func(c *checker) { c.adminApart, c.admins = true, append(c.admins, roles...) }
}

// Config names what the database is checked for. Isolation of package rls has the same fields, and a method Check.
type Config struct {
	Setting, Column                              string // as in rls.Isolation, with its defaults
	AppRole, AdminRole, ReadOnlyRole, LookupRole string // as there; an empty AppRole means the current role
	BackupRole                                   string // empty for none
	Signed, DangerouslyAcceptUnsigned            bool   // what policies must ask for, as there
}

// form is what policies are to ask for.
func (c Config) form() policy.Form {
	switch {
	case c.DangerouslyAcceptUnsigned:
		return policy.Either
	case c.Signed:
		return policy.Signed
	default:
		return policy.Unsigned
	}
}

// Run looks for holes in the isolation of the database behind db, as its catalog shows it. It takes AppRole for the role
// the application logs in as, or without one the role of db itself. Any role will do for the connection, the application's
// too: the catalog is the same for all. db may be guarded; a context without a decision about the tenant then counts as
// one without a tenant. Nothing is written, and no row of a table is read. With Signed, the signing keys are counted where the role may.
//
// A tenant table is one with the tenant column, in any schema that is not PostgreSQL's own, unless Models or
// Allow(SharedTable, …) say that it is shared. A table that refers to one by a foreign key, and is not shared, should be one.
// Primary keys may do without the tenant column unless they are texts: applications make up numbers, and tenants do not.
//
// On the coordinator of a cluster of Citus it asks each node whether its shards have the row-level security of their tables. A node that
// does not let the role in is among Report.NotChecked.
//
// An error means that the database could not be checked. Findings are no error: see Report.Err.
func Run(ctx context.Context, db *gorm.DB, cfg Config, opts ...Option) (Report, error) {
	c := &checker{Config: policy.Config{
		Setting: cfg.Setting, Column: cfg.Column, AppRole: cfg.AppRole, AdminRole: cfg.AdminRole,
		ReadOnlyRole: cfg.ReadOnlyRole, LookupRole: cfg.LookupRole, BackupRole: cfg.BackupRole,
		Form: cfg.form(),
	}.WithDefaults()}
	for _, opt := range opts {
		opt(c)
	}
	if err := cmp.Or(c.Validate(), model.Usable(db), c.validateOptions()); err != nil {
		return Report{}, fmt.Errorf("tenancy: %w", err)
	}
	if _, decided := guard.Tenant(ctx); !decided {
		ctx = guard.InTenantRole(ctx)
	}
	// The session is a copy, whose nested transactions are savepoints: rolling back undoes what check sets.
	session := db.WithContext(ctx).Session(&gorm.Session{})
	session.DisableNestedTransaction = false
	err := session.Transaction(func(tx *gorm.DB) error {
		return cmp.Or(c.check(ctx, tx), errDone)
	}, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelReadCommitted})
	if !errors.Is(err, errDone) {
		return Report{}, fmt.Errorf("tenancy: %w", catalog.Explain(err, c.Column))
	}
	return c.report(), nil
}

// errDone ends the transaction of a check that succeeded. Nothing is there to commit.
var errDone = errors.New("done")

// checker is one run.
type checker struct {
	policy.Config
	allowed []*allowance
	schemas []string
	models  []any
	audited []any // models
	version int   // that is checked for
	server  int   // the server's own
	login   string
	logsIn  bool

	adminApart bool     // clients of Bypass have a login of their own
	admins     []string // its roles

	narrowed bool     // to the tables of the models
	tables   []string // these

	auditedOIDs []int64 // of the tables of audited

	ways     map[string]string // to roles that the application has to take, by their names as in SQL
	facts    facts
	findings []Finding
	notes    []Finding
	unseen   []string
}

// allowance is an entry of the allow-list.
type allowance struct {
	code           Code
	object, reason string
	used           bool
}

// validateOptions refuses options that cannot be meant.
func (c *checker) validateOptions() error {
	for _, a := range c.allowed {
		_, known := ranks()[a.code]
		switch {
		case !known && a.code != SharedTable:
			return fmt.Errorf("allowed code %q does not exist: use the constants of package rls/check", a.code)
		case a.object == "":
			return fmt.Errorf("allowed code %q has no object: name it as the report does", a.code)
		case strings.TrimSpace(a.reason) == "":
			return fmt.Errorf("allowed code %q on %s has no reason: say why it is no hole", a.code, a.object)
		}
	}
	return nil
}

// check reads the catalog and judges it.
func (c *checker) check(ctx context.Context, tx *gorm.DB) error {
	set, err := model.Parse(tx, c.Column, c.models)
	if err != nil {
		return err
	}
	models := make([]*modelTable, len(set.Tables))
	for n, t := range set.Tables {
		models[n] = &modelTable{Table: t}
	}
	if err := c.read(ctx, tx, models); err != nil {
		return err
	}
	for _, m := range models {
		c.tables = append(c.tables, m.String())
	}
	judge(c, modelRules, models)
	judge(c, roleRules, []role{c.facts.Role})
	judge(c, reachRules, c.facts.Reach)
	judge(c, settingRules, c.facts.Settings)
	judge(c, columnRules, c.facts.Tables)
	judge(c, childRules, c.children())
	judge(c, sharedParentRules, c.facts.SharedParents)
	judge(c, primaryKeyRules, c.facts.PrimaryKeys)
	judge(c, foreignKeyRules, c.facts.ForeignKeys)
	judge(c, uniqueRules, c.facts.Uniques)
	policies := c.judgedPolicies()
	judgeFirst(c, policyRules, policies[policy.Unproved])
	judgeFirst(c, handMadeRules, policies[policy.Isolates])
	judge(c, tableRules, c.facts.Tables)
	judge(c, restrictiveRules, c.facts.Policies)
	judge(c, shardRules, c.facts.sharded)
	judge(c, parentRules, c.facts.Parents)
	judgeFirst(c, viewRules, c.facts.Views)
	judge(c, functionRules, c.facts.Functions)
	judge(c, triggerRules, c.facts.Triggers)
	judge(c, auditStoreRules, c.facts.AuditStores)
	judge(c, auditedRules, c.facts.AuditedTables)
	judge(c, specialRules, c.facts.Specials)
	judge(c, fileFunctionRules, c.facts.FileFunctions)
	judge(c, connectorRules, c.facts.Connectors)
	judge(c, rewriteRules, c.facts.Rewrites)
	judge(c, sequenceRules, c.facts.Sequences)
	judge(c, largeObjectRules, []largeObjects{c.facts.LargeObjects})
	judge(c, secretRules, c.facts.Secrets)
	judge(c, parameterRules, c.facts.Parameters)
	judge(c, foreignServerRules, c.facts.ForeignServers)
	judge(c, grantRules, c.facts.Tables)
	judge(c, foreignTableRules, c.facts.ForeignTables)
	judge(c, schemaRules, c.facts.Schemas)
	judge(c, defaultRules, c.facts.Defaults)
	judge(c, wallRules, c.facts.Wall)
	judge(c, keyRules, c.facts.keys)
	judge(c, publicationRules, c.facts.Publications)
	judge(c, serverRules, []server{{version: c.version}})
	c.note()
	return nil
}

// report sorts the findings out.
func (c *checker) report() Report {
	r := Report{Role: c.facts.Role.Name, Tables: len(c.facts.Tables) + c.columnedForeignTables(), NotChecked: c.unseen, Notes: c.notes}
	// A policy made by this check would take no signature.
	unsigning := slices.ContainsFunc(c.facts.Policies, func(p livePolicy) bool { return p.demandsSignature(c) })
	for _, f := range c.findings {
		if !c.reports(f) {
			continue
		}
		if unsigning {
			f.Fix = ""
		}
		if a := c.allowance(f); a != nil {
			r.Allowed = append(r.Allowed, Allowed{Finding: f, Reason: a.reason})
		} else {
			r.Findings = append(r.Findings, f)
		}
	}
	for _, a := range c.allowed {
		for _, stale := range staleRules {
			if stale.found(c, a) {
				r.Findings = append(r.Findings, stale.finding(c, a))
			}
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Object, b.Object))
	})
	return r
}

// allowance returns the entry of the allow-list that covers a finding.
func (c *checker) allowance(f Finding) *allowance {
	for _, a := range c.allowed {
		if a.code == f.Code && a.object == f.Object {
			a.used = true
			return a
		}
	}
	return nil
}

var staleRules = []rule[*allowance]{{
	code: AllowStale, severity: Low,
	found:   func(_ *checker, a *allowance) bool { return !a.used },
	problem: "Nothing matches this entry of the allow-list, which would hide the hole should it open again: remove it.",
}}

func (a *allowance) String() string { return string(a.code) + " on " + a.object }
