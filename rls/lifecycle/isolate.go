package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gormtenancy/tenancy/rls/internal/locks"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// OpIsolate is the operation of Isolate and BackOutIsolate.
const OpIsolate Operation = "isolate"

// ErrLocked is the error of an Isolate that would have kept others from the table for longer than MaxLock. Nothing was changed.
var ErrLocked = errors.New("the table would be locked for too long")

// ErrNoRows is the error of an Isolate for a tenant that has no row in the tables, and no partition of its own. Nothing was changed.
var ErrNoRows = errors.New("the tenant has no rows in the tables that are partitioned by LIST")

// IsolateOptions are options of Isolate. The zero value is good.
type IsolateOptions struct {
	// MaxLock is how long the table may be locked for all tenants, at the end. What takes longer is rolled back, with ErrLocked. Zero means
	// five seconds. The time grows with the rows of the tenant, and with those that the others have in the part of the table where these were.
	MaxLock time.Duration

	// AllowEmpty gives a tenant partitions that has no row in the tables. Without it that is ErrNoRows, because the id may be misspelled, tables are
	// locked for all tenants, and there is no way back.
	AllowEmpty bool

	// OnStep is called at the beginning of each step of a table. An error ends the run. It may be nil.
	OnStep func(step IsolateStep, table string) error
}

// IsolateStep is a step of Isolate.
type IsolateStep string

// The steps.
const (
	IsolateMake   IsolateStep = "make"   // the partition, which is a table of its own until the switch
	IsolateCopy   IsolateStep = "copy"   // passes while the tenant works
	IsolateProve  IsolateStep = "prove"  // that rows are equal, and that the other partitions have none of the tenant
	IsolateSwitch IsolateStep = "switch" // under lock
	IsolateDone   IsolateStep = "done"
)

// IsolateReport says what Isolate has done.
type IsolateReport struct {
	Tenant string          `json:"tenant"`
	Tables []IsolatedTable `json:"tables"` // in the order of the work
}

// IsolatedTable is a table with a partition for the tenant.
type IsolatedTable struct {
	Name      string        `json:"name"`      // schema.table
	Partition string        `json:"partition"` // schema.table
	Already   bool          `json:"already"`   // before this run, which has left it alone
	Rows      int64         `json:"rows"`      // that were moved
	Live      []Pass        `json:"live"`      // while the tenant worked
	Last      int64         `json:"last"`      // rows that differed at the end, and were brought over under lock
	Lock      time.Duration `json:"lock_ns"`   // how long the table was locked for all tenants
	Tries     int           `json:"tries"`     // to get the locks
}

const (
	defaultMaxLock = 5 * time.Second
	maxLivePasses  = 10
	smallRest      = 1000 // rows, which are brought over under lock in little time
)

// Isolate gives a tenant a partition of its own in each table that is partitioned by LIST of the tenant column (rls.Partitioned.ByList), and moves
// its rows there while the application works. Table by table, parents first, it makes the partition as a table with the same policies, on which
// no role has a right, copies the rows in passes, and compares them. At the end it locks the table for a moment, brings over what has changed since,
// deletes the rows where they were and attaches the partition, all in one transaction. Foreign keys to the table are made again in it, under
// their names; triggers do not fire for rows that are moved. No lock is waited for longer than Isolation.LockTimeout, because others wait behind it; it is
// tried again until Isolation.GiveUpAfter.
//
// DB must lead to PostgreSQL itself, or to a pooler that keeps sessions, and lend two connections; its login must own the tables. After an error, or
// if the process is killed, each table is as it was or has its partition, and the next call goes on, until BackOutIsolate.
//
// A transaction of the level REPEATABLE READ or SERIALIZABLE that has begun before the switch, and uses the table only after it, finds the rows as
// an earlier pass has copied them.
func (t Tenants) Isolate(ctx context.Context, tenant string, o IsolateOptions) (IsolateReport, error) {
	report := IsolateReport{Tenant: tenant}
	err := t.isolateRun(ctx, tenant, func(source, target *session, tables []*isolating) error {
		for _, i := range tables {
			i.IsolateOptions = o
			i.MaxLock = cmp.Or(o.MaxLock, defaultMaxLock)
			if i.MaxLock < time.Millisecond {
				return errors.New("MaxLock must be a millisecond or more")
			}
			if err := i.check(); err != nil {
				return err
			}
		}
		if !o.AllowEmpty {
			if err := notEmpty(ctx, source, tables); err != nil {
				return err
			}
		}
		for _, i := range tables {
			err := i.run(ctx)
			if err == nil || i.report.Rows > 0 {
				report.Tables = append(report.Tables, i.report)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", i.name(), explain(err))
			}
		}
		return nil
	})
	return report, err
}

// notEmpty refuses a tenant without rows. One that has a partition already is known.
func notEmpty(ctx context.Context, source *session, tables []*isolating) error {
	return source.inTransaction(ctx, beginReading, func() error {
		for _, i := range tables {
			if i.live.own(source.tenant, i.key.Base) {
				return nil
			}
			n, err := source.number(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s WHERE %s LIMIT 1) t", i.from(), i.condition()), source.tenant)
			if err != nil {
				return fmt.Errorf("%s: %w", i.name(), explain(err))
			}
			if n > 0 {
				return nil
			}
		}
		return fmt.Errorf("%w: is the id right? AllowEmpty gives it partitions all the same", ErrNoRows)
	})
}

