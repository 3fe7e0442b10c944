package flags

import (
	"context"
	"net/http"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/tenantcache"
)

// Flags evaluates and changes flags. It is safe for concurrent use.
type Flags struct {
	set   Set
	db    *gorm.DB
	tx    func(context.Context) *gorm.DB
	cache *tenantcache.Cache[snapshot]
}

// New makes Flags that read overrides by db, and change them by what tx returns, such as the transaction of a request. Nil means db.
// Evaluations do not see what is not committed.
func New(set Set, db *gorm.DB, tx func(context.Context) *gorm.DB) (*Flags, error) {
	if tx == nil {
		tx = func(ctx context.Context) *gorm.DB { return db.WithContext(ctx) }
	}
	cache, err := tenantcache.New[snapshot]("flags", tenantcache.Config{Life: 5 * time.Second, Tenants: 1000})
	if err != nil {
		return nil, err
	}
	return &Flags{set: set, db: db, tx: tx, cache: cache}, nil
}

// Close ends the cache's goroutine. The Flags must not be used afterwards.
func (f *Flags) Close() { f.cache.Close() }

// snapshot is the overrides of one tenant at one time.
type snapshot map[overrideKey]Override

type overrideKey struct{ flag, subject string }

// request keeps the snapshots that a request has used, so that all its evaluations agree, and cost one query at most. There is more than
// one only if the request acts for several tenants.
type request struct {
	mu    sync.Mutex
	taken map[string]taken // by tenancy.Key
}

type taken struct {
	snapshot snapshot
	err      error
}

type requestKey struct{}

// WithRequest returns a context whose evaluations see one state of a tenant's overrides.
func WithRequest(ctx context.Context) context.Context {
	return context.WithValue(ctx, requestKey{}, &request{taken: map[string]taken{}})
}

// Middleware gives each request a context of WithRequest.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(WithRequest(r.Context())))
	})
}

// snapshot returns the overrides of the context's tenant: those that the request has used, those in the cache, or those of the database.
func (f *Flags) snapshot(ctx context.Context) (snapshot, error) {
	key, err := tenancy.Key(ctx, "flags")
	if err != nil {
		return nil, err
	}
	r, _ := ctx.Value(requestKey{}).(*request)
	if r == nil {
		return f.cache.Get(ctx, f.load)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.taken[key]
	if !ok {
		known.snapshot, known.err = f.cache.Get(ctx, f.load)
		r.taken[key] = known
	}
	return known.snapshot, known.err
}

func (f *Flags) load(ctx context.Context) (snapshot, error) {
	var all []Override
	if err := f.db.WithContext(ctx).Find(&all).Error; err != nil {
		return nil, err
	}
	s := snapshot{}
	for _, o := range all {
		s[overrideKey{o.Flag, o.Subject}] = o
	}
	return s, nil
}

// forget drops what is kept of the context's tenant. Where a change has failed, it may have been committed nevertheless.
func (f *Flags) forget(ctx context.Context) error {
	if r, _ := ctx.Value(requestKey{}).(*request); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		clear(r.taken)
	}
	return f.cache.Forget(ctx)
}
