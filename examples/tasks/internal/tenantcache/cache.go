// Package tenantcache keeps values of tenants in memory for a short time.
//
// The context says whose value it is, and no caller names a tenant: a key is one of tenancy.Key, so that two tenants never share one, whatever
// their ids are.
package tenantcache

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/gormtenancy/tenancy"
)

// Config says how much is kept, and for how long. Both fields are required.
type Config struct {
	// Life is how long another process may see the old value after a change. This process sees a change at once, by Forget.
	Life time.Duration
	// Tenants is the number of tenants whose values are kept. The value of one that is asked for rarely is dropped first.
	Tenants int
}

// Cache keeps one value for each tenant. It is safe for concurrent use. Values must not be changed after they have been loaded.
type Cache[V any] struct {
	name  string
	cache *otter.Cache[string, V]
}

// New makes a cache. The name is part of its keys.
func New[V any](name string, cfg Config) (*Cache[V], error) {
	cache, err := otter.New(&otter.Options[string, V]{
		MaximumSize:      cfg.Tenants,
		ExpiryCalculator: otter.ExpiryWriting[string, V](cfg.Life),
	})
	if err != nil {
		return nil, err
	}
	return &Cache[V]{name, cache}, nil
}

// Get returns the value of the context's tenant. If there is none, it is loaded with this context, once for all who wait for it. A value
// that was loaded while Forget was called is not kept. The errors are those of load, which are not kept, and of tenancy.Key.
func (c *Cache[V]) Get(ctx context.Context, load func(context.Context) (V, error)) (V, error) {
	key, err := tenancy.Key(ctx, c.name)
	if err != nil {
		var none V
		return none, err
	}
	return c.cache.Get(ctx, key, otter.LoaderFunc[string, V](func(ctx context.Context, _ string) (V, error) { return load(ctx) }))
}

// Forget drops the value of the context's tenant: now, and again at the end of a request of Middleware, because a change that the request has
// made may be committed only then, and until then a reader loads the old value.
func (c *Cache[V]) Forget(ctx context.Context) error {
	key, err := tenancy.Key(ctx, c.name)
	if err != nil {
		return err
	}
	c.cache.Invalidate(key)
	atEnd(ctx, func() { c.cache.Invalidate(key) })
	return nil
}

// Close ends the cache's goroutine. The cache must not be used afterwards.
func (c *Cache[V]) Close() { c.cache.StopAllGoroutines() }
