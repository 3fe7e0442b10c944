package citus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// The other ways to a database: what they send reaches the workers with the right tenant, or they see no row.

func TestRowsAndPlainSQLHaveTenant(t *testing.T) { onCoordinators(t, testRowsAndPlainSQLHaveTenant) }

func testRowsAndPlainSQLHaveTenant(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	ctx := as(acme)
	pool, err := db.DB()
	require.NoError(t, err)

	rows, err := pool.QueryContext(ctx, `SELECT title FROM tasks`)
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Close(), "before the last row")

	rows, err = db.WithContext(ctx).Model(&Task{}).Rows()
	require.NoError(t, err)
	n := 0
	for rows.Next() {
		n++
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.Equal(t, 2, n)

	held, err := pool.Conn(ctx)
	require.NoError(t, err)
	require.NoError(t, tenancy.WithPgxConn(ctx, held, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT count(*) FROM tasks`).Scan(&n)
	}))
	require.NoError(t, held.Close())
	require.Equal(t, 2, n)

	names := map[string]int64{}
	require.NoError(t, tenancy.ForEachTenant(context.Background(), db, []string{acme, globex}, func(_ context.Context, tx *gorm.DB) error {
		var p Project
		err := tx.First(&p).Error
		names[p.Name]++
		return err
	}))
	require.Equal(t, map[string]int64{acme + "'s": 1, globex + "'s": 1}, names)

	require.NoError(t, db.WithContext(tenancy.WithoutTenant(context.Background())).Raw(`SELECT count(*) FROM tasks`).Scan(&n).Error)
	require.Zero(t, n)
}

// A pool whose connections the guard owns sends the same.
func TestOwnedConnectionsSendTheSame(t *testing.T) {
	f := newFake(t, models...)
	cfg, err := pgx.ParseConfig(f.App.DSN)
	require.NoError(t, err)
	f.through(cfg)
	pool := tenancy.OpenDB(stdlib.GetConnector(*cfg), f.config())
	pool.SetMaxOpenConns(1)
	db, err := testdb.OpenGuarded(t, "", f.config(), testdb.Pool(pool))
	require.NoError(t, err)
	seed(t, db)
	for range 2 {
		all := f.recorded(func() { require.NoError(t, found(db.WithContext(as(acme)).Find(&[]Task{}), 2)) })
		require.Subset(t, words(all), one(acme, "select"))
		checkAll(t, all, acme)
		require.NoError(t, db.WithContext(as(globex)).Exec(`SET app.tenant_id = 'acme'`).Error)
	}
	_, err = f.open(t, f.App.DSN, f.config(), 1)
	require.NoError(t, err)
	plain := tenancy.New(tenancy.Config{DangerouslyAllowUnsafeRole: true})
	require.ErrorContains(t, testdb.OpenPlain(t, "", testdb.Pool(pool)).Use(plain), "Engine")
}

// The holder of a connection can begin a transaction by SQL. The guard does not commit it.
func TestHeldConnectionKeepsItsTransaction(t *testing.T) {
	onCoordinators(t, testHeldConnectionKeepsItsTransaction)
}

func testHeldConnectionKeepsItsTransaction(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	pool, err := db.DB()
	require.NoError(t, err)
	held, err := pool.Conn(as(acme))
	require.NoError(t, err)
	defer held.Close()
	exec := func(sql string) {
		_, err := held.ExecContext(as(acme), sql)
		require.NoError(t, err, sql)
	}
	one := func(sql string) (value string) {
		require.NoError(t, held.QueryRowContext(as(acme), sql).Scan(&value))
		return value
	}
	exec(`BEGIN`)
	exec(`DELETE FROM tasks WHERE title = 'one'`)
	require.Equal(t, "1", one(`SELECT count(*) FROM tasks`))
	exec(`SET LOCAL app.tenant_id = 'globex'`)
	require.Equal(t, acme+"'s", one(`SELECT string_agg(name, ',') FROM projects`))
	exec(`ROLLBACK`)
	require.Equal(t, "2", one(`SELECT count(*) FROM tasks`))
	require.NoError(t, held.Close())
	require.NoError(t, found(db.WithContext(as(globex)).Find(&[]Task{}), 2))
}

func TestProceduresRunInBlock(t *testing.T) {
	f := newFake(t, models...)
	db := f.client(t)
	seed(t, db)
	f.AsSuperuser(t, `CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'`, `CREATE PROCEDURE works() LANGUAGE sql AS 'SELECT 1'`)
	ctx := as(acme)
	require.NoError(t, db.WithContext(ctx).Exec(`CALL works()`).Error)
	require.ErrorContains(t, db.WithContext(ctx).Exec(`CALL commits()`).Error, "cannot commit here")
	require.NoError(t, found(db.WithContext(ctx).Find(&[]Task{}), 2))
	free := db.WithContext(tenancy.WithoutTenant(context.Background()))
	require.NoError(t, free.Exec(`CALL commits()`).Error, "no tenant, which could be lost")
	require.NoError(t, free.Exec(`VACUUM`).Error, "it cannot run in a block")
	require.NoError(t, found(db.WithContext(ctx).Find(&[]Task{}), 2))
}

func TestSavepointRestoresNoOtherTenant(t *testing.T) {
	onCoordinators(t, testSavepointRestoresNoOtherTenant)
}

func testSavepointRestoresNoOtherTenant(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	require.NoError(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Exec(`SET LOCAL app.tenant_id = 'globex'`).Error)
		inner := tx.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, found(tx.Find(&[]Task{}), 2))
			return tx.Exec(`SELECT 1/0`).Error
		})
		require.Error(t, inner)
		var p Project
		err := tx.First(&p).Error
		require.Equal(t, acme, p.TenantID)
		return err
	}))
}

