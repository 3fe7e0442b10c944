package guard

import (
	"context"
	"database/sql"
	"sync"
)

// Share bounds how many connections of one pool a tenant may use at a time. The statements of a tenant that uses as many wait in a queue
// of its own. When all connections of the pool are in use, tenants take turns: the next connection goes to the tenant whose turn is longest
// ago, and not to the one with the most statements.
type Share struct {
	each  int     // connections of one tenant
	inner *sql.DB // whose limit is that of all tenants together

	mu      sync.Mutex
	inUse   int
	tenants map[string]*tenantShare // those that use or want a connection
	turns   []*tenantShare          // those whose statements wait, and who may have another connection; the next one first
}

// tenantShare is what one tenant uses.
type tenantShare struct {
	tenant  string
	inUse   int
	waiting []chan struct{} // closed when a connection may be taken; the longest first
	turn    bool            // in Share.turns
}

// NewShare returns the bound for a pool: each tenant may use that many of its connections at a time.
func NewShare(inner *sql.DB, each int) *Share {
	return &Share{each: each, inner: inner, tenants: map[string]*tenantShare{}}
}

// acquire waits until the tenant may use another connection, or until ctx ends. Each success needs a release.
func (s *Share) acquire(ctx context.Context, tenant string) error {
	s.mu.Lock()
	t := s.tenants[tenant]
	if t == nil {
		t = &tenantShare{tenant: tenant}
		s.tenants[tenant] = t
	}
	ready := make(chan struct{})
	t.waiting = append(t.waiting, ready)
	s.offer(t)
	s.grant()
	s.mu.Unlock()

	select {
	case <-ready:
		return nil
	default:
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		s.leave(t, ready)
		return ctx.Err()
	}
}

// leave takes a statement out of the queue. If it was granted a connection in the meantime, another gets that.
func (s *Share) leave(t *tenantShare, ready chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, r := range t.waiting {
		if r == ready {
			t.waiting = append(t.waiting[:n], t.waiting[n+1:]...)
			s.forget(t)
			return
		}
	}
	s.free(t)
}

// release gives back what acquire has granted.
func (s *Share) release(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(s.tenants[tenant])
}

func (s *Share) free(t *tenantShare) {
	t.inUse--
	s.inUse--
	s.offer(t)
	s.grant()
	s.forget(t)
}

// offer gives a tenant a turn if it has a statement that waits only for one. Statements without a tenant, which find the tenants of all
// requests, have no bound of their own.
func (s *Share) offer(t *tenantShare) {
	if !t.turn && len(t.waiting) > 0 && (t.inUse < s.each || t.tenant == "") {
		t.turn = true
		s.turns = append(s.turns, t)
	}
}

// grant lets tenants take turns as long as there are connections.
func (s *Share) grant() {
	for len(s.turns) > 0 && s.room() {
		t := s.turns[0]
		s.turns = s.turns[1:]
		t.turn = false
		if len(t.waiting) == 0 {
			s.forget(t)
			continue
		}
		close(t.waiting[0])
		t.waiting = t.waiting[1:]
		t.inUse++
		s.inUse++
		s.offer(t)
	}
}

// room reports whether the pool has a connection that no tenant uses. The bypass client's are not counted: who waits for one of these
// waits in the pool.
func (s *Share) room() bool {
	limit := s.inner.Stats().MaxOpenConnections
	return limit <= 0 || s.inUse < limit
}

// Load is what one tenant uses of a Share.
type Load struct {
	Tenant  string
	InUse   int // connections
	Waiting int // statements that wait for one
}

// Loads returns what each tenant uses that uses something.
func (s *Share) Loads() []Load {
	s.mu.Lock()
	defer s.mu.Unlock()
	loads := make([]Load, 0, len(s.tenants))
	for _, t := range s.tenants {
		loads = append(loads, Load{Tenant: t.tenant, InUse: t.inUse, Waiting: len(t.waiting)})
	}
	return loads
}

// forget drops a tenant that uses nothing and waits for nothing.
func (s *Share) forget(t *tenantShare) {
	if t.inUse == 0 && len(t.waiting) == 0 && !t.turn {
		delete(s.tenants, t.tenant)
	}
}
