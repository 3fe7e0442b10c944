package rls

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
	"github.com/gormtenancy/tenancy/rls/internal/locks"
	"github.com/gormtenancy/tenancy/rls/internal/model"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Migrate runs GORM's AutoMigrate for the models and then isolates their tables. It needs the connection of the role that owns the
// tables: a plain *gorm.DB, or a guarded one, on which a context without a decision about the tenant counts as one without a tenant.
//
// A tenant table gets:
//
//   - a tenant column that is NOT NULL and defaults to the current tenant; a join table that GORM makes gets the column first;
//   - an index that begins with this column, unless there is one;
//   - the policy tenant_isolation, which shows and accepts rows only while Setting names their tenant;
//   - with an AdminRole the policy tenant_admin, which shows that role every row, and with a ReadOnlyRole the policy
//     tenant_read_only, which lets that role read every row;
//   - row level security that is enabled, and forced on its owner too.
//
// PostgreSQL checks foreign keys and unique constraints without regard to policies, so they get the tenant column too. The primary key
// becomes unique together with it, so that foreign keys can refer to it, unless none does and another index begins with the same
// columns; with TenantKeys it begins with the tenant column itself. A relation between two tenant models gets a foreign key (tenant_id, x_id) in place of GORM's: no row can then refer to
// another tenant's, and no cascade delete one. What the tags unique and uniqueIndex name is unique within a tenant; to match, ON
// CONFLICT must name the tenant column as well, which package tenancy adds to clause.OnConflict. All have the names that GORM gives
// them, so that its AutoMigrate does not bring back its own. Those that exist without the tenant column are replaced. ON DELETE SET NULL
// and SET DEFAULT leave the tenant column alone, which needs PostgreSQL 15; on PostgreSQL 14 they become NO ACTION, as they do on all
// versions for ON UPDATE.
//
// Migrate also makes a tenant column with the tag -:migration; the type of one that exists then stays as it is. AutoMigrate may run
// after Migrate on a *gorm.DB with the plugin of package tenancy, or with Isolation itself: see Initialize.
//
// Partitions, and tables that inherit from a tenant table, get the policies of the whole, so that no query of a part goes around
// them. A partition that is made later gets them when Migrate runs again; until then only the owner can read it, unless it is granted
// directly. Partition has tables made with partitions.
//
// A model without the tenant column is shared, or a child. Child tables refer to a tenant table, by a relation of a model or by a
// foreign key of the database, at one step or more, and belong to the same tenant: their tables get the tenant column, and all the
// above, although the models have no field for it. Rows that exist get the tenant of the row that they refer to; where two parents
// disagree, it is an error. Shared tables are of three kinds:
//
//   - every tenant reads it, and none writes it: a model that refers to no tenant table, or has a method TenantShared;
//   - every tenant reads it, and writes its own rows: a method TenantOwnRows. The table gets policies, on the tenant column or, where
//     the model has none, on the primary key;
//   - every tenant reads and writes it: a method DangerouslyTenantWritable.
//
// ON DELETE and ON UPDATE actions of a foreign key from a tenant table to a table without policies become NO ACTION, because they would
// reach the rows of all tenants.
//
// AdminRole is granted SELECT, INSERT, UPDATE and DELETE on the tables, USAGE of their schemas, and USAGE and SELECT on their sequences;
// AppRole the same, on tables that no tenant writes SELECT only; ReadOnlyRole SELECT; and LookupRole SELECT on shared tables and on the
// columns of Lookups. Other privileges of these roles on these objects are revoked. What was revoked by hand is not granted again while a
// role has any privilege on the table, except on tables that every tenant writes. Grants to other roles, and policies of other
// names, stay as they are.
//
// The tables may have rows. Fills and Backfill give tenants to those without one, and rows of child tables get those of their parents.
// Plan shows what Migrate would do, and the locks of each statement.
//
// Where all tables are small, everything happens in one transaction, under an advisory lock that makes a second migration wait. What is
// in place already is left untouched. The result has the changes made, without those of AutoMigrate itself, and what Check finds of the
// tables afterwards.
//
// Where a change would keep others for long from a table of 1 MB or more, Migrate goes on in steps while they read and write: it adds the
// missing columns; gives rows their tenants in batches of some thousand rows; makes indexes by CREATE INDEX CONCURRENTLY, also those of
// GORM's tags; makes foreign keys NOT VALID and validates them; requires the tenant column of new rows by a check constraint, gives the
// last rows their tenants and validates the constraint. What takes the place of an index or foreign key is made beside it, so that
// what was unique or had its parent stays so throughout. The last transaction then isolates all tables at once and reads no row: before it
// none is isolated by this migration, and after it all are. From the check constraint on, PostgreSQL refuses rows without a tenant (23514).
// A migration that was killed is finished by the next one, which repeats no batch, and drops indexes that are left unfinished (INVALID).
// One that fails drops the check constraint.
//
// No step waits longer for locks than LockTimeout, because all others wait behind it: it is repeated, with pauses, until GiveUpAfter.
// Partitioned tables, tables whose tenant column changes its type, what AutoMigrate does to columns that are there, unique constraints of
// shared tables, and rows that policies hide from the owner have to wait for the last transaction. The steps take one connection, to
// PostgreSQL itself or to a pooler in session mode, and no guarded *gorm.DB that takes a role for its statements. Within a transaction of
// the caller's, Migrate makes everything in it, whatever the sizes.
//
// Migrate fails when the isolation or a model is invalid, a role is missing or unsafe (AppRole must not be superuser, have BYPASSRLS,
// inherit AdminRole or ReadOnlyRole, or own a table), a tenant column has a type other than text, varchar, uuid, smallint, integer or
// bigint, or rows have no tenant, refer to a row of another tenant, or are not unique within theirs. The error then holds a query that
// finds these rows when the owner runs it afterwards; where only Backfill knows tenants and its column was rolled back, it finds more. The
// database is as it was, except for the steps made, which are returned with the error. Errors of PostgreSQL are found by errors.As as a
// *pgconn.PgError; no error text holds a stored value.
func (i Isolation) Migrate(ctx context.Context, db *gorm.DB, models ...any) (Result, error) {
	m, db, err := i.prepare(ctx, db, models)
	if err != nil {
		return Result{}, err
	}
	ctx = db.Statement.Context
	var result Result
	inUse, err := m.inUse(ctx, db)
	switch {
	case err != nil:
	case inUse:
		result.Changes, err = m.inSteps(ctx, db)
	default:
		result.Changes, err = m.atOnce(ctx, db)
	}
	if err != nil {
		m.waited.report()
		return result, fmt.Errorf("tenancy: %w", catalog.Explain(err, m.Column))
	}
	if i.AppRole == "" {
		return result, nil
	}
	report, err := i.Check(ctx, db, check.ModelsOnly(models...))
	if err != nil {
		m.waited.report()
		return result, fmt.Errorf("tenancy: migrated, but not checked: %w", err)
	}
	result.Findings = report.Findings
	return result, nil
}

