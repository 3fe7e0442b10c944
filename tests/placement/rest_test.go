package placement

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestMoveFollowsChanges: what changes between passes, in ways that constraints refuse if rows are applied one after the other.
func TestMoveFollowsChanges(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 20)
	db := f.as(acme)
	require.NoError(t, db.Exec(`UPDATE people SET place = id WHERE boss_id IS NOT NULL`).Error)
	m := f.mover()
	m.OnStep = func(s placement.Step) error {
		if s != placement.StepStop {
			return nil
		}
		for _, change := range []string{
			`DELETE FROM letters WHERE person_id % 3 = 0`,
			`DELETE FROM people WHERE id % 3 = 0 AND boss_id IS NOT NULL`,
			`UPDATE people SET place = NULL WHERE id % 2 = 0`,
			`UPDATE people SET place = 4 WHERE id = 5`, // which another row had
			`UPDATE people SET place = 5 WHERE id = 8`,
			`INSERT INTO people (id, name, place) VALUES (1001, 'boss of earlier ones', 6)`,                                  // which a deleted row had
			`INSERT INTO people (id, name, boss_id) SELECT i, 'new', nullif(i + 1, 3001) FROM generate_series(2001, 3000) i`, // refer to later ones
			`UPDATE people SET boss_id = 1001, name = 'promoted', tags = NULL, country_id = 4 WHERE id = 2`,
			`UPDATE words SET word = word || '''', count = count + 1 WHERE count % 4 = 0`,
			`INSERT INTO letters (person_id, text, sent) SELECT 2001 + i % 50, repeat('x', i), '1999-12-31 23:59:59.123456+05' FROM generate_series(1, 200) i`,
			`UPDATE orgs SET name = E'new\nname'`,
		} {
			require.NoError(t, db.Exec(change).Error, change)
		}
		swap(t, db)
		return nil
	}
	report, err := m.Move(t.Context(), acme, "second")
	require.NoError(t, err)
	var applied lifecycle.Pass
	for _, p := range report.Last {
		applied.Inserted, applied.Updated, applied.Deleted = applied.Inserted+p.Inserted, applied.Updated+p.Updated, applied.Deleted+p.Deleted
	}
	require.Positive(t, applied.Inserted)
	require.Positive(t, applied.Updated)
	require.Positive(t, applied.Deleted)
	_, sums := f.rows(t, acme)
	require.Equal(t, sums[0], sums[1])
}

// swap exchanges the places of two people that letters refer to.
func swap(t *testing.T, db *gorm.DB) {
	t.Helper()
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Exec(`UPDATE people SET place = NULL WHERE id IN (11, 13)`).Error)
		require.NoError(t, tx.Exec(`UPDATE people SET place = 13 WHERE id = 11`).Error)
		return tx.Exec(`UPDATE people SET place = 11 WHERE id = 13`).Error
	}))
}

// TestMoveOfExchangedValues that cannot be NULL, of rows that others refer to: the copy is made again, while the tenant works.
func TestMoveOfExchangedValues(t *testing.T) {
	f := newFixture(t)
	for _, d := range f.databases {
		d.AsSuperuser(t, `UPDATE people SET place = id WHERE place IS NULL`, `ALTER TABLE people ALTER place SET DEFAULT 0`, `ALTER TABLE people ALTER place SET NOT NULL`)
	}
	db := f.as(acme)
	require.NoError(t, db.Exec(`INSERT INTO people (id, name, place) SELECT i, 'person', i FROM generate_series(1, 2000) i`).Error)
	require.NoError(t, db.Exec(`INSERT INTO letters (person_id, text) SELECT i, 'letter' FROM generate_series(1, 2000) i`).Error)
	m := f.mover()
	_, err := m.Move(t.Context(), globex, "second")
	require.NoError(t, err, "a tenant without rows")
	m.OnStep = func(s placement.Step) error {
		if s != placement.StepStop {
			return nil
		}
		require.NoError(t, db.Exec(`UPDATE people SET place = -place`).Error)
		require.NoError(t, db.Exec(`UPDATE people SET place = 2001 + place`).Error) // each has the place of another one
		return nil
	}
	report, err := m.Move(t.Context(), acme, "second")
	require.NoError(t, err)
	require.EqualValues(t, 4000, report.Rows)
	_, sums := f.rows(t, acme)
	require.Equal(t, sums[0], sums[1])
}

