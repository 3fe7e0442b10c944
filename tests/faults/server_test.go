package faults

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func requireState(t *testing.T, err error, state string) {
	t.Helper()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, state, pgErr.Code)
}

// TestServerRestarts restarts the server between two statements, in a transaction, and while rows are streamed. It has a server
// of its own.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	server, err := pgserver.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	d, err := server.NewDatabase(t.Context())
	require.NoError(t, err)
	f := newFixtureOn(t, server.DSN(), d, way{})
	restart := func() {
		t.Helper()
		require.NoError(t, server.Restart(t.Context()))
		for _, db := range []*sql.DB{f.admin, f.super} { // they have lost their connections as well
			require.Eventually(t, func() bool { return db.Ping() == nil }, patience, time.Millisecond)
		}
	}

	restart()
	mark := f.mark()
	err = f.db.WithContext(as(acme)).Create(&Note{Body: mark}).Error
	f.settle(t, "server restarted, idle", find(t, "Create"), mark, false, err)
	f.recovered(t, true)

	mark = f.mark()
	err = f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Create(&Note{Body: mark}).Error)
		restart()
		return tx.Create(&Note{Body: mark}).Error
	})
	require.Error(t, err)
	f.settle(t, "server restarted in a transaction", find(t, "Transaction"), mark, false, err)
	f.recovered(t, true)

	rows, err := f.db.WithContext(as(acme)).Raw(`SELECT tenant_id FROM notes, generate_series(1, 1000000)`).Rows()
	require.NoError(t, err)
	require.True(t, rows.Next())
	restart()
	for rows.Next() {
		var tenant string
		require.NoError(t, rows.Scan(&tenant))
		require.Equal(t, acme, tenant)
	}
	err = rows.Err()
	require.Error(t, err, "a million rows can't all have been under way")
	_ = rows.Close() // it says the same
	f.settle(t, "server restarted while rows are streamed", find(t, "Rows"), mark, false, err)
	f.recovered(t, true)
}

// TestServerDiskFull: PostgreSQL finds no room for a row, in a statement and at the commit. Triggers send that row to a table on
// a full disk; the limit of temporary files is in TestTemporaryFileLimit.
func TestServerDiskFull(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			owner := testdb.OpenSQL(t, f.Owner.DSN)
			_, err := owner.Exec(`
				CREATE TABLE more (n int);
				CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
					$$ BEGIN INSERT INTO more VALUES (1); RETURN NULL; END $$;
				CREATE TRIGGER more_now AFTER INSERT ON notes FOR EACH ROW WHEN (NEW.body LIKE '%now') EXECUTE FUNCTION more();
				CREATE CONSTRAINT TRIGGER more_late AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
					FOR EACH ROW WHEN (NEW.body LIKE '%late') EXECUTE FUNCTION more()`)
			require.NoError(t, err)
			f.fillDisk(t, owner)
			for _, suffix := range []string{" now", " late"} {
				for _, op := range operations {
					if op.writes == 0 {
						continue
					}
					mark := f.mark() + suffix
					_, err := op.run(as(acme), f, mark)
					requireState(t, err, "53100")
					f.settle(t, "disk full"+map[string]string{" now": "", " late": ", at the commit"}[suffix], op, mark, false, err)
					f.recovered(t, true)
				}
			}
		})
	}
}

// fillDisk leaves no room for the table more, which is empty: in the place of its file it puts /dev/full, of which every
// write fails as on a full disk (Linux manual, full(4)). Where the server's files are out of reach, or the system has no
// such device, a trigger raises the same error.
func (f *fixture) fillDisk(t *testing.T, owner *sql.DB) {
	t.Helper()
	var dir, file string
	require.NoError(t, f.super.QueryRow(`SHOW data_directory`).Scan(&dir))
	require.NoError(t, owner.QueryRow(`SELECT pg_relation_filepath('more')`).Scan(&file))
	file = filepath.Join(dir, file)
	_, errDevice := os.Stat("/dev/full")
	if info, err := os.Stat(file); err == nil && info.Size() == 0 && errDevice == nil {
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.Symlink("/dev/full", file))
		return
	}
	t.Log("no full disk to be had: a trigger raises its error")
	_, err := owner.Exec(`
		CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file'; END $$;
		CREATE TRIGGER no_room BEFORE INSERT ON more FOR EACH ROW EXECUTE FUNCTION no_room()`)
	require.NoError(t, err)
}

