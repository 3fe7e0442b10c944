package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// directory is a lookup that counts, and can be changed, made slow, and made to fail.
type directory struct {
	mu      sync.Mutex
	tenants map[string]string
	asked   map[string]int
	delay   time.Duration
	err     error
}

func newDirectory(tenants map[string]string) *directory {
	return &directory{tenants: tenants, asked: map[string]int{}}
}

func (d *directory) Tenant(ctx context.Context, name string) (string, error) {
	d.mu.Lock()
	d.asked[name]++
	id, ok := d.tenants[name]
	delay, err := d.delay, d.err
	d.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("directory: %w", tenanthttp.ErrUnknownTenant)
	default:
		return id, nil
	}
}

func (d *directory) set(name, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tenants[name] = id
}

func TestCacheRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(map[string]string{"acme": "1"})
		cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{TTL: time.Minute, UnknownTTL: 5 * time.Second})
		get := func(name, want string, wantErr error) {
			t.Helper()
			id, err := cache.Tenant(t.Context(), name)
			require.ErrorIs(t, err, wantErr)
			require.Equal(t, want, id)
		}
		for range 3 {
			get("acme", "1", nil)
			get("nobody", "", tenanthttp.ErrUnknownTenant)
		}
		require.Equal(t, map[string]int{"acme": 1, "nobody": 1}, d.asked)

		d.set("nobody", "2")
		time.Sleep(4 * time.Second)
		get("nobody", "", tenanthttp.ErrUnknownTenant)
		time.Sleep(time.Second)
		get("nobody", "2", nil)

		d.set("acme", "3")
		time.Sleep(54 * time.Second)
		get("acme", "1", nil)
		time.Sleep(time.Second)
		get("acme", "3", nil)

		d.set("acme", "4")
		cache.Forget("acme")
		get("acme", "4", nil)
		d.set("acme", "5")
		cache.Clear()
		get("acme", "5", nil)
	})
}

func TestCacheDoesNotRememberErrors(t *testing.T) {
	d := newDirectory(map[string]string{"acme": "1"})
	d.err = errors.New("the database is gone")
	cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{})
	_, err := cache.Tenant(t.Context(), "acme")
	require.ErrorIs(t, err, d.err)

	d.err = nil
	id, err := cache.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, "1", id)
}

// TestCacheEmptyIsUnknown: a lookup that returns neither tenant nor error must not make a tenant of nothing.
func TestCacheEmptyIsUnknown(t *testing.T) {
	cache := tenanthttp.NewCache(newDirectory(map[string]string{"acme": ""}), tenanthttp.CacheConfig{})
	for range 2 {
		_, err := cache.Tenant(t.Context(), "acme")
		require.ErrorIs(t, err, tenanthttp.ErrUnknownTenant)
	}
}

// TestCacheAsksOnceForMany: a thousand requests for a name that is not known yet make one lookup.
func TestCacheAsksOnceForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(map[string]string{"acme": "1"})
		d.delay = time.Second
		cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				id, err := cache.Tenant(t.Context(), "acme")
				if err != nil || id != "1" {
					t.Errorf("got %q, %v", id, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, d.asked["acme"])
	})
}

// TestCacheCancelled: the request that asks may go away; those that wait for its lookup get their answer. And one that
// waits may go away without waiting on.
func TestCacheCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(map[string]string{"acme": "1"})
		d.delay = 2 * time.Second
		cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{})

		asks, stopAsking := context.WithCancel(t.Context())
		waits, stopWaiting := context.WithTimeout(t.Context(), time.Second)
		defer stopWaiting()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = cache.Tenant(asks, "acme") })
		synctest.Wait()
		wg.Go(func() {
			_, err := cache.Tenant(waits, "acme")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one that cannot wait got %v", err)
			}
		})
		wg.Go(func() {
			id, err := cache.Tenant(t.Context(), "acme")
			if id != "1" || err != nil {
				t.Errorf("the one that waits got %q, %v", id, err)
			}
		})
		synctest.Wait()
		stopAsking()
		wg.Wait()
		require.Equal(t, 1, d.asked["acme"])
	})
}

func TestCacheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(nil)
		d.delay = time.Hour
		began := time.Now()
		_, err := tenanthttp.NewCache(d, tenanthttp.CacheConfig{Timeout: time.Second}).Tenant(t.Context(), "acme")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
	})
}

// TestCacheForgetsWhileAsking: an answer from before a change must not outlive the change.
func TestCacheForgetsWhileAsking(t *testing.T) {
	for name, forget := range map[string]func(*tenanthttp.Cache){
		"Forget": func(c *tenanthttp.Cache) { c.Forget("acme") },
		"Clear":  func(c *tenanthttp.Cache) { c.Clear() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDirectory(map[string]string{"acme": "old"})
				d.delay = time.Second
				cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{})
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = cache.Tenant(t.Context(), "acme") })
				synctest.Wait() // the lookup has read "old"
				d.set("acme", "new")
				forget(cache)
				wg.Wait()
				id, err := cache.Tenant(t.Context(), "acme")
				require.NoError(t, err)
				require.Equal(t, "new", id)
			})
		})
	}
}

// TestCachePanic: a lookup that panics leaves no caller waiting.
func TestCachePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		cache := tenanthttp.NewCache(tenanthttp.FinderFunc(func(context.Context, string) (string, error) {
			if first {
				first = false
				time.Sleep(time.Second)
				panic("a bug")
			}
			return "1", nil
		}), tenanthttp.CacheConfig{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic must reach the request that asked")
				}
			}()
			_, _ = cache.Tenant(t.Context(), "acme")
		})
		synctest.Wait()
		_, err := cache.Tenant(t.Context(), "acme")
		require.ErrorContains(t, err, "aborted")
		wg.Wait()
		id, err := cache.Tenant(t.Context(), "acme")
		require.NoError(t, err)
		require.Equal(t, "1", id)
	})
}

// TestCacheIsBounded: guessing names fills the room for unknown names only, and the least used tenants leave first.
func TestCacheIsBounded(t *testing.T) {
	d := newDirectory(map[string]string{"a": "1", "b": "2", "c": "3"})
	cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{Size: 2})
	get := func(name string) { _, _ = cache.Tenant(t.Context(), name) }
	get("a")
	get("b")
	for i := range 1000 {
		get(fmt.Sprint("guess", i))
	}
	get("a")
	get("b")
	require.Equal(t, 1, d.asked["a"])
	require.Equal(t, 1, d.asked["b"])
	get("guess999")
	require.Equal(t, 1, d.asked["guess999"], "still there")
	get("guess0")
	require.Equal(t, 2, d.asked["guess0"], "driven out")

	get("a") // b is the least used
	get("c")
	get("a")
	require.Equal(t, 1, d.asked["a"])
	get("b")
	require.Equal(t, 2, d.asked["b"])
}

// TestCacheIsSafeForConcurrentUse does everything at once, for the race detector.
func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	d := newDirectory(map[string]string{"t0": "0", "t1": "1", "t2": "2", "t3": "3"})
	cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{Size: 2, TTL: time.Microsecond, UnknownTTL: time.Microsecond})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 500 {
				name := fmt.Sprint("t", i%8)
				id, err := cache.Tenant(t.Context(), name)
				if err == nil && "t"+id != name || err != nil && i%8 < 4 {
					t.Errorf("%s: got %q, %v", name, id, err)
				}
				if worker == 0 && i%50 == 0 {
					cache.Forget(name)
				}
				if worker == 1 && i%100 == 0 {
					cache.Clear()
				}
			}
		})
	}
	wg.Wait()
}