// TestMoveWaitsForTransactions: a transaction that has written, and commits while the tenant is locked out, is not lost.
func TestMoveWaitsForTransactions(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 3)
	tx, reads := f.as(acme).Begin(), f.as(acme).Begin()
	require.NoError(t, tx.Create(&Person{Name: "late"}).Error)
	require.NoError(t, reads.Find(&[]Person{}).Error)
	done := make(chan error, 1)
	go func() { _, err := f.mover().Move(context.Background(), acme, "second"); done <- err }()
	require.Eventually(t, func() bool { return f.state(t, acme).State == placement.Moving }, waitFor, pollEvery)
	require.Eventually(t, func() bool { return f.as(acme).Find(&[]Person{}).Error != nil }, waitFor, pollEvery)
	require.ErrorIs(t, f.as(acme).Find(&[]Person{}).Error, placement.ErrMoving)
	require.NoError(t, tx.Commit().Error)
	require.NoError(t, <-done)
	require.Equal(t, "second", f.at(t, acme))
	var n int64
	require.NoError(t, f.as(acme).Model(&Person{}).Where("name = 'late'").Count(&n).Error)
	require.EqualValues(t, 1, n)

	// No move waits for a transaction that has only read. It writes nothing where the tenant lived.
	require.ErrorContains(t, reads.Create(&Person{Name: "lost"}).Error, "was moved to another server")
	require.NoError(t, reads.Rollback().Error)
}

