package rls

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/rls/internal/model"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Isolation says how tenants are kept apart in a database. The zero value is complete: it isolates by the column
// "tenant_id" and the setting "app.tenant_id", and grants nothing to any role.
type Isolation struct {
	// Setting is the PostgreSQL setting that holds the current tenant. Its name has at least two parts joined by a dot, as
	// PostgreSQL demands of settings it does not know itself, of at most 63 bytes. Empty means "app.tenant_id".
	Setting string

	// Column is the column that holds the tenant a row belongs to. Empty means "tenant_id".
	Column string

	// Engine says whether the tables are those of a PostgreSQL server, the zero value, or of a cluster of Citus. With Citus, SQL,
	// Migrate and Plan also distribute the tables, in one transaction, and make policies of the form that Citus takes.
	// It needs TenantKeys. Signed, Audits, LookupRole and Stage cannot be set. Migrate and Plan refuse a database of the other kind.
	Engine Engine

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

	// LookupRole is the role that looks up what is known before the tenant is: the memberships of a user, the tenant of an API key
	// (tenancy.Config.LookupRole). It reads shared tables, and of tenant tables and those of TenantOwnRows the columns that Lookups
	// names, of all tenants' rows. With it tenants see their own rows only of tables of TenantOwnRows. AppRole may be a member
	// of it, but must not inherit from it. Empty means that there is none.
	LookupRole string

	// Lookups are the columns that LookupRole may read. It is granted no others.
	Lookups []Lookup

	// BackupRole is the login of backups: it has BYPASSRLS, without which pg_dump fails or leaves rows out, and is granted SELECT on
	// the migrated tables, their partitions and their sequences. AppRole must not be a member of it, also not through other roles. Where
	// the server refuses BYPASSRLS, back up as ReadOnlyRole (docs/backups.md). Empty means that there is none.
	BackupRole string

	// Audits name the models whose tables are audited: each row that is inserted, updated or deleted is recorded in the table tenancy_audit,
	// by whatever statement. Tenants read their own records, and no role that is granted something writes any: see Audit. Empty means that
	// Migrate makes no records; triggers that are there stay, so that leaving a model out switches nothing off. Stages before
	// StageEnforce leave audits alone.
	Audits []Audit

	// Signed has the policies demand a proof that only the application can make: tenancy.Config.SigningKeys. SQL that names another tenant
	// then sees none of its rows. Migrate makes the schema tenancy_signed, with the keys and the functions that verify. The keys are
	// added apart.
	Signed bool

	// SignerRole owns the schema tenancy_signed, and alone reads the keys. It cannot log in, the migrating role must be able to take it, and
	// AppRole must not. Empty means "tenancy_signer".
	SignerRole string

	// DangerouslyAcceptUnsigned has policies take statements without a proof as well, as if Signed were false: while an application
	// changes to Signed, or back. A proof that is not good is refused.
	DangerouslyAcceptUnsigned bool

	// WidenUniques makes what is unique in a tenant table without a tag of a model, by hand or by older migrations, unique within
	// each tenant. False leaves such indexes and constraints as they are: they are among the findings of Migrate.
	WidenUniques bool

	// TenantKeys makes the tenant column the first of primary keys, (tenant_id, id) in place of (id), of tenant tables and the join tables
	// between them. The models keep ID alone. An id that one tenant takes is then free for the others, so that none learns from a conflict
	// which ids they have; an index less is kept up to date. An id alone no longer names one row to the clients of Bypass, which should
	// name the tenant as well. Tables that are there change theirs in short steps: see Migrate. The application must have this version
	// of package tenancy first, which names the column in ON CONFLICT. False makes no new ones; what is so stays so.
	TenantKeys bool

	// Partition names the models whose tables Migrate and SQL make with partitions by the tenant. Empty means none; what is partitioned stays
	// so. Stages before StageEnforce leave it alone.
	Partition []Partitioned

	// Backfill gives the rows of a table their tenant, when the table is older than its tenant column. Migrate calls it for
	// each tenant table that has rows without a tenant, in the order of the models and with join tables last, after the
	// column was added and before it becomes NOT NULL. The table is qualified and quoted, fit for SQL. Statements must go
	// through tx, the migration's transaction; policies do not hide rows from them. Nil means that such rows are an error.
	//
	//	func(ctx context.Context, tx *gorm.DB, table string) error {
	//		return tx.Exec("UPDATE " + table + " SET tenant_id = 'acme' WHERE tenant_id IS NULL").Error
	//	}
	Backfill func(ctx context.Context, tx *gorm.DB, table string) error

	// Stage is how far Migrate goes. The zero value is StageEnforce: all of it.
	Stage Stage

	// OldRole is the role of the application's older version, which knows no tenants: no policy hides rows from it in StageShadow. AppRole
	// must not inherit from it. Empty means that the older version logs in as the owner of the tables.
	OldRole string

	// ConcurrentIndexes has Migrate go on in steps while others read and write, however small the tables are. It is an error then within a
	// transaction of the caller's. False means that it does so where a table is large: see Migrate.
	ConcurrentIndexes bool

	// Fills give the rows of tables their tenants by expressions, when a table is older than its tenant column. On large tables that happens
	// in batches of some thousand rows, each in a transaction of its own, and goes on where an earlier migration has stopped. Rows of
	// child tables get the tenants of their parents without it.
	Fills []Fill

	// KeepSchema leaves tables to the tool that has made them: Migrate does not call AutoMigrate, but only adds what isolates the tables,
	// among that the tenant column, foreign keys with the tenant, and an index that begins with it. A table that is missing is an error,
	// and what a tag wants to be unique, and is not, stays so. False means that AutoMigrate makes the tables what the models say:
	// where the two differ it drops the default of a column, for example.
	KeepSchema bool

	// LockTimeout is how long Migrate waits for a lock of a table before it lets those pass who wait behind it, and tries again. Zero
	// means 300 milliseconds. Deadlocks do not occur while it is below PostgreSQL's deadlock_timeout, which is one second by default.
	LockTimeout time.Duration

	// GiveUpAfter is how long Migrate tries to get the locks of one step. Zero means five minutes.
	GiveUpAfter time.Duration

	// Progress is called before each step on tables in use, and after each batch of rows that get their tenants or that
	// DataMigrationInBatches changes. It may be nil.
	Progress func(Progress)
}

