package tenanthttp

import (
	"context"
	"errors"
	"sync"
	"time"
)

// CacheConfig says how much a [Cache] keeps, and for how long. The zero value is a good one.
type CacheConfig struct {
	// Size is the most names that are kept, and as many again that belong to no tenant, so that guessing names
	// cannot drive out the real ones. Zero means 10,000.
	Size int
	// TTL is how long a name's tenant is kept. Zero means a minute.
	TTL time.Duration
	// UnknownTTL is how long a name stays without a tenant after a lookup has said so. Zero means 5 seconds.
	UnknownTTL time.Duration
	// Timeout ends a lookup, which goes on for the others that wait for it when its own request is cancelled. Zero means
	// 5 seconds.
	Timeout time.Duration
}

// A Cache is a [Finder] that remembers the results of another one. Requests for the same name at the same time share one lookup.
// Errors other than [ErrUnknownTenant] are not remembered. It is safe for concurrent use.
type Cache struct {
	lookup Finder
	cfg    CacheConfig

	mu      sync.Mutex
	known   lru
	unknown lru
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
	c.mu.Lock()
	now := time.Now()
	if id, ok := c.known.get(name, now); ok {
		c.mu.Unlock()
		return id, nil
	}
	if _, ok := c.unknown.get(name, now); ok {
		c.mu.Unlock()
		return "", ErrUnknownTenant
	}
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
			c.unknown.put(name, "", time.Now().Add(c.cfg.UnknownTTL))
		}
	}
	close(mine.done)
}

// Forget removes a name, so that the cache asks for it again: call it when a tenant is created, renamed or closed. The result of
// a lookup that is under way is not remembered.
func (c *Cache) Forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.remove(name)
	c.unknown.remove(name)
	delete(c.calls, name)
}

// Clear removes all names.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.unknown = newLRU(c.cfg.Size), newLRU(c.cfg.Size)
	c.calls = map[string]*call{}
}