// TestTemporaryFileLimit: a sort needs more room on the disk than it may take.
func TestTemporaryFileLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, way{})
	_, err := f.super.Exec(`ALTER DATABASE ` + f.Name + ` SET temp_file_limit = '1MB'`)
	require.NoError(t, err)
	_, err = f.super.Exec(`ALTER DATABASE ` + f.Name + ` SET work_mem = '64kB'`)
	require.NoError(t, err)
	f.reconnect(t)
	mark := f.mark()
	err = f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Create(&Note{Body: mark}).Error)
		return tx.Exec(`SELECT max(n) FROM (SELECT n FROM generate_series(1, ?) n ORDER BY random() LIMIT 1000000) s`, 200000).Error
	})
	requireState(t, err, "53400")
	f.settle(t, "temporary files at their limit", find(t, "Create"), mark, false, err)
	f.recovered(t, true)
}

// TestTransactionConflictsFailWhole: two transactions of one tenant get into each other's way, each on a connection of its own. One fails,
// entirely, with an error that says that it can be tried again.
func TestTransactionConflictsFailWhole(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			f.inner.SetMaxOpenConns(2)
			marks := [2]string{f.mark(), f.mark()}
			f.settleConflict(t, "serialization failure", "40001", marks, f.both(&sql.TxOptions{Isolation: sql.LevelSerializable},
				func(n int, meet func(), tx *gorm.DB) error {
					defer meet()
					var count int64 // each reads what the other writes
					if err := tx.Model(&Note{}).Count(&count).Error; err != nil {
						return err
					}
					meet()
					return tx.Create(&Note{Body: marks[n]}).Error
				}))

			marks = [2]string{f.mark(), f.mark()}
			f.settleConflict(t, "deadlock", "40P01", marks, f.both(nil, func(n int, meet func(), tx *gorm.DB) error {
				defer meet()
				if err := tx.Create(&Note{Body: marks[n]}).Error; err != nil {
					return err
				}
				lock := func(seed int) error {
					seeds := []string{"seed 1", "seed 2"}
					return tx.Model(&Note{}).Where("body = ?", seeds[seed]).Update("body", seeds[seed]).Error
				}
				if err := lock(n); err != nil {
					return err
				}
				meet()
				return lock(1 - n)
			}))
		})
	}
}

// both runs two transactions at the same time. Each may wait once until the other has come to the same point.
func (f *fixture) both(opts *sql.TxOptions, run func(n int, meet func(), tx *gorm.DB) error) (errs [2]error) {
	var each, gate sync.WaitGroup
	gate.Add(2)
	for n := range errs {
		each.Go(func() {
			errs[n] = f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
				return run(n, sync.OnceFunc(func() { gate.Done(); gate.Wait() }), tx)
			}, opts)
		})
	}
	each.Wait()
	return errs
}

// settleConflict requires that one of two transactions has failed, with this SQLSTATE.
func (f *fixture) settleConflict(t *testing.T, fault, state string, marks [2]string, errs [2]error) {
	t.Helper()
	failed := 0
	for n, err := range errs {
		if err != nil {
			failed++
			requireState(t, err, state)
		}
		f.settle(t, fault, operation{writes: 1}, marks[n], false, err)
	}
	require.Equal(t, 1, failed, "%v", errs)
	f.recovered(t, true)
}

var errOwn = errors.New("the application's own")

// TestBackendTerminatedInTransaction: the backend ends between two statements, and the transaction goes on or gives up.
func TestBackendTerminatedInTransaction(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			for _, end := range []func(tx *gorm.DB, mark string) error{
				func(tx *gorm.DB, mark string) error { return tx.Create(&Note{Body: mark}).Error },
				func(*gorm.DB, string) error { return nil }, // it is the commit that finds out
				func(*gorm.DB, string) error { return errOwn },
			} {
				mark := f.mark()
				err := f.db.WithContext(as(acme)).Transaction(func(tx *gorm.DB) error {
					if err := tx.Create(&Note{Body: mark}).Error; err != nil {
						return err
					}
					_, err := f.super.ExecContext(context.Background(), `SELECT pg_terminate_backend($1, 10000)`, f.injector.arm(nil))
					require.NoError(t, err)
					return end(tx, mark)
				})
				require.Error(t, err)
				if errors.Is(err, errOwn) {
					err = nil // as it should be
					require.Zero(t, f.applied(t, acme, mark))
					book.note("backend terminated between two statements", undone)
				} else {
					f.settle(t, "backend terminated between two statements", find(t, "Create"), mark, false, err)
				}
				f.recovered(t, err != nil)
			}
		})
	}
}
