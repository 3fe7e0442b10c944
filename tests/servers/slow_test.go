package servers

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
)

// slow is a second server that does not answer until it is released.
type slow struct {
	*fixture
	asked   atomic.Int64 // connections that were begun
	held    chan struct{}
	release func()
	down    atomic.Bool // connections that are released fail
}

var errDown = errors.New("the server is down")

func newSlow(t *testing.T) *slow {
	t.Helper()
	s := &slow{fixture: newFixture(t, nil), held: make(chan struct{})}
	s.release = sync.OnceFunc(func() { close(s.held) })
	config, err := pgx.ParseConfig(s.databases[1].App.DSN)
	require.NoError(t, err)
	pool := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(func(ctx context.Context, _ *pgx.ConnConfig) error {
		s.asked.Add(1)
		select {
		case <-s.held:
			if s.down.Load() {
				return errDown
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	t.Cleanup(func() {
		s.release()
		require.NoError(t, pool.Close())
	})
	s.pools[1] = pool
	return s
}

// find sends a statement of the tenant, and returns how it ends.
func (s *slow) find(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- s.db.WithContext(ctx).Find(&[]Note{}).Error }()
	return ended
}

// result returns how a statement ends, which must not take long.
func result(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the statement waits")
		return nil
	}
}

// waiting waits until n statements ask, or wait for the one that asks.
func waiting(t *testing.T, n int) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	require.Eventually(t, func() bool {
		return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("tenancy.(*Plugin).verifyServer(")) == n
	}, time.Minute, time.Millisecond)
}

// begun waits until the server was asked n times.
func (s *slow) begun(t *testing.T, n int64) {
	t.Helper()
	require.Eventually(t, func() bool { return s.asked.Load() == n }, time.Minute, time.Millisecond)
}

// TestSlowServerHoldsUpNoOther: a statement whose context ends does not wait for the one that asks the server, and the statements of other
// servers' tenants do not wait at all.
func TestSlowServerHoldsUpNoOther(t *testing.T) {
	s := newSlow(t)
	first := s.find(as(acme))
	s.begun(t, 1)

	impatient, cancel := context.WithTimeout(as(acme), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, result(t, s.find(impatient)), context.DeadlineExceeded)
	cancelled, cancel := context.WithCancel(as(acme))
	cancel()
	require.ErrorIs(t, result(t, s.find(cancelled)), context.Canceled)
	require.NoError(t, result(t, s.find(as(globex))))
	require.NoError(t, result(t, s.find(as("initech"))))
	require.EqualValues(t, 1, s.asked.Load(), "one statement asks")

	second := s.find(as(acme))
	waiting(t, 2)
	s.release()
	require.NoError(t, result(t, first))
	require.NoError(t, result(t, second))
}

// TestSlowServerIsAskedAgain when the statement that asked is cancelled: those that wait do not fail with its error.
func TestSlowServerIsAskedAgain(t *testing.T) {
	s := newSlow(t)
	ctx, cancel := context.WithCancel(as(acme))
	first := s.find(ctx)
	s.begun(t, 1)
	second := s.find(as(acme))
	waiting(t, 2)
	cancel()
	require.ErrorIs(t, result(t, first), context.Canceled)
	s.release()
	require.NoError(t, result(t, second))
}

// TestSlowServerFailsThoseThatWait, all by one question, and not those that come later.
func TestSlowServerFailsThoseThatWait(t *testing.T) {
	s := newSlow(t)
	s.down.Store(true)
	first := s.find(as(acme))
	s.begun(t, 1)
	others := make([]<-chan error, 20)
	for n := range others {
		others[n] = s.find(as(acme))
	}
	waiting(t, 1+len(others))
	s.release()
	require.ErrorIs(t, result(t, first), errDown)
	for _, ended := range others {
		require.ErrorIs(t, result(t, ended), errDown)
	}
	require.EqualValues(t, 1, s.asked.Load(), "one question")
	s.down.Store(false)
	require.NoError(t, s.db.WithContext(as(acme)).Find(&[]Note{}).Error)
}