// BackOutIsolate drops what an Isolate that has not ended has made for a tenant. Tables that have its partition keep it. It returns the copies
// that are dropped, as schema.table.
func (t Tenants) BackOutIsolate(ctx context.Context, tenant string) (dropped []string, err error) {
	err = t.isolateRun(ctx, tenant, func(source, _ *session, tables []*isolating) error {
		for _, i := range tables {
			had, err := i.backOut(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", i.name(), explain(err))
			}
			if had {
				dropped = append(dropped, i.copy.name())
			}
		}
		return nil
	})
	return dropped, err
}

// isolateRun runs do with two connections, which no other run for the tenant has, and the tables.
func (t Tenants) isolateRun(ctx context.Context, tenant string, do func(source, target *session, tables []*isolating) error) error {
	return t.run(ctx, OpIsolate, tenant, func(source *session) error {
		if t.DB.Stats().MaxOpenConnections == 1 {
			return errors.New("the pool lends one connection only, and two are needed: SetMaxOpenConns(2)")
		}
		target := &session{Tenants: t, config: source.config, op: OpIsolate, tenant: tenant}
		return target.on(ctx, func(*session) error {
			if err := source.locked(ctx, lockKey); err != nil {
				return err
			}
			defer source.unlock(ctx, lockKey)
			// A process that was taken for dead, and has lost the first connection, cannot write a copy that another run compares.
			if err := target.locked(ctx, copyLockKey); err != nil {
				return err
			}
			defer target.unlock(ctx, copyLockKey)
			for _, s := range []*session{source, target} {
				if err := s.inTransaction(ctx, beginReading, func() error { return nil }); err != nil {
					return err
				}
			}
			tables, err := isolatingTables(ctx, source, target)
			if err != nil {
				return err
			}
			return do(source, target, tables)
		})
	})
}

// copyLockKey is the key of the lock without which nothing is written to the copies of a tenant that is isolated.
const copyLockKey = "pg_catalog.hashtextextended('tenancy: copies of a tenant that is isolated: ' || $1, 0)"

// isolating is the work on one table.
type isolating struct {
	IsolateOptions
	*relation          // the table
	source    *session // for what is read and changed
	target    *session // for what passes write
	live      partitionedTable
	copy      *relation // the partition, until the switch a table of its own
	horizon   string    // before the last pass: see session.horizon
	busy      locks.Busy
	report    IsolatedTable
}

// isolatingTables finds the tables by list, parents first.
func isolatingTables(ctx context.Context, source, target *session) ([]*isolating, error) {
	var list []*isolating
	for _, r := range source.scope.tables() {
		if r.Kind != "p" || r.own {
			continue
		}
		i := &isolating{relation: r, source: source, target: target, copy: r.copyAs(model.TenantPartition(r.Table, source.tenant))}
		if err := i.look(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", r.name(), explain(err))
		}
		if i.live.ByList {
			i.report = IsolatedTable{Name: r.name(), Partition: i.copy.name()}
			list = append(list, i)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no table is partitioned by LIST of the tenant column: make tables so with rls.Partitioned.ByList")
	}
	return list, nil
}

// copyAs is a table with the same columns and key, and no foreign keys.
func (r *relation) copyAs(table string) *relation {
	c := *r
	c.Table, c.Kind, c.ForeignKeys = table, "r", nil
	c.key = c.column(r.key.Name)
	return &c
}

// run gives the tenant its partition.
func (i *isolating) run(ctx context.Context) error {
	if i.live.own(i.source.tenant, i.key.Base) {
		i.report.Already = true
		return nil
	}
	for _, s := range []struct {
		name IsolateStep
		do   func(context.Context) error
	}{{IsolateMake, i.make}, {IsolateCopy, i.passes}, {IsolateProve, i.prove}, {IsolateSwitch, i.switchOver}, {IsolateDone, nil}} {
		if i.OnStep != nil {
			if err := i.OnStep(s.name, i.name()); err != nil {
				return err
			}
		}
		if s.do == nil {
			break
		}
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// short runs a transaction that waits for locks for a short time only, and again until it gets them.
func (i *isolating) short(ctx context.Context, do func() error) error {
	s := i.source
	giveUp := cmp.Or(s.Isolation.GiveUpAfter, locks.DefaultGiveUpAfter)
	gaveUp, err := locks.Retry(ctx, giveUp, func() error {
		i.report.Tries++
		return s.inTransaction(ctx, beginWriting, func() error {
			if err := i.limitWaits(ctx, i.lockTimeout()); err != nil {
				return err
			}
			return do()
		})
	})
	if gaveUp {
		err = fmt.Errorf("other sessions hold locks, tried for %s: %w", giveUp, explain(err))
	}
	return err
}

func (i *isolating) lockTimeout() time.Duration {
	return cmp.Or(i.source.Isolation.LockTimeout, locks.DefaultTimeout)
}

func (i *isolating) limitWaits(ctx context.Context, timeout time.Duration) error {
	_, err := i.source.row(ctx, "SELECT pg_catalog.set_config('lock_timeout', $1, true)", fmt.Sprint(timeout.Milliseconds()))
	return err
}
