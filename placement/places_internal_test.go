package placement

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCacheIsBounded in tenants and in the length of ids, and forgets what is older than TTL.
func TestCacheIsBounded(t *testing.T) {
	now := time.Now()
	p := &Places{config: Config{TTL: time.Second}, now: func() time.Time { return now }, recent: map[string]answer{}, asked: map[string]*lookup{}}
	for n := range 3 * maxCached {
		p.keep(fmt.Sprint(n), answer{expires: now.Add(time.Second)})
		require.LessOrEqual(t, len(p.recent)+len(p.older), maxCached)
	}
	require.Greater(t, len(p.recent)+len(p.older), maxCached/4)
	last := fmt.Sprint(3*maxCached - 1)
	_, running := p.find(last)
	require.Nil(t, running, "the newest answers are kept")
	for range 2 {
		now = now.Add(2 * time.Second)
		p.keep("other", answer{expires: now.Add(time.Second)})
	}
	require.LessOrEqual(t, len(p.recent)+len(p.older), 2, "answers of the past are let go")
}

// TestPlaceRefusesAnswerThatGotOld: the question ends in time, and the statement that waits for it goes on later than that, for instance
// because the process was stopped. A move does not wait for it any longer.
func TestPlaceRefusesAnswerThatGotOld(t *testing.T) {
	now := time.Now()
	done, server := make(chan struct{}), &sql.DB{}
	close(done)
	p := &Places{now: func() time.Time { return now }, asked: map[string]*lookup{
		"acme": {done: done, answer: answer{server: server, expires: now.Add(time.Second)}},
	}}
	now = now.Add(time.Second - 1)
	found, err := p.Place(t.Context(), "acme")
	require.NoError(t, err)
	require.Same(t, server, found)
	now = now.Add(1)
	_, err = p.Place(t.Context(), "acme")
	require.ErrorIs(t, err, ErrCatalog)
}
