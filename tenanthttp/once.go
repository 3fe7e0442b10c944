package tenanthttp

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gormtenancy/tenancy"
)

// ErrReplayed is returned for a token that was used before, by a [Propagator] with [PropagatorConfig].Once. It is an ErrUnauthenticated: 401.
// A queue's consumer acknowledges such a message, because what it asks for has been done.
var ErrReplayed = fmt.Errorf("%w: the token was used before", ErrUnauthenticated)

// A OnceStore remembers the tokens that were used. It must be safe for concurrent use. Package tenanthttp/once has one in PostgreSQL, for any
// number of processes, and [NewOnceMemory] makes one for a single process.
type OnceStore interface {
	// Use notes that the token with this id was used, which is unique. Of several calls with one id, also at the same time, one returns nil and
	// the others [ErrReplayed]. The store may forget an id after expires, when no receiver accepts the token any more. The context has
	// the tenant of the token. With any error the token is refused.
	Use(ctx context.Context, id string, expires time.Time) error
}

// use accepts a token whose signature is right, once if there is a store, and returns its tenant's context.
func (p *Propagator) use(ctx context.Context, v verified) (context.Context, error) {
	ctx = tenancy.WithTenant(ctx, v.tenant)
	if p.once == nil {
		return ctx, nil
	}
	if v.id == "" {
		return nil, unauthenticated(errors.New("the token has no id, by which it could be accepted once"))
	}
	switch err := p.once.Use(ctx, v.id, v.expires); {
	case errors.Is(err, ErrUnauthenticated):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("tenanthttp: it cannot be known whether a token was used before: %w", err)
	}
	return ctx, nil
}

// errOnceFull is the error of a store in memory that has no place.
var errOnceFull = errors.New("tenanthttp: more tokens are valid than the store may remember")

// NewOnceMemory returns a [OnceStore] in memory, for a receiver that is a single process and that may forget used tokens when it ends. It
// remembers at most limit tokens that have not expired (100,000 if it is not positive; about 100 bytes each), and refuses others then.
func NewOnceMemory(limit int) OnceStore {
	if limit <= 0 {
		limit = 100_000
	}
	return &onceMemory{limit: limit, used: map[string]bool{}}
}

type onceMemory struct {
	limit int

	mu      sync.Mutex
	used    map[string]bool
	expires onceHeap
}

// Use implements OnceStore.
func (m *onceMemory) Use(_ context.Context, id string, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for len(m.expires) > 0 && !m.expires[0].at.After(now) {
		delete(m.used, heap.Pop(&m.expires).(onceID).id) //nolint:forcetypeassert // it holds nothing else
	}
	switch {
	case m.used[id]:
		return ErrReplayed
	case !expires.After(now): // it expired since it was verified, and may be forgotten
		return unauthenticated(errors.New("the token has expired"))
	case len(m.used) >= m.limit:
		return errOnceFull
	}
	m.used[id] = true
	heap.Push(&m.expires, onceID{id, expires})
	return nil
}

// onceHeap has the token first that expires first.
type onceHeap []onceID

type onceID struct {
	id string
	at time.Time
}

func (h onceHeap) Len() int           { return len(h) }
func (h onceHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h onceHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *onceHeap) Push(x any) { *h = append(*h, x.(onceID)) } //nolint:forcetypeassert // it holds nothing else

// Pop implements heap.Interface.
func (h *onceHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
