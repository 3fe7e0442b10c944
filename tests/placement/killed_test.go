package placement

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// killedMove names, in the environment, what a child of the test does until it kills itself.
const killedMove = "TENANCY_TEST_KILLED_MOVE"

// job is what a child does, as JSON.
type job struct {
	Owners map[string]string // DSNs by server
	Kill   placement.Step    // empty: within the erasure of old rows
}

// killed does a job, and returns only if it was not killed.
func killed(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return 3
	}
	m := placement.Mover{Servers: map[string]*sql.DB{}, Default: "first", TTL: ttl, Grace: 1, Actor: "a child", Logger: testdb.Quiet}
	for name, dsn := range j.Owners {
		pool, err := sql.Open("pgx", dsn)
		if err != nil {
			return 4
		}
		m.Servers[name] = pool
	}
	m.Catalog = m.Servers["first"]
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }
	var err error
	if j.Kill == "" {
		m.Progress = func(p lifecycle.Progress) {
			if p.Operation == lifecycle.OpErase && p.Done > 0 && p.Total == p.Done && p.Table == "public.letters" {
				die()
			}
		}
		_, err = m.EraseOld(context.Background(), acme)
	} else {
		m.OnStep = func(s placement.Step) error {
			if s == j.Kill {
				die()
			}
			return nil
		}
		_, err = m.Move(context.Background(), acme, "second")
	}
	fmt.Fprintln(os.Stderr, err)
	return 5
}

// kill has a child killed.
func (f *fixture) kill(t *testing.T, at placement.Step) {
	t.Helper()
	j := job{Owners: map[string]string{}, Kill: at}
	for n, d := range f.databases {
		j.Owners[names[n]] = d.Owner.DSN
	}
	text, err := json.Marshal(j)
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), killedMove+"="+string(text))
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), string(out))
}

var beforeSwitch = []placement.Step{
	placement.StepCheck, placement.StepCopy, placement.StepStop, placement.StepWait, placement.StepVerify, placement.StepSwitch,
}

// retried runs a step again while locks of a killed process are still held.
func retried[T any](t *testing.T, do func() (T, error)) (result T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		result, err = do()
		if err != nil {
			require.ErrorIs(t, err, lifecycle.ErrBusy)
		}
		return err == nil
	}, waitFor, pollEvery)
	return result
}

// TestKilledMoveIsResumed: wherever a process is killed, the tenant works or is locked out, and the next run goes on.
func TestKilledMoveIsResumed(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 20)
	for _, step := range beforeSwitch {
		f.kill(t, step)
		locked := step == placement.StepWait || step == placement.StepVerify || step == placement.StepSwitch
		if !locked {
			require.NoError(t, f.as(acme).Create(&Person{Name: "after " + string(step)}).Error)
			require.Equal(t, "first", f.at(t, acme))
			continue
		}
		f.places.Invalidate(acme)
		require.ErrorIs(t, f.as(acme).Create(&Person{}).Error, placement.ErrMoving)
		retried(t, func() (lifecycle.Report, error) { return f.mover().BackOut(t.Context(), acme) })
		require.Equal(t, placement.Placed, f.state(t, acme).State)
		counts, _ := f.rows(t, acme)
		require.Zero(t, counts[1], "the copy is erased")
		require.NoError(t, f.as(acme).Create(&Person{Name: "after " + string(step)}).Error)
	}
	f.kill(t, placement.StepVerify)
	_, sums := f.rows(t, acme)
	report := retried(t, func() (placement.Report, error) { return f.mover().Move(t.Context(), acme, "second") })
	require.Zero(t, report.Live[0].Differences(), "what was copied is not copied again")
	_, moved := f.rows(t, acme)
	require.Equal(t, sums[0], moved[1])

	f.kill(t, "")
	require.Equal(t, placement.Erasing, f.state(t, acme).State)
	retried(t, func() (lifecycle.Report, error) { return f.mover().EraseOld(t.Context(), acme) })
	counts, after := f.rows(t, acme)
	require.Zero(t, counts[0])
	require.Equal(t, moved[1], after[1])
	require.Equal(t, placement.Placed, f.state(t, acme).State)
}

func TestFailedMoveLeavesTenantAtSource(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 5)
	for _, cancelled := range []bool{false, true} {
		for _, step := range beforeSwitch {
			ctx, cancel := context.WithCancel(t.Context())
			failure := errors.New("made to fail")
			m := f.mover()
			m.OnStep = func(s placement.Step) error {
				switch {
				case s != step:
				case cancelled:
					cancel()
				default:
					return failure
				}
				return nil
			}
			_, err := m.Move(ctx, acme, "second")
			cancel()
			if cancelled {
				require.ErrorIs(t, err, context.Canceled, step)
			} else {
				require.ErrorIs(t, err, failure, step)
			}
			require.NotEqual(t, placement.Moving, f.state(t, acme).State, step)
			f.places.Invalidate(acme)
			require.NoError(t, f.as(acme).Create(&Person{Name: "after " + string(step)}).Error)
			require.Equal(t, "first", f.at(t, acme))
		}
	}
	_, sums := f.rows(t, acme)
	retried(t, func() (placement.Report, error) { return f.mover().Move(t.Context(), acme, "second") })
	_, moved := f.rows(t, acme)
	require.Equal(t, sums[0], moved[1])
}
