package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tests/wire"
)

// deadline is soon, but long enough for a machine that is busy to get to the place where it is to strike.
const deadline = 300 * time.Millisecond

// find returns an operation by its name.
func find(t *testing.T, name string) operation {
	t.Helper()
	for _, op := range operations {
		if op.name == name {
			return op
		}
	}
	t.Fatalf("no operation %q", name)
	return operation{}
}

// TestConnectionHalfOpen lets the network fall silent at the first and the last message of each side. Neither side is told: the
// deadline ends the wait.
func TestConnectionHalfOpen(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:2] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			for _, name := range []string{"Find", "Raw", "Transaction"} {
				op := find(t, name)
				clean := f.clean(t, op)
				for side := range clean {
					for _, n := range []int{0, len(clean[side]) - 1} {
						for d := deadline; !f.silence(t, op, clean, wire.Side(side), n, d); d *= 2 {
							require.Less(t, d, patience)
						}
					}
				}
			}
		})
	}
}

// silence runs an operation of acme until the network falls silent at a message, and then until the deadline. It returns
// false if a busy machine did not get that far.
func (f *fixture) silence(t *testing.T, op operation, clean [2][]byte, side wire.Side, n int, d time.Duration) bool {
	t.Helper()
	f.check(t, op, globex)
	mark := f.mark()
	ctx, cancel := context.WithTimeout(as(acme), d)
	defer cancel()
	pid := f.injector.arm(at(side, n, before, wire.FallSilent))
	notes, err := op.run(ctx, f, mark)
	seen, fired := f.injector.disarm()
	require.Error(t, err)
	if notes != nil {
		checkNotes(t, acme, notes, err)
	}
	f.proxy.CutAll() // at last
	f.gone(t, pid)
	if !fired {
		f.applied(t, acme, mark)
		f.recovered(t, false)
		return false
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	committed := len(seen[wire.Client]) >= work(clean[wire.Client])
	f.settle(t, "half-open connection", op, mark, committed, err)
	f.recovered(t, true)
	return true
}

// TestConnectionHalfOpenInRollback: a rollback has no deadline of its caller's, and gives up all the same.
func TestConnectionHalfOpenInRollback(t *testing.T) {
	t.Parallel()
	f := newFixture(t, way{})
	mark := f.mark()
	tx := f.db.WithContext(as(acme)).Begin()
	require.NoError(t, tx.Create(&Note{Body: mark}).Error)
	pid := f.injector.arm(at(wire.Client, 0, before, wire.FallSilent))
	err := tx.Rollback().Error
	_, fired := f.injector.disarm()
	require.True(t, fired)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	f.proxy.CutAll()
	f.gone(t, pid)
	f.settle(t, "half-open connection at a rollback", find(t, "Create"), mark, false, err)
	f.recovered(t, true)
}

// TestNetworkDeliversByteByByte delivers everything in pieces of one byte.
func TestNetworkDeliversByteByByte(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			trickle := func(wire.Side, int, []byte) wire.Fate { return wire.Trickle(time.Nanosecond) }
			for _, op := range operations {
				for range 2 { // described, and known
					f.injector.always(trickle)
					mark := f.mark()
					notes, err := op.run(as(acme), f, mark)
					f.injector.disarm()
					require.NoError(t, err)
					if notes != nil {
						checkNotes(t, acme, notes, nil)
					}
					f.settle(t, "slow network, byte by byte", op, mark, true, err)
				}
			}
			f.recovered(t, true)
		})
	}
}

// TestSlowNetworkMeetsDeadline: the deadline comes in the middle of a message, in either direction.
func TestSlowNetworkMeetsDeadline(t *testing.T) {
	t.Parallel()
	f := newFixture(t, way{})
	op := find(t, "Raw")
	for side := range 2 {
		f.check(t, op, globex)
		mark := f.mark()
		ctx, cancel := context.WithTimeout(as(acme), deadline)
		pid := f.injector.arm(at(wire.Side(side), 0, before, func(int) wire.Fate { return wire.Trickle(time.Minute) }))
		_, err := op.run(ctx, f, mark)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		f.proxy.CutAll()
		f.gone(t, pid)
		f.settle(t, "slow network, and a deadline", op, mark, side == int(wire.Server), err)
		f.recovered(t, true)
	}
}

// TestTransactionDoesNotGoOnAfterFault: a transaction whose connection is cut between two statements fails with each statement that follows, and
// does not commit.
func TestTransactionDoesNotGoOnAfterFault(t *testing.T) {
	t.Parallel()
	for _, way := range ways[:4] {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, way)
			for _, first := range []bool{false, true} { // the cut meets the transaction's first statement, or its second
				mark := f.mark()
				tx := f.db.WithContext(as(acme)).Begin()
				require.NoError(t, tx.Error)
				if !first {
					require.NoError(t, tx.Create(&Note{Body: mark}).Error)
				}
				f.proxy.CutAll()
				var notes []Note
				for n := range 3 {
					err := tx.Session(&gorm.Session{}).Where(seedsLike, "seed%").Find(&notes).Error
					if first && n == 0 && err == nil { // it had no connection yet, and found one that works
						checkNotes(t, acme, notes, nil)
						require.NoError(t, tx.Create(&Note{Body: mark}).Error)
						break
					}
					requireReadable(t, err)
					require.Empty(t, notes)
					requireReadable(t, tx.Session(&gorm.Session{}).Create(&Note{Body: mark}).Error)
				}
				err := tx.Commit().Error
				if len(notes) == 0 {
					require.Error(t, err, "what is lost can't be committed")
				}
				f.settle(t, "cut in a transaction that goes on", find(t, "Create"), mark, false, err)
				f.recovered(t, true)
			}
		})
	}
}
