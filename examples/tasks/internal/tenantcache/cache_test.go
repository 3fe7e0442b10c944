package tenantcache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gormtenancy/tenancy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCache[V any](t *testing.T, cfg Config) *Cache[V] {
	t.Helper()
	cache, err := New[V]("flags", cfg)
	require.NoError(t, err)
	t.Cleanup(cache.Close)
	return cache
}

// own loads the id of the context's tenant.
func own(ctx context.Context) (string, error) {
	id, _ := tenancy.TenantFromContext(ctx)
	return id, nil
}

// TestCacheKeepsTenantsApart also where an id looks like a key.
func TestCacheKeepsTenantsApart(t *testing.T) {
	cache := newCache[string](t, Config{time.Hour, 1000})
	ids := []string{"acme", "acme:flags", "acme%3Aflags", "tenant:acme:flags", "tenant:acme", "Acme", "acme ", "flags", ":", "%", "ác"}
	for range 2 {
		for _, id := range ids {
			got, err := cache.Get(tenancy.WithTenant(t.Context(), id), own)
			require.NoError(t, err)
			require.Equal(t, id, got)
		}
	}
	require.NoError(t, cache.Forget(tenancy.WithTenant(t.Context(), "acme")))
	for _, id := range ids {
		got, err := cache.Get(tenancy.WithTenant(t.Context(), id), func(context.Context) (string, error) { return "loaded", nil })
		require.NoError(t, err)
		if id == "acme" {
			require.Equal(t, "loaded", got)
		} else {
			require.Equal(t, id, got, "forgotten with another tenant's")
		}
	}
}

// TestCacheNeedsTenant: nothing is kept for all tenants.
func TestCacheNeedsTenant(t *testing.T) {
	cache := newCache[string](t, Config{time.Hour, 10})
	for _, ctx := range []context.Context{t.Context(), tenancy.WithoutTenant(t.Context())} {
		_, err := cache.Get(ctx, func(context.Context) (string, error) { t.Error("loaded"); return "", nil })
		require.ErrorIs(t, err, tenancy.ErrNoTenant)
		require.ErrorIs(t, cache.Forget(ctx), tenancy.ErrNoTenant)
	}
}

// TestCacheForgetsWhatWasBeingLoaded: a value that was read before a change, and arrives after it, is not kept.
func TestCacheForgetsWhatWasBeingLoaded(t *testing.T) {
	cache := newCache[string](t, Config{time.Hour, 10})
	ctx := tenancy.WithTenant(t.Context(), "acme")
	var once sync.Once
	got, err := cache.Get(ctx, func(ctx context.Context) (value string, err error) {
		value = "new"
		once.Do(func() {
			value, err = "old", cache.Forget(ctx)
		})
		return value, err
	})
	require.NoError(t, err)
	require.Equal(t, "new", got)
	got, err = cache.Get(ctx, func(context.Context) (string, error) { return "again", nil })
	require.NoError(t, err)
	require.Equal(t, "new", got)
}

// TestCacheForgetsAgainAtTheEndOfARequest, whose change is committed after its handler: also where the handler panics.
func TestCacheForgetsAgainAtTheEndOfARequest(t *testing.T) {
	for name, end := range map[string]func(){"answers": func() {}, "panics": func() { panic(http.ErrAbortHandler) }} {
		t.Run(name, func(t *testing.T) {
			cache := newCache[string](t, Config{time.Hour, 10})
			ctx := tenancy.WithTenant(t.Context(), "acme")
			committed := "old"
			load := func(context.Context) (string, error) { return committed, nil }
			handler := Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				require.NoError(t, cache.Forget(r.Context()))
				got, err := cache.Get(ctx, load) // another request, before the commit
				require.NoError(t, err)
				require.Equal(t, "old", got)
				committed = "new"
				end()
			}))
			func() {
				defer func() { _ = recover() }()
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodPut, "/", nil))
			}()
			got, err := cache.Get(ctx, load)
			require.NoError(t, err)
			require.Equal(t, "new", got)
		})
	}
}

func TestCacheKeepsNoError(t *testing.T) {
	cache := newCache[string](t, Config{time.Hour, 10})
	ctx := tenancy.WithTenant(t.Context(), "acme")
	broken := errors.New("no connection")
	_, err := cache.Get(ctx, func(context.Context) (string, error) { return "half", broken })
	require.ErrorIs(t, err, broken)
	got, err := cache.Get(ctx, own)
	require.NoError(t, err)
	require.Equal(t, "acme", got)
}

// TestCacheEndsLives: a change that another process has made is seen when the life of a value is over.
func TestCacheEndsLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := newCache[int](t, Config{time.Second, 10})
		ctx := tenancy.WithTenant(t.Context(), "acme")
		loads := 0
		load := func(context.Context) (int, error) { loads++; return loads, nil }
		for range 3 {
			got, err := cache.Get(ctx, load)
			require.NoError(t, err)
			require.Equal(t, 1, got)
		}
		time.Sleep(1100 * time.Millisecond) // of the bubble's clock
		got, err := cache.Get(ctx, load)
		require.NoError(t, err)
		require.Equal(t, 2, got)
	})
}

// TestCacheIsBounded whatever the number of tenants.
func TestCacheIsBounded(t *testing.T) {
	cache := newCache[string](t, Config{time.Hour, 100})
	for n := range 10_000 {
		id := fmt.Sprint("tenant-", n)
		got, err := cache.Get(tenancy.WithTenant(t.Context(), id), own)
		require.NoError(t, err)
		require.Equal(t, id, got)
	}
	cache.cache.CleanUp()
	require.LessOrEqual(t, cache.cache.EstimatedSize(), 100)
}

// TestCacheOfManyTenantsAtOnce mixes loads and changes: no tenant gets another's.
func TestCacheOfManyTenantsAtOnce(t *testing.T) {
	cache := newCache[string](t, Config{time.Hour, 5})
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			for i := range 500 {
				id := fmt.Sprint("tenant-", (n+i)%10)
				ctx := tenancy.WithTenant(context.Background(), id)
				if i%7 == 0 {
					_ = cache.Forget(ctx)
				}
				if got, err := cache.Get(ctx, own); err != nil || got != id {
					t.Errorf("%s got %q, %v", id, got, err)
				}
			}
		})
	}
	all.Wait()
}