// prepare returns the migration of the models, and db with the context for it.
func (i Isolation) prepare(ctx context.Context, db *gorm.DB, models []any) (migration, *gorm.DB, error) {
	p, err := i.planner()
	if err != nil {
		return migration{}, nil, err
	}
	if err := model.Usable(db); err != nil {
		return migration{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	if _, decided := guard.Tenant(ctx); !decided {
		ctx = guard.InTenantRole(ctx)
	}
	db = db.WithContext(ctx)
	set, err := model.Parse(db, p.Column, models)
	if err != nil {
		return migration{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	set.TenantKeys = p.TenantKeys
	if p.Partitions, err = i.partitions(db, set, p.Rollout); err != nil {
		return migration{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	if p.Lookups, err = i.lookups(db, set); err != nil {
		return migration{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	if p.Fills, err = i.fills(db, set); err != nil {
		return migration{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	if p.Audits, err = i.audits(db, set); err != nil {
		return migration{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	m := i.migration(p, set, models)
	if !gormtx.In(db.Statement.ConnPool) { // where nothing is tried again
		db = db.Session(&gorm.Session{Logger: retryLogger{db.Logger, m.waited}})
	}
	return m, db, nil
}

// migration is one call of Migrate.
type migration struct {
	plan.Planner
	give   func(ctx context.Context, tx *gorm.DB, table string) error // Isolation.Backfill
	set    *model.Set
	models []any

	concurrent               bool // Isolation.ConcurrentIndexes
	within                   bool // a transaction of the caller's
	lockTimeout, giveUpAfter time.Duration
	progress                 func(Progress)
	busy                     *locks.Busy
	waited                   *lastWait
}

func (i Isolation) migration(p plan.Planner, set *model.Set, models []any) migration {
	return migration{
		Planner: p, give: i.Backfill, set: set, models: models,
		busy: new(locks.Busy), waited: new(lastWait), concurrent: i.ConcurrentIndexes, progress: i.Progress,
		lockTimeout: cmp.Or(i.LockTimeout, locks.DefaultTimeout), giveUpAfter: cmp.Or(i.GiveUpAfter, locks.DefaultGiveUpAfter),
	}
}

// atOnce migrates in one transaction.
func (m migration) atOnce(ctx context.Context, db *gorm.DB) (changes []Change, err error) {
	if gormtx.In(db.Statement.ConnPool) {
		m.within = true
		err = db.Transaction(func(tx *gorm.DB) error {
			_, err := tx.Statement.ConnPool.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock)
			if err == nil {
				changes, err = m.run(ctx, tx)
			}
			return err
		})
		return changes, err
	}
	// A stricter level would read the catalog as it was before the wait for the lock.
	level := &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	err = m.retry(ctx, func() error {
		return await(ctx, func() (got bool, err error) {
			err = db.Transaction(func(tx *gorm.DB) error {
				if got, err = tryLock(ctx, tx.Statement.ConnPool, lockTransaction); got {
					if err = m.limitWaits(ctx, tx); err == nil {
						changes, err = m.run(ctx, tx)
					}
				}
				return err
			}, level)
			return got, err
		})
	})
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// run does the work of Migrate within a transaction.
func (m migration) run(ctx context.Context, tx *gorm.DB) ([]Change, error) {
	conn := tx.Statement.ConnPool
	if err := m.checkEngine(ctx, conn); err != nil {
		return nil, err
	}
	if err := m.checkRoles(ctx, conn); err != nil {
		return nil, err
	}
	if err := m.checkSetup(ctx, conn); err != nil {
		return nil, err
	}
	if m.Distributes {
		if _, err := conn.ExecContext(ctx, plan.Sequential); err != nil {
			return nil, err
		}
	}
	before, err := m.Foresee(ctx, conn, m.set.Migrator(tx), m.set)
	if err != nil {
		before = nil // Survey says so, where it still is one after AutoMigrate
	}
	m.note(before)
	if !m.KeepSchema {
		err := m.readable(ctx, conn, before, func() error { return m.set.Migrator(tx).AutoMigrate(m.models...) })
		if err != nil {
			return nil, err
		}
	}

	planned, err := m.Survey(ctx, conn, m.set.Migrator(tx), m.set)
	if err != nil {
		return nil, err
	}
	if err := m.lockAll(ctx, conn, planned); err != nil {
		return nil, err
	}
	var changes []Change
	for _, c := range planned {
		if err := m.backfill(ctx, tx, c); err != nil {
			return nil, err
		}
		if _, err := conn.ExecContext(ctx, c.SQL); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", c.Table, c.Description, m.explain(c.Misfits, err))
		}
		changes = append(changes, newChange(c))
	}
	if len(changes) > 0 {
		if err := m.verifyMade(ctx, tx); err != nil {
			return nil, err
		}
	}
	if err := m.checkShadow(ctx, tx); err != nil {
		return nil, err
	}
	return changes, nil
}

// verifyMade returns an error if one of the changes was not made. PostgreSQL answers some statements with a mere warning, such as a GRANT by a
// role that may not make it. A policy calls other functions than PostgreSQL's own where the search_path names their schema before pg_catalog.
func (m migration) verifyMade(ctx context.Context, tx *gorm.DB) error {
	left, err := m.Survey(ctx, tx.Statement.ConnPool, m.set.Migrator(tx), m.set)
	if err != nil {
		return err
	}
	if left = plan.Left(left); len(left) > 0 {
		return fmt.Errorf("%s: %s: PostgreSQL took the statement and changed nothing: "+
			"let the owner of the table and its schema run %s, with no schema before pg_catalog in the search_path", left[0].Table, left[0].Description, left[0].SQL)
	}
	return nil
}

// backfill gives rows their tenant before a change that requires it.
func (m migration) backfill(ctx context.Context, tx *gorm.DB, c plan.Change) error {
	if m.give == nil || c.Fill == "" {
		return nil
	}
	var orphans bool
	query := fmt.Sprintf("SELECT EXISTS (SELECT FROM %s WHERE %s IS NULL)", c.Fill, sqltext.Ident(m.Column))
	if err := tx.Statement.ConnPool.QueryRowContext(ctx, query).Scan(&orphans); err != nil || !orphans {
		return err
	}
	if err := m.give(ctx, tx.Session(&gorm.Session{NewDB: true}), c.Fill); err != nil {
		return fmt.Errorf("%s: backfill %s: %w", c.Table, m.Column, catalog.Explain(err, m.Column))
	}
	return nil
}

// readable runs what reads from the tables, as GORM does to learn their columns. The owner is bound by policies that are to be replaced, and
// they may fail without a tenant: they ask for the setting without missing_ok, or cast it although it is empty. So such tables are not
// forced on the owner meanwhile, which no other session sees.
func (m migration) readable(ctx context.Context, conn gorm.ConnPool, tables []plan.Table, do func() error) error {
	var forced []string
	for _, name := range plan.Replaced(m.Plan(tables)) {
		if slices.ContainsFunc(tables, func(t plan.Table) bool { return t.Quoted() == name && t.Forced }) {
			forced = append(forced, name)
		}
	}
	if len(forced) == 0 {
		return do()
	}
	forced, err := catalog.Own(ctx, conn, forced)
	if err != nil {
		return err
	}
	alter := func(how string) error {
		for _, name := range forced {
			if _, err := conn.ExecContext(ctx, "ALTER TABLE "+name+how+" ROW LEVEL SECURITY"); err != nil {
				return err
			}
		}
		return nil
	}
	if err := alter(" NO FORCE"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return alter(" FORCE")
}

// note keeps to which of these tables the transaction adds the tenant column, and whose policies hide rows from the owner: so they are again
// when it is rolled back, and rows are looked for.
func (m *migration) note(tables []plan.Table) {
	m.Added, m.Hidden = map[string]bool{}, map[string]bool{}
	for _, t := range tables {
		m.Added[t.Quoted()], m.Hidden[t.Quoted()] = t.Column == nil, t.Enabled && t.Forced
	}
}

// explain says of an error what to do about the rows that stand in the way of a change, and names the query that finds them.
func (m migration) explain(misfits string, err error) error {
	const (
		foreignKeyViolation = "23503"
		uniqueViolation     = "23505"
	)
	var pg *pgconn.PgError
	if misfits == "" || !errors.As(err, &pg) {
		return catalog.Explain(err, m.Column)
	}
	const query = "correct or delete what this query finds, and migrate again: "
	switch pg.Code {
	case foreignKeyViolation:
		return catalog.ServerError{Cause: err, Text: "the table has rows that refer to a row of another tenant, or to none: " + query + misfits}
	case uniqueViolation:
		return catalog.ServerError{Cause: err, Text: "the table has rows that are not unique within their tenant (SQLSTATE " + pg.Code + "): " + query + misfits}
	}
	explained := catalog.Explain(err, m.Column)
	if catalog.WithoutTenant(err, m.Column) {
		explained = catalog.ServerError{Cause: err, Text: explained.Error() + ". This query finds them: " + misfits}
	}
	return explained
}