// TestMoveWaitsForSQLThatWritesLate: PostgreSQL has locked no table of it yet, and the guard does not see its statements.
func TestMoveWaitsForSQLThatWritesLate(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 1)
	f.databases[0].AsOwner(t, `CREATE FUNCTION write_late() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_advisory_lock_shared(18);
		PERFORM pg_advisory_unlock_shared(18);
		INSERT INTO words (word, count) VALUES ('by a function', 1);
		RETURN 1;
	END $$`)
	gate, err := f.owners["first"].Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, gate.Close()) }()
	_, err = gate.ExecContext(t.Context(), `SELECT pg_advisory_lock(18)`)
	require.NoError(t, err)
	isWaiting := func() (is bool) {
		require.NoError(t, gate.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)`).Scan(&is))
		return is
	}

	writers := make(chan error, 2)
	go func() { writers <- f.as(acme).Exec(`SELECT write_late()`).Error }()
	pool, err := f.db.DB()
	require.NoError(t, err)
	lent, write := make(chan struct{}), make(chan struct{})
	go func() {
		conn, err := pool.Conn(context.Background())
		if err == nil {
			err = errors.Join(tenancy.WithPgxConn(as(acme), conn, func(c *pgx.Conn) error {
				close(lent)
				<-write
				_, err := c.Exec(context.Background(), `INSERT INTO words (word, count) VALUES ('by pgx', 1)`)
				return err
			}), conn.Close())
		}
		writers <- err
	}()
	<-lent
	require.Eventually(t, isWaiting, waitFor, pollEvery)

	m := f.mover()
	var verifies atomic.Bool
	m.OnStep = func(s placement.Step) error {
		verifies.Store(verifies.Load() || s == placement.StepVerify)
		return nil
	}
	done := make(chan error, 1)
	go func() { _, err := m.Move(context.Background(), acme, "second"); done <- err }()
	require.Eventually(t, func() bool { return f.state(t, acme).State == placement.Moving }, waitFor, pollEvery)
	require.Never(t, verifies.Load, ttl+time.Second, 10*pollEvery, "the last pass begins, and both have not written yet")
	close(write)
	_, err = gate.ExecContext(t.Context(), `SELECT pg_advisory_unlock(18)`)
	require.NoError(t, err)
	require.NoError(t, <-writers)
	require.NoError(t, <-writers)
	require.NoError(t, <-done)
	var words []string
	require.NoError(t, f.as(acme).Model(&Word{}).Where("word LIKE 'by %'").Order("word").Pluck("word", &words).Error)
	require.Equal(t, []string{"by a function", "by pgx"}, words)
}

func TestMoveThatLocksOutTooLongIsBackedOut(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 3)
	f.signUp(t, globex, 1)
	for _, writer := range []string{acme, globex} {
		tx := f.as(writer).Begin()
		require.NoError(t, tx.Create(&Person{Name: "long"}).Error)
		m := f.mover()
		m.StopTimeout = ttl + 500*time.Millisecond
		_, err := m.Move(t.Context(), acme, "second")
		require.ErrorIs(t, err, placement.ErrLockedOut)
		require.Equal(t, placement.Copying, f.state(t, acme).State)
		f.places.Invalidate(acme)
		require.NoError(t, f.as(acme).Create(&Person{Name: "works"}).Error)
		require.NoError(t, tx.Commit().Error)
	}
	retried(t, func() (placement.Report, error) { return f.mover().Move(t.Context(), acme, "second") })
	_, sums := f.rows(t, acme)
	require.Equal(t, sums[0], sums[1])
}

// TestOldRowsThatChangedAreKept: a process that was paused writes at the source after the move.
func TestOldRowsThatChangedAreKept(t *testing.T) {
	for name, change := range map[string]string{
		"update": `UPDATE people SET name = 'changed' WHERE id = 2`,
		"insert": `INSERT INTO words (word, count) VALUES ('late', 1)`,
		"delete": `DELETE FROM letters WHERE person_id = 2`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.signUp(t, acme, 3)
			_, err := f.mover().Move(t.Context(), acme, "second")
			require.NoError(t, err)
			f.databases[0].AsOwner(t, `BEGIN; SET LOCAL app.tenant_id = 'acme'; `+change+`; COMMIT`)
			_, sums := f.rows(t, acme)
			_, err = f.mover().EraseOld(t.Context(), acme)
			require.ErrorIs(t, err, lifecycle.ErrChanged)
			_, after := f.rows(t, acme)
			require.Equal(t, sums, after)
			require.Equal(t, placement.Moved, f.state(t, acme).State)
		})
	}
}

func TestMoveIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		first, second []string // statements of the superuser on the two servers
		to            string
		is            error
		text          string
	}{
		"to an unknown server":        {to: "fourth", is: placement.ErrNoServer},
		"to where it lives":           {to: "first", is: placement.ErrState},
		"to rows that are there":      {second: []string{`INSERT INTO words VALUES ('acme', 'stray', 1)`}, is: lifecycle.ErrConflict, text: "no move has put them there"},
		"to a server without a table": {second: []string{`DROP TABLE words`}, is: lifecycle.ErrSchema, text: "no tenant table public.words"},
		"to other columns":            {second: []string{`ALTER TABLE words ALTER count TYPE numeric`}, is: lifecycle.ErrSchema, text: "numeric"},
		"to fewer columns":            {second: []string{`ALTER TABLE words DROP count`}, is: lifecycle.ErrSchema, text: `no column "count" at the target`},
		"without a primary key":       {first: []string{`ALTER TABLE letters DROP CONSTRAINT letters_pkey`}, second: []string{`ALTER TABLE letters DROP CONSTRAINT letters_pkey`}, is: lifecycle.ErrSchema, text: "no primary key"},
		"without shared rows":         {second: []string{`DELETE FROM countries WHERE id = 3`}, is: lifecycle.ErrBeyond, text: "public.countries"},
		"where a sequence collides":   {second: []string{`ALTER SEQUENCE people_id_seq RESTART 1`}, is: lifecycle.ErrConflict, text: "people_id_seq"},
		"where a key is taken":        {second: []string{`INSERT INTO people (id, tenant_id, name) VALUES (2, 'globex', 'theirs')`}, is: lifecycle.ErrConflict, text: "a key is taken"},
		"where policies are off":      {second: []string{`ALTER TABLE words DISABLE ROW LEVEL SECURITY`}, is: lifecycle.ErrNotIsolated},
		"where a trigger changes rows": {second: []string{`CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.count := 0; RETURN NEW; END'`,
			`CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON words FOR EACH ROW EXECUTE FUNCTION spoil()`}, is: placement.ErrNotEqual},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.signUp(t, acme, 3)
			f.databases[0].AsSuperuser(t, c.first...)
			f.databases[1].AsSuperuser(t, c.second...)
			to := c.to
			if to == "" {
				to = "second"
			}
			var theirs string
			if name == "where a key is taken" {
				defer func() {
					require.NoError(t, f.databases[1].AdminDB.Raw(`SELECT name FROM people WHERE tenant_id = 'globex'`).Scan(&theirs).Error)
					require.Equal(t, "theirs", theirs)
				}()
			}
			_, err := f.mover().Move(t.Context(), acme, to)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.text)
			require.NotContains(t, err.Error(), "theirs")
			f.places.Invalidate(acme)
			require.Equal(t, "first", f.at(t, acme))
			require.NoError(t, f.as(acme).Create(&Word{Word: "works"}).Error)
		})
	}
}

