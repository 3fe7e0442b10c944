package tenantcache

import (
	"context"
	"net/http"
	"sync"
)

// changes are what to do when a request has ended.
type changes struct {
	mu    sync.Mutex
	atEnd []func()
}

type changesKey struct{}

// Middleware has caches forget what a request has changed, after it. It belongs around whatever commits the transaction of a request, such as
// that of package idempotency.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &changes{}
		defer c.end()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), changesKey{}, c)))
	})
}

// atEnd calls f when the context's request has ended, if it is one of Middleware.
func atEnd(ctx context.Context, f func()) {
	c, ok := ctx.Value(changesKey{}).(*changes)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.atEnd = append(c.atEnd, f)
}

func (c *changes) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.atEnd {
		f()
	}
}
