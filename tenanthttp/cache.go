package tenanthttp

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// CacheConfig says how much a [Cache] keeps, and for how long. The zero value is a good one.
type CacheConfig struct {
	// Size is the most names that are kept, and as many again that were refused, so that guessing names cannot drive out the
	// real ones. Spellings of a name that differ in case only, and mean the same tenant, count once. Zero means 10,000.
	Size int
	// FoldCase asks for names in lower case, and keeps them so. Set it if the finder ignores case, so that all spellings of a
	// name are one. False leaves names as they are: "acme" and "ACME" may then be two tenants.
	FoldCase bool
	// TTL is how long a name's tenant is kept. Zero means a minute.
	TTL time.Duration
	// UnknownTTL is how long a name stays without a tenant after a lookup has said so. A name of a tenant that a request was
	// refused is looked up again as often, so that time does not tell the two apart. Zero means 5 seconds.
	UnknownTTL time.Duration
	// Timeout ends a lookup, which goes on for the others that wait for it when its own request is cancelled. Zero means
	// 5 seconds.
	Timeout time.Duration
}

// A Cache is a [Finder] that remembers the results of another one. Requests for the same name at the same time share one lookup.
// Errors other than [ErrUnknownTenant] are not remembered. It is safe for concurrent use.
//
// In a [Middleware] that refuses a request, the first refusal of a name costs a lookup and the next ones none, whether the name
// has a tenant or not.
type Cache struct {
	lookup Finder
	cfg    CacheConfig

	mu      sync.Mutex
	known   lru
	refused lru // names of no tenant, with the id ""; and of tenants that a request was refused
	calls   map[string]*call
}

// call is a lookup under way.
type call struct {
	done chan struct{} // closed when id and err are there
	id   string
	err  error
}

// errAborted is the error of requests that waited for a lookup that panicked.
var errAborted = errors.New("tenanthttp: the lookup of a tenant was aborted")

// NewCache returns a cache in front of a finder.
func NewCache(lookup Finder, cfg CacheConfig) *Cache {
	cfg.Size = positive(cfg.Size, 10_000)
	cfg.TTL = positive(cfg.TTL, time.Minute)
	cfg.UnknownTTL = positive(cfg.UnknownTTL, 5*time.Second)
	cfg.Timeout = positive(cfg.Timeout, 5*time.Second)
	c := &Cache{lookup: lookup, cfg: cfg}
	c.Clear()
	return c
}

func positive[T int | time.Duration](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}

// Tenant returns the result of the finder, or the one it remembers.
func (c *Cache) Tenant(ctx context.Context, name string) (string, error) {
	name = c.canonical(name)
	id, known, err := c.remembered(name)
	if !known && err == nil {
		id, err = c.share(ctx, name)
	}
	if err == nil {
		request.Of(ctx).OnRefusal(func(ctx context.Context) { c.refuse(ctx, name, id, known) })
	}
	return id, err
}

func (c *Cache) canonical(name string) string {
	if c.cfg.FoldCase {
		return strings.ToLower(name)
	}
	return name
}

// remembered returns the tenant of a name, or ErrUnknownTenant if there is none, or neither if it must be looked up.
func (c *Cache) remembered(name string) (id string, known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if id, known = c.known.get(name, now); known {
		return id, true, nil
	}
	if of, refused := c.refused.get(name, now); refused && of == "" {
		return "", false, ErrUnknownTenant
	}
	return "", false, nil
}

// refuse does the work of a lookup for a name that was remembered, unless it was refused a short time ago, as for one that
// has no tenant. A request could otherwise see from the time whether a name is in use.
func (c *Cache) refuse(ctx context.Context, name, id string, known bool) {
	c.mu.Lock()
	_, lately := c.refused.get(name, time.Now())
	c.mu.Unlock()
	if lately {
		return
	}
	if known {
		if _, err := c.share(ctx, name); err != nil {
			return // not remembered either
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused.put(name, id, time.Now().Add(c.cfg.UnknownTTL))
}

// share looks a name up, or waits for a lookup of it that is under way.
func (c *Cache) share(ctx context.Context, name string) (string, error) {
	c.mu.Lock()
	if running := c.calls[name]; running != nil {
		c.mu.Unlock()
		return running.wait(ctx)
	}
	mine := &call{done: make(chan struct{}), err: errAborted}
	c.calls[name] = mine
	c.mu.Unlock()
	return c.ask(ctx, name, mine)
}

func (l *call) wait(ctx context.Context) (string, error) {
	select {
	case <-l.done:
		return l.id, l.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// ask does the lookup for all requests that wait for it.
func (c *Cache) ask(ctx context.Context, name string, mine *call) (string, error) {
	defer c.finish(name, mine) // also if it panics
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	defer cancel()
	mine.id, mine.err = c.lookup.Tenant(ctx, name)
	if mine.err == nil && mine.id == "" {
		mine.err = ErrUnknownTenant
	}
	return mine.id, mine.err
}

// finish remembers the result, unless the name was forgotten since the lookup began, and wakes the requests that wait.
func (c *Cache) finish(name string, mine *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[name] == mine {
		delete(c.calls, name)
		switch {
		case mine.err == nil:
			c.known.put(name, mine.id, time.Now().Add(c.cfg.TTL))
		case errors.Is(mine.err, ErrUnknownTenant):
			c.known.remove(name)
			c.refused.put(name, "", time.Now().Add(c.cfg.UnknownTTL))
		}
	}
	close(mine.done)
}

// Forget removes a name, so that the cache asks for it again: call it when a tenant is created, renamed or closed. The result of
// a lookup that is under way is not remembered.
func (c *Cache) Forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name = c.canonical(name)
	c.known.remove(name)
	c.refused.remove(name)
	delete(c.calls, name)
}

// Clear removes all names.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.refused = newLRU(c.cfg.Size), newLRU(c.cfg.Size)
	c.calls = map[string]*call{}
}
