package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// noConnector is for pools that are only asked about their limit.
type noConnector struct{}

func (noConnector) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("no server") }
func (noConnector) Driver() driver.Driver                        { return nil }

func newShare(t *testing.T, limit, each int) *Share {
	t.Helper()
	pool := sql.OpenDB(noConnector{})
	pool.SetMaxOpenConns(limit)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return NewShare(pool, each)
}

// soon returns a context for statements that need not wait.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// queue has a statement of a tenant wait, and returns when it does. The channel gets the outcome.
func (s *Share) queue(ctx context.Context, tenant string) <-chan error {
	s.mu.Lock()
	before := s.waiting()
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- s.acquire(ctx, tenant) }()
	for {
		s.mu.Lock()
		now := s.waiting()
		s.mu.Unlock()
		if now > before || len(done) > 0 { // which the test will notice
			return done
		}
	}
}

// outcome waits for the outcome of a statement in the queue.
func outcome(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		require.FailNow(t, "the statement still waits")
		return nil
	}
}

func (s *Share) waiting() (n int) {
	for _, t := range s.tenants {
		n += len(t.waiting)
	}
	return n
}

func TestShareBoundsEachTenant(t *testing.T) {
	s, ctx := newShare(t, 0, 2), soon(t)
	require.NoError(t, s.acquire(ctx, "acme"))
	require.NoError(t, s.acquire(ctx, "acme"))
	third := s.queue(ctx, "acme")
	require.NoError(t, s.acquire(ctx, "globex"))
	for range 5 {
		require.NoError(t, s.acquire(ctx, ""), "statements without a tenant have no bound")
	}
	s.release("globex")
	require.Empty(t, third, "a connection of another tenant is not acme's")
	s.release("acme")
	require.NoError(t, outcome(t, third))

	s.release("acme")
	s.release("acme")
	for range 5 {
		s.release("")
	}
	require.Empty(t, s.tenants, "who has left takes no memory")
	require.Empty(t, s.turns)
	require.Zero(t, s.inUse)
}

// TestShareTakesTurns: a tenant with one statement does not wait behind all of another's.
func TestShareTakesTurns(t *testing.T) {
	s, ctx := newShare(t, 2, 2), soon(t)
	require.NoError(t, s.acquire(ctx, "huge"))
	require.NoError(t, s.acquire(ctx, "huge"))
	var huge []<-chan error
	for range 8 {
		huge = append(huge, s.queue(ctx, "huge"))
	}
	small, tiny := s.queue(ctx, "small"), s.queue(ctx, "tiny")
	s.release("huge")
	require.NoError(t, outcome(t, small))
	s.release("small")
	require.NoError(t, outcome(t, tiny))
	require.Empty(t, huge[0])
	s.release("tiny")
	require.NoError(t, outcome(t, huge[0]), "the rest in the order in which they came")
	require.Empty(t, huge[1])
	s.release("huge")
	require.NoError(t, outcome(t, huge[1]))
}

func TestShareLetsCancelledStatementsGo(t *testing.T) {
	s := newShare(t, 2, 2)
	require.NoError(t, s.acquire(t.Context(), "acme"))
	require.NoError(t, s.acquire(t.Context(), "acme"))
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := s.queue(ctx, "acme")
	next, other := s.queue(t.Context(), "acme"), s.queue(t.Context(), "globex")
	cancel()
	require.ErrorIs(t, outcome(t, cancelled), context.Canceled)
	s.release("acme")
	require.NoError(t, outcome(t, other))
	s.release("globex")
	require.NoError(t, outcome(t, next))
	s.release("acme")
	s.release("acme")
	require.Empty(t, s.tenants)
	require.Zero(t, s.inUse)

	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // granted at once, or not at all: nothing is lost in between
		if s.acquire(over, "acme") == nil {
			s.release("acme")
		}
	}
	require.Zero(t, s.inUse)
}

// TestShareFollowsLimit: the pool's limit can change at any time.
func TestShareFollowsLimit(t *testing.T) {
	s, ctx := newShare(t, 1, 2), soon(t)
	require.NoError(t, s.acquire(ctx, "acme"))
	waits := s.queue(ctx, "globex")
	s.inner.SetMaxOpenConns(3)
	require.NoError(t, s.acquire(ctx, "initech"), "which lets the one before it go first")
	require.NoError(t, outcome(t, waits))
}