// SQL of the caller sets another tenant last. The deferred trigger that a commit runs is the transaction's tenant's.
func TestCommitRunsTriggersForItsTenant(t *testing.T) {
	f := newFake(t, models...)
	db := f.client(t)
	seed(t, db)
	f.AsOwner(t, `CREATE TABLE seen (tenant text)`, `GRANT INSERT, SELECT ON seen TO PUBLIC`)
	f.AsSuperuser(t, `CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO seen VALUES (current_setting('app.tenant_id')); RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER see AFTER UPDATE ON tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()`)
	require.NoError(t, db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, found(tx.Model(&Task{}).Where("title = ?", "one").Update("title", "x"), 1))
		return tx.Exec(`SET LOCAL app.tenant_id = 'globex'`).Error
	}))
	var tenants []string
	require.NoError(t, f.OwnerDB.Raw(`SELECT tenant FROM seen`).Scan(&tenants).Error)
	require.Equal(t, []string{acme}, tenants)
}

// A connection that breaks while the outcome of COMMIT is awaited is no reason to send the statement again.
func TestLostCommitIsNotSentAgain(t *testing.T) { onCoordinators(t, testLostCommitIsNotSentAgain) }

func testLostCommitIsNotSentAgain(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	create := func() error {
		return db.WithContext(as(acme)).Exec(`INSERT INTO tasks (title, project_id) VALUES ('lost', 1)`).Error
	}
	f.answer.Store(func(m []byte) wire.Fate {
		if m[0] == 'C' && strings.HasPrefix(string(m[5:]), "COMMIT") {
			return wire.Break(0)
		}
		return wire.Fate{}
	})
	err := create()
	require.ErrorContains(t, err, "not known whether PostgreSQL has committed")
	f.answer.Store(func([]byte) wire.Fate { return wire.Fate{} })
	var n int64
	require.NoError(t, db.WithContext(as(acme)).Model(&Task{}).Where("title = ?", "lost").Count(&n).Error)
	require.EqualValues(t, 1, n)
}

func TestCancelledStatementLeavesNothing(t *testing.T) {
	onCoordinators(t, testCancelledStatementLeavesNothing)
}

func testCancelledStatementLeavesNothing(t *testing.T, f *fake) {
	db := f.client(t)
	seed(t, db)
	ctx, cancel := context.WithCancel(as(acme))
	f.answer.Store(func(m []byte) wire.Fate {
		if m[0] == 'C' && strings.HasPrefix(string(m[5:]), "DELETE") {
			cancel()
		}
		return wire.Fate{}
	})
	err := db.WithContext(ctx).Exec(`DELETE FROM tasks`).Error
	f.answer.Store(func([]byte) wire.Fate { return wire.Fate{} })
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, found(db.WithContext(as(globex)).Find(&[]Task{}), 2))
}

// Many at a time, with errors, rollbacks, raw settings and the admin client in between.
func TestTenantsSeeTheirOwnRowsOnly(t *testing.T) { onCoordinators(t, testTenantsSeeTheirOwnRowsOnly) }

func testTenantsSeeTheirOwnRowsOnly(t *testing.T, f *fake) {
	db, err := f.open(t, f.App.DSN, f.config(), 4)
	require.NoError(t, err)
	seed(t, db)
	const workers, rounds = 8, 25
	errs := make(chan error, workers)
	var all sync.WaitGroup
	for n := range workers {
		all.Go(func() {
			own, other := acme, globex
			if n%2 == 1 {
				own, other = globex, acme
			}
			for round := range rounds {
				if err := turn(db, own, other, n+round); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

func turn(db *gorm.DB, own, other string, kind int) error {
	mine := func(tx *gorm.DB) error {
		var p []Project
		if err := tx.Find(&p).Error; err != nil {
			return err
		}
		if len(p) != 1 || p[0].TenantID != own {
			return fmt.Errorf("%s saw %v", own, p)
		}
		return nil
	}
	db = db.WithContext(as(own))
	rolled := errors.New("rolled back")
	switch kind % 5 {
	case 0:
		return mine(db)
	case 1:
		err := db.Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.Exec(`SET LOCAL app.tenant_id = '`+other+`'`).Error, mine(tx), tx.Create(&Task{Title: "x", ProjectID: 1}).Error, rolled)
		})
		if only := strings.ReplaceAll(err.Error(), rolled.Error(), ""); only != "" && own == acme {
			return err
		}
		return nil
	case 2:
		if err := db.Exec(`SELECT 1/0`).Error; err == nil {
			return errors.New("no error")
		}
		return mine(db)
	case 3:
		var tenants []string
		err := tenancy.Bypass(db, "torture").Model(&Project{}).Distinct().Order("tenant_id").Pluck("tenant_id", &tenants).Error
		if err == nil && len(tenants) != 2 {
			return fmt.Errorf("the admin client saw %v", tenants)
		}
		return err
	default:
		return errors.Join(db.Exec(`SET app.tenant_id = '`+other+`'`).Error, mine(db))
	}
}

// The proof of isolation asks the coordinator. It takes a restrictive policy for what it is on shards.
func TestRestrictivePolicyIsRefused(t *testing.T) {
	f := newDistributed(t, models...)
	seed(t, f.client(t))
	find := func() error { return f.client(t).WithContext(as(acme)).Find(&[]Project{}).Error }
	require.NoError(t, find())
	f.AsOwner(t, `CREATE POLICY narrow ON projects AS RESTRICTIVE USING (name <> 'secret')`)
	require.ErrorIs(t, find(), tenancy.ErrNotIsolated)
	require.ErrorContains(t, find(), "narrow")
}
