package placement

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/placement"
)

func TestMoveBringsAllRows(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 30)
	f.signUp(t, globex, 10)
	before, sums := f.rows(t, acme)
	others, otherSums := f.rows(t, globex)
	require.Equal(t, "first", f.at(t, acme))

	var steps []placement.Step
	m := f.mover()
	m.OnStep = func(s placement.Step) error { steps = append(steps, s); return nil }
	report, err := m.Move(t.Context(), acme, "second")
	require.NoError(t, err)
	require.Equal(t, []placement.Step{
		placement.StepCheck, placement.StepCopy, placement.StepStop, placement.StepWait, placement.StepVerify, placement.StepSwitch, placement.StepDone,
	}, steps)
	require.EqualValues(t, before[0], report.Rows)
	require.EqualValues(t, before[0], report.Live[0].Inserted)
	require.Positive(t, report.Stop)
	require.Equal(t, placement.Moved, f.state(t, acme).State)
	require.Equal(t, "second", f.at(t, acme))
	counts, after := f.rows(t, acme)
	require.Equal(t, [3]int{before[0], before[0], 0}, counts, "the old rows stay until they are erased")
	require.Equal(t, sums[0], after[1])

	_, err = m.Move(t.Context(), acme, "third")
	require.ErrorIs(t, err, placement.ErrState, "the old rows are not erased")
	_, err = m.EraseOld(t.Context(), acme)
	require.NoError(t, err)
	counts, after = f.rows(t, acme)
	require.Equal(t, [3]int{0, before[0], 0}, counts)
	require.Equal(t, sums[0], after[1])
	require.Equal(t, placement.Placed, f.state(t, acme).State)

	require.NoError(t, f.as(acme).Create(&Person{Name: "at the target"}).Error)
	_, err = m.Move(t.Context(), acme, "first")
	require.NoError(t, err, "and back")
	_, err = m.EraseOld(t.Context(), acme)
	require.NoError(t, err)
	counts, _ = f.rows(t, acme)
	require.Equal(t, [3]int{before[0] + 1, 0, 0}, counts)

	counts, after = f.rows(t, globex)
	require.Equal(t, others, counts)
	require.Equal(t, otherSums, after)
}

// TestMoveWaitsForCaches: no application answers from its cache any more when the last pass begins.
func TestMoveWaitsForCaches(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 1)
	m := f.mover()
	var stopped time.Time
	m.OnStep = func(s placement.Step) error {
		switch s {
		case placement.StepStop:
			stopped = time.Now()
		case placement.StepVerify:
			const margin = 250 * time.Millisecond // docs/scale.md names it
			require.GreaterOrEqual(t, time.Since(stopped), ttl+margin)
		}
		return nil
	}
	_, err := m.Move(t.Context(), acme, "second")
	require.NoError(t, err)

	m.OnStep, m.Grace = nil, time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = m.EraseOld(ctx, acme)
	require.ErrorIs(t, err, context.DeadlineExceeded, "old rows stay for the time of Grace")
	counts, _ := f.rows(t, acme)
	require.Equal(t, counts[1], counts[0])
}

// TestMoveOfAnotherRunIsLeftAlone: a run whose placement another one has taken over changes it no more, whatever its state.
func TestMoveOfAnotherRunIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 1)
	for _, step := range []placement.Step{placement.StepStop, placement.StepSwitch} {
		m := f.mover()
		m.OnStep = func(s placement.Step) error {
			if s == step {
				f.takeOver(t)
			}
			return nil
		}
		_, err := m.Move(t.Context(), acme, "second")
		f.isAnothers(t, err)
	}

	lock, err := f.owners["second"].BeginTx(t.Context(), nil) // between the placement being read and the run's beginning
	require.NoError(t, err)
	defer func() { _ = lock.Rollback() }()
	_, err = lock.ExecContext(t.Context(), `LOCK TABLE people IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	f.databases[0].AsOwner(t, `UPDATE tenant_placements SET run = 'one', state = 'copying'`)
	done := make(chan error, 1)
	go func() { _, err := f.mover().Move(context.Background(), acme, "second"); done <- err }()
	require.Eventually(t, func() bool {
		var waits bool
		return lock.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'people'::regclass AND NOT granted)`).Scan(&waits) == nil && waits
	}, waitFor, pollEvery)
	f.takeOver(t)
	require.NoError(t, lock.Rollback())
	f.isAnothers(t, <-done)
}

// takeOver has another run take over the placement of acme, in whatever state it is.
func (f *fixture) takeOver(t *testing.T) {
	t.Helper()
	f.databases[0].AsOwner(t, `UPDATE tenant_placements SET run = 'another'`)
}

func (f *fixture) isAnothers(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, placement.ErrState)
	p := f.state(t, acme)
	require.Equal(t, "another", p.Run)
	require.Equal(t, "first", p.Server)
}