// TestMoveAcrossNamesOfOneDatabase: two names that lead to the same rows.
func TestMoveAcrossNamesOfOneDatabase(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 3)
	m := f.mover()
	m.Servers["second"] = testdb.OpenSQL(t, f.databases[0].Owner.DSN)
	_, err := m.Move(t.Context(), acme, "second")
	require.ErrorIs(t, err, lifecycle.ErrBusy)
	require.Equal(t, "first", f.at(t, acme))
}

func TestMovesOfOneTenantExclude(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 3)
	m := f.mover()
	m.OnStep = func(s placement.Step) error {
		if s == placement.StepVerify {
			_, err := f.mover().Move(t.Context(), acme, "second")
			require.ErrorIs(t, err, lifecycle.ErrBusy)
			_, err = f.mover().Move(t.Context(), acme, "third")
			require.ErrorIs(t, err, placement.ErrState)
			_, err = f.mover().EraseOld(t.Context(), acme)
			require.ErrorIs(t, err, placement.ErrState)
		}
		return nil
	}
	_, err := m.Move(t.Context(), acme, "second")
	require.NoError(t, err)
	_, err = f.mover().BackOut(t.Context(), acme)
	require.ErrorIs(t, err, placement.ErrState)
	fewer := f.mover()
	fewer.Servers = maps.Clone(fewer.Servers)
	delete(fewer.Servers, "first")
	_, err = fewer.EraseOld(t.Context(), acme)
	require.ErrorIs(t, err, placement.ErrNoServer)

	// A run that is backed out by another process cannot switch.
	f.signUp(t, globex, 3)
	m.OnStep = func(s placement.Step) error {
		if s == placement.StepSwitch {
			_, err := f.mover().BackOut(t.Context(), globex)
			require.ErrorIs(t, err, lifecycle.ErrBusy, "the copy cannot be erased yet")
		}
		return nil
	}
	_, err = m.Move(t.Context(), globex, "second")
	require.ErrorIs(t, err, placement.ErrState)
	f.places.Invalidate(globex)
	require.Equal(t, "first", f.at(t, globex))
	_, err = f.mover().BackOut(t.Context(), globex)
	require.NoError(t, err)
	counts, _ := f.rows(t, globex)
	require.Zero(t, counts[1])
}

// TestMoveOfManyRows: while the tenant is locked out, only what has changed since is brought over.
func TestMoveOfManyRows(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 1)
	f.databases[0].AsSuperuser(t,
		`INSERT INTO people (tenant_id, name, boss_id) SELECT 'acme', 'person ' || i, 1 FROM generate_series(1, 30000) i`,
		`INSERT INTO letters (tenant_id, person_id, text, sent) SELECT 'acme', 2 + i % 30000, repeat('text ', 20), now() FROM generate_series(1, 50000) i`,
		`INSERT INTO words (tenant_id, word, count) SELECT 'acme', 'word ' || i, i FROM generate_series(1, 20000) i`, `ANALYZE`)
	m := f.mover()
	m.OnStep = func(s placement.Step) error {
		if s == placement.StepStop {
			require.NoError(t, f.as(acme).Exec(`UPDATE words SET count = -count WHERE count BETWEEN 5 AND 54`).Error)
			require.NoError(t, f.as(acme).Exec(`INSERT INTO words SELECT 'acme', 'new ' || i, i FROM generate_series(1, 50) i`).Error)
		}
		return nil
	}
	report, err := m.Move(t.Context(), acme, "second")
	require.NoError(t, err)
	require.Greater(t, report.Rows, int64(100_000))
	require.Greater(t, report.Live[0].Inserted, int64(100_000))
	sum := int64(0)
	for _, p := range report.Last {
		sum += p.Differences()
	}
	require.EqualValues(t, 100, sum, "in the write stop, only what has changed")
	require.Zero(t, report.Last[len(report.Last)-1].Differences())
	_, sums := f.rows(t, acme)
	require.Equal(t, sums[0], sums[1])
	passes := ""
	for _, p := range report.Last {
		passes += fmt.Sprintf(" %s", p.Took.Round(time.Millisecond))
	}
	t.Logf("%d rows, locked out for %s, of which the cache takes %s; first copy %s; passes in the stop%s",
		report.Rows, report.Stop.Round(time.Millisecond), ttl, report.Live[0].Took.Round(time.Millisecond), passes)
}
