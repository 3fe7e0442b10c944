package placement

import (
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