// Lookup names columns of a model's table.
type Lookup struct {
	Model   any      // one of those that are migrated
	Columns []string // as in the database
}

// planner returns what plans for i, with its defaults filled in, or an error that says what is wrong with i.
func (i Isolation) planner() (plan.Planner, error) {
	config := policy.Config{
		Setting: i.Setting, Column: i.Column, AppRole: i.AppRole, AdminRole: i.AdminRole, ReadOnlyRole: i.ReadOnlyRole, LookupRole: i.LookupRole,
		BackupRole: i.BackupRole, OldRole: i.OldRole, Inline: i.Engine == Citus,
	}.WithDefaults()
	if err := config.Validate(); err != nil {
		return plan.Planner{}, fmt.Errorf("tenancy: %w", err)
	}
	if err := i.validateEngine(); err != nil {
		return plan.Planner{}, err
	}
	if len(i.Lookups) > 0 && i.LookupRole == "" {
		return plan.Planner{}, errors.New("tenancy: Lookups need a LookupRole, which reads them")
	}
	switch {
	case i.DangerouslyAcceptUnsigned && !i.Signed:
		return plan.Planner{}, errors.New("tenancy: DangerouslyAcceptUnsigned needs Signed")
	case i.DangerouslyAcceptUnsigned:
		config.Form = policy.Either
	case i.Signed:
		config.Form = policy.Signed
	}
	rollout, known := rollouts[i.Stage]
	if !known {
		return plan.Planner{}, fmt.Errorf("tenancy: Stage %d: must be StageEnforce, StageObserve or StageShadow", i.Stage)
	}
	return plan.Planner{
		Config: config, Backfills: i.Backfill != nil, WidenUniques: i.WidenUniques, TenantKeys: i.TenantKeys && rollout == plan.Enforced,
		KeepSchema: i.KeepSchema || rollout != plan.Enforced, Rollout: rollout, Distributes: i.Engine == Citus,
		Signer: cmp.Or(i.SignerRole, signing.DefaultRole),
	}, nil
}

// lookups returns the columns that LookupRole may read, by table.
func (i Isolation) lookups(db *gorm.DB, set *model.Set) (map[string][]string, error) {
	columns := map[string][]string{}
	for _, l := range i.Lookups {
		table, err := set.TableOf(db, l.Model, l.Columns)
		if err != nil {
			return nil, fmt.Errorf("Lookups: %w", err)
		}
		columns[table] = append(columns[table], l.Columns...)
	}
	return columns, nil
}
