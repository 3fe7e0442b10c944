package placement

import (
	"testing"

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
