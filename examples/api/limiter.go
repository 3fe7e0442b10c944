package main

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	attempts      = 5 // to log in as one user, within
	attemptWindow = time.Minute
)

// limiter limits the attempts to log in as a user. Its size is fixed, so that many names cannot fill the memory. Names that
// share a place share its attempts.
type limiter struct {
	seed maphash.Seed
	now  func() time.Time

	mu     sync.Mutex
	places [1 << 14]struct {
		since time.Time
		tries int
	}
}

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed(), now: time.Now} }

// try counts an attempt, and reports whether it is allowed.
func (l *limiter) try(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	place := &l.places[l.place(name)]
	if now := l.now(); now.Sub(place.since) >= attemptWindow {
		place.since, place.tries = now, 0
	}
	place.tries++
	return place.tries <= attempts
}

// succeeded resets the attempts.
func (l *limiter) succeeded(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places[l.place(name)].tries = 0
}

func (l *limiter) place(name string) uint64 {
	return maphash.String(l.seed, name) % uint64(len(l.places))
}
