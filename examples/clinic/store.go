package main

import (
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
)

// store keeps sessions in memory; several servers would need a database. It never restores a session that has ended: scs
// writes the session at the end of each request, so a slow request that began before a logout would otherwise restore it.
type store struct {
	mu       sync.Mutex
	sessions map[string]kept
	swept    time.Time
}

type kept struct {
	data   []byte // nil once the session was ended
	expiry time.Time
}

var _ scs.Store = (*store)(nil)

func newStore() *store { return &store{sessions: map[string]kept{}, swept: time.Now()} }

// Find returns a session that is neither ended nor expired.
func (s *store) Find(token string) (data []byte, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.sessions[token]
	if k.data == nil || time.Now().After(k.expiry) {
		return nil, false, nil
	}
	return k.data, true, nil
}

// Commit writes a session, unless it was ended.
func (s *store) Commit(token string, data []byte, expiry time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	if k, known := s.sessions[token]; !known || k.data != nil {
		s.sessions[token] = kept{data, expiry}
	}
	return nil
}

// Delete ends a session. Its token is remembered until no request that uses it can still run.
func (s *store) Delete(token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[token] = kept{expiry: time.Now().Add(sessionLifetime)}
	return nil
}

// sweep forgets what has expired, once a minute.
func (s *store) sweep() {
	now := time.Now()
	if now.Sub(s.swept) < time.Minute {
		return
	}
	s.swept = now
	for token, k := range s.sessions {
		if now.After(k.expiry) {
			delete(s.sessions, token)
		}
	}
}
