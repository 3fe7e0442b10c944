package limit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// buckets are token buckets by name, of one Rate. Their number is bounded.
//
// A bucket that is not used fills up again within the Rate's window, and a full bucket is as good as none. So there are two maps: what is used
// moves to the young one, and when a window is over, the old one is dropped and the young one becomes old. Nothing is lost by that, and no
// sweep takes time.
type buckets struct {
	rate Rate
	max  int // of each of the two maps

	mu         sync.Mutex
	since      time.Time // when young became young
	young, old map[string]*rate.Limiter
	rest       *rate.Limiter
}

func newBuckets(r Rate, limit int) *buckets {
	return &buckets{rate: r, max: limit, young: map[string]*rate.Limiter{}, rest: r.bucket()}
}

// of returns the bucket of a name. Names beyond the maximum share one, until a window is over: they are limited more, not less.
func (b *buckets) of(name string, now time.Time) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= b.rate.window() {
		if now.Sub(b.since) >= 2*b.rate.window() {
			b.young = map[string]*rate.Limiter{}
		}
		b.old, b.young, b.since = b.young, map[string]*rate.Limiter{}, now
	}
	if bucket, ok := b.young[name]; ok {
		return bucket
	}
	if len(b.young) >= b.max {
		if bucket, ok := b.old[name]; ok {
			return bucket
		}
		return b.rest
	}
	bucket, ok := b.old[name]
	if ok {
		delete(b.old, name)
	} else {
		bucket = b.rate.bucket()
	}
	b.young[name] = bucket
	return bucket
}
