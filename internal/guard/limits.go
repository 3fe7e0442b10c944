package guard

import (
	"database/sql"
	"sync"

	"github.com/gormtenancy/tenancy/internal/private"
)

// sharedLimits keeps the limits of a borrowing pool (outer) and of the pool that it borrows from (inner) equal. A limit that is
// set on one of them is set on the other when a connection is made, borrowed or closed next.
type sharedLimits struct {
	mu               sync.Mutex
	outer, inner     *sql.DB
	inOuter, inInner *private.Fields
	ofOuter, ofInner private.Limits // the limits that were set last
	unbounded        bool           // outer has no limit of connections, because its users wait in a Share, or for another server
}

// shareLimits gives outer the limits of inner. It returns nil if the fields of this version of database/sql are not known. If unbounded,
// outer has no limit of connections, and one that is set on it becomes that of inner: its connections are empty while they wait.
func shareLimits(outer, inner *sql.DB, unbounded bool) *sharedLimits {
	s := &sharedLimits{outer: outer, inner: inner, inOuter: private.FieldsOf(outer), inInner: private.FieldsOf(inner), unbounded: unbounded}
	if s.inOuter == nil || s.inInner == nil {
		return nil
	}
	outer.SetMaxIdleConns(maxEmpty)
	s.ofInner = s.inInner.Limits()
	s.give(s.ofInner)
	return s
}

// give sets limits on both pools. An inner pool above a pool of pgx's keeps nothing idle. The outer one does not copy that,
// because its empty connections cost less to keep than to make each time.
func (s *sharedLimits) give(want private.Limits) {
	outer, inner := s.inOuter.Limits(), s.inInner.Limits()
	ofOuter := want
	if ofOuter.Idle < 0 {
		ofOuter.Idle = outer.Idle
	}
	if s.unbounded {
		ofOuter.Open = 0
	}
	setLimits(s.outer, ofOuter, outer)
	setLimits(s.inner, want, inner)
	s.ofOuter, s.ofInner = s.inOuter.Limits(), s.inInner.Limits()
}

// equalize makes the limits equal again. It must not be called under the lock of a pool.
func (s *sharedLimits) equalize() {
	if s == nil || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	outer, inner := s.inOuter.Limits(), s.inInner.Limits()
	if outer == s.ofOuter && inner == s.ofInner {
		return
	}
	want := private.Limits{
		Open:     newer(outer.Open, s.ofOuter.Open, inner.Open),
		Idle:     newer(outer.Idle, s.ofOuter.Idle, inner.Idle),
		Lifetime: newer(outer.Lifetime, s.ofOuter.Lifetime, inner.Lifetime),
		IdleTime: newer(outer.IdleTime, s.ofOuter.IdleTime, inner.IdleTime),
	}
	if inner.Idle < 0 && outer.Open != s.ofOuter.Open && outer.Idle == outer.Open {
		want.Idle = inner.Idle // database/sql has lowered that of the outer pool together with its open connections
	}
	s.give(want)
}

// newer returns the limit of the outer pool if it was changed, and that of the inner one otherwise.
func newer[T comparable](outer, before, inner T) T {
	if outer != before {
		return outer
	}
	return inner
}

// setLimits sets on db the limits that differ from those it has.
func setLimits(db *sql.DB, want, has private.Limits) {
	const defaultIdle = 2
	if want.Open != has.Open {
		db.SetMaxOpenConns(want.Open)
	}
	if want.Idle != has.Idle {
		idle := want.Idle
		if idle == 0 {
			idle = defaultIdle
		}
		db.SetMaxIdleConns(idle)
	}
	if want.Lifetime != has.Lifetime {
		db.SetConnMaxLifetime(want.Lifetime)
	}
	if want.IdleTime != has.IdleTime {
		db.SetConnMaxIdleTime(want.IdleTime)
	}
}
