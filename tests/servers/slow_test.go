package servers

import (
	"context"
	"errors"
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
	release chan struct{}
	down    atomic.Bool // connections that are released fail
}

var errDown = errors.New("the server is down")

func newSlow(t *testing.T) *slow {
	t.Helper()
	s := &slow{fixture: newFixture(t, nil), release: make(chan struct{})}
	config, err := pgx.ParseConfig(s.databases[1].App.DSN)
	require.NoError(t, err)
	pool := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(func(ctx context.Context, _ *pgx.ConnConfig) error {
		s.asked.Add(1)
		select {
		case <-s.release:
			if s.down.Load() {
				return errDown
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	s.pools[1] = pool
	return s
}

// find sends a statement of the tenant, and returns how it ends.
func (s *slow) find(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- s.db.WithContext(ctx).Find(&[]Note{}).Error }()
	return ended
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
	require.ErrorIs(t, s.db.WithContext(impatient).Find(&[]Note{}).Error, context.DeadlineExceeded)
	cancelled, cancel := context.WithCancel(as(acme))
	cancel()
	require.ErrorIs(t, s.db.WithContext(cancelled).Create(&Note{}).Error, context.Canceled)
	require.NoError(t, s.db.WithContext(as(globex)).Find(&[]Note{}).Error)
	require.NoError(t, s.db.WithContext(as("initech")).Find(&[]Note{}).Error)
	require.EqualValues(t, 1, s.asked.Load(), "one statement asks")

	waiting := s.find(as(acme))
	close(s.release)
	require.NoError(t, <-first)
	require.NoError(t, <-waiting)
}

// TestSlowServerIsAskedAgain when the statement that asked is cancelled: those that wait do not fail with its error.
func TestSlowServerIsAskedAgain(t *testing.T) {
	s := newSlow(t)
	ctx, cancel := context.WithCancel(as(acme))
	first := s.find(ctx)
	s.begun(t, 1)
	waiting := s.find(as(acme))
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	s.begun(t, 2)
	close(s.release)
	require.NoError(t, <-waiting)
}

// TestSlowServerFailsThoseThatWait, all by one question, and not those that come later.
func TestSlowServerFailsThoseThatWait(t *testing.T) {
	s := newSlow(t)
	s.down.Store(true)
	first := s.find(as(acme))
	s.begun(t, 1)
	waiting := make([]<-chan error, 20)
	for n := range waiting {
		waiting[n] = s.find(as(acme))
	}
	close(s.release)
	require.ErrorIs(t, <-first, errDown)
	for _, ended := range waiting {
		require.ErrorIs(t, <-ended, errDown)
	}
	s.down.Store(false)
	require.NoError(t, s.db.WithContext(as(acme)).Find(&[]Note{}).Error)
}
