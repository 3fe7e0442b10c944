package rls_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// modes are the modes of locks, the weakest first, as pg_locks names them.
var modes = []string{"AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock", "ShareRowExclusiveLock",
	"ExclusiveLock", "AccessExclusiveLock"}

// mode is the name of a lock as pg_locks has it.
func mode(lock string) string {
	return strings.ReplaceAll(strings.ToLower(lock), " ", "") + "lock"
}

func TestPlanChangesNothing(t *testing.T) {
	for name, test := range olden {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			test.make(t, d)
			i := d.Isolation()
			i.Backfill = test.backfill
			sequences := "SELECT concat_ws(' ', sequencename, last_value) FROM pg_sequences ORDER BY 1"
			pool, err := d.OwnerDB.DB()
			require.NoError(t, err)
			before, numbers := d.snapshot(t), collect(t, pool, sequences)
			for _, concurrent := range []bool{false, true} {
				i.ConcurrentIndexes = concurrent
				plan, err := i.Plan(t.Context(), d.OwnerDB, test.models...)
				require.NoError(t, err)
				require.NotEmpty(t, plan.Steps)
				require.Equal(t, concurrent, plan.InSteps)
			}
			require.Equal(t, before, d.snapshot(t))
			require.Equal(t, numbers, collect(t, pool, sequences))
			i.ConcurrentIndexes = false
			d.migrateWith(t, i, test.models...)
			plan, err := i.Plan(t.Context(), d.OwnerDB, test.models...)
			require.NoError(t, err)
			require.Empty(t, plan.Steps, "nothing is left to do:\n%s", plan)
		})
	}
}

// TestPlanTakesNoStrongLock plans while others have locked the tables as strongly as lets readers through.
func TestPlanTakesNoStrongLock(t *testing.T) {
	d := newDatabase(t)
	d.oldDepots(t)
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	_, err = tx.Exec("LOCK TABLE depots, parcels, labels IN EXCLUSIVE MODE")
	require.NoError(t, err)
	plan, err := d.depots().Plan(t.Context(), testdb.OpenPlain(t, d.Owner.DSN+"&lock_timeout=1"), depots...)
	require.NoError(t, err)
	require.True(t, plan.InSteps)
}

// TestPlanNamesLocks runs each statement of the plan, and looks at the locks that PostgreSQL has taken.
func TestPlanNamesLocks(t *testing.T) {
	d := newDatabase(t)
	d.oldDepots(t)
	d.AsOwner(t, "ANALYZE depots, parcels, labels")
	plan, err := d.depots().Plan(t.Context(), d.OwnerDB, depots...)
	require.NoError(t, err)
	require.Contains(t, plan.String(), "fill: public.parcels: give each row the tenant of its row of public.depots (ROW EXCLUSIVE, reads the table of about 20000 rows)\n")
	require.Contains(t, plan.String(), "validate: public.parcels: require tenant_id (SHARE UPDATE EXCLUSIVE, reads the table of about 20000 rows)\n")
	require.Contains(t, plan.String(), "rest: public.parcels: require tenant_id (ACCESS EXCLUSIVE)\n")
	for _, step := range plan.Steps {
		held := d.locksOf(t, step)
		require.LessOrEqual(t, strength(held), strength(mode(step.Lock)), "%s: %s", step, held)
		if step.Lock != "ACCESS SHARE" && !strings.Contains(step.SQL, "CONCURRENTLY") && !strings.HasPrefix(step.SQL, "ALTER INDEX") {
			require.Equal(t, mode(step.Lock), strings.ToLower(held), step.String())
		}
		if step.Lock == "ACCESS EXCLUSIVE" || step.Lock == "SHARE" {
			require.False(t, step.Reads, "it keeps others from the table while it reads it: %s", step)
		}
	}
	require.Empty(t, d.migrateWith(t, d.depots(), depots...), "the steps are all of Migrate")
}

func strength(lock string) int {
	return slices.IndexFunc(modes, func(m string) bool { return strings.EqualFold(m, lock) })
}

// locksOf runs a step, and returns the strongest lock on its table.
func (d database) locksOf(t *testing.T, step rls.Step) (held string) {
	t.Helper()
	if strings.Contains(step.SQL, "CONCURRENTLY") {
		d.AsOwner(t, step.SQL)
		return modes[0]
	}
	require.NoError(t, d.OwnerDB.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec(step.SQL).Error; err != nil {
			return err
		}
		var all []string
		err := tx.Raw("SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = ?::regclass", step.Table).Scan(&all).Error
		for _, lock := range all {
			if held == "" || strength(lock) > strength(held) {
				held = lock
			}
		}
		return err
	}), step.SQL)
	return held
}
