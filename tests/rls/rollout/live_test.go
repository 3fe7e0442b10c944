package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// version is a version of the application that is at work in several goroutines.
type version struct {
	name   string
	work   func(n int64, code string) error
	stop   context.CancelFunc
	ended  sync.WaitGroup
	rounds atomic.Int64
	worst  atomic.Int64 // the longest round, in nanoseconds
	failed atomic.Pointer[error]
}

// workers is how many goroutines a version has.
const workers = 3

// number makes codes unique.
var number atomic.Int64

// start begins the work, which ends with the first error.
func start(t *testing.T, name string, work func(n int64, code string) error) *version {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	v := &version{name: name, work: work, stop: stop}
	for range workers {
		v.ended.Go(func() {
			for ctx.Err() == nil && v.failed.Load() == nil {
				v.round()
			}
		})
	}
	t.Cleanup(v.end)
	return v
}

func (v *version) end() { v.stop(); v.ended.Wait() }

func (v *version) round() {
	began := time.Now()
	n := number.Add(1)
	if err := v.work(n%1000, fmt.Sprint(v.name, n)); err != nil {
		v.failed.CompareAndSwap(nil, &err)
	}
	took := int64(time.Since(began))
	for worst := v.worst.Load(); took > worst && !v.worst.CompareAndSwap(worst, took); {
		worst = v.worst.Load()
	}
	v.rounds.Add(1)
}

// works waits until the version has done some rounds, and requires that none has failed.
func (v *version) works(t *testing.T) {
	t.Helper()
	from := v.rounds.Load()
	require.Eventually(t, func() bool { return v.failed.Load() != nil || v.rounds.Load() > from+20 }, time.Minute, time.Millisecond)
	v.succeeds(t)
}

func (v *version) succeeds(t *testing.T) {
	t.Helper()
	if err := v.failed.Load(); err != nil {
		require.NoError(t, *err, v.name)
	}
}

// report says how long the longest round took since the last report. A round of the older version has nine statements.
func (v *version) report(t *testing.T, during string) {
	t.Logf("%s: %s version: %d rounds, the longest %v", during, v.name, v.rounds.Load(), time.Duration(v.worst.Swap(0)).Round(time.Millisecond))
}

// The older version writes all the while, and a new one joins it: no write fails before the isolation is enforced, and then those of the
// older version alone. The way back is the same. With -v the test prints the longest round of each version at each stage.
func TestRolloutUnderWriters(t *testing.T) {
	d := newDatabase(t, 10_000)
	oldDB := testdb.OpenPlain(t, d.oldDSN())
	oldWork := func(n int64, code string) error { return oldVersion(oldDB, n, code) }
	old := start(t, "old", oldWork)
	old.works(t)
	old.report(t, "before")

	d.to(t, rls.StageObserve)
	old.works(t)
	old.report(t, "observe")
	require.Zero(t, d.orphans(t))

	observing := d.Open(t, tenancy.Config{DangerouslyObserve: func(context.Context, tenancy.Refusal) {}})
	newer := start(t, "new", func(n int64, code string) error { return newVersion(observing, n, code) })
	newer.works(t)
	d.to(t, rls.StageShadow)
	old.works(t)
	newer.works(t)
	old.report(t, "shadow")
	newer.report(t, "shadow")
	require.Zero(t, d.orphans(t))
	newer.end()
	newer.succeeds(t)

	strict := d.Open(t, tenancy.Config{})
	newWork := func(n int64, code string) error { return newVersion(strict, n, code) }
	newer = start(t, "new", newWork)
	newer.works(t)
	old.works(t)
	d.to(t, rls.StageEnforce)
	newer.works(t)
	old.ended.Wait()
	old.report(t, "enforce")
	newer.report(t, "enforce")
	var refused *pgconn.PgError
	require.ErrorAs(t, errors.Join(*old.failed.Load()), &refused)
	require.Equal(t, "42501", refused.Code)

	back(t, d, newer, oldDB)
}

// back takes the steps back while the new version writes.
func back(t *testing.T, d database, newer *version, oldDB *gorm.DB) {
	t.Helper()
	d.to(t, rls.StageShadow)
	old := start(t, "old", func(n int64, code string) error { return oldVersion(oldDB, n, code) })
	old.works(t)
	newer.works(t)
	newer.report(t, "back to shadow")
	d.to(t, rls.StageObserve)
	old.works(t)
	old.report(t, "back to observe")
	old.end()
	old.succeeds(t)
	newer.end()
	require.Zero(t, d.orphans(t))
}
