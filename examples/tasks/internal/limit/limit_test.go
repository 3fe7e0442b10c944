package limit

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gormtenancy/tenancy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that stands still until it is moved.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time        { return time.Unix(0, c.nanos.Load()) }
func (c *clock) move(by time.Duration) { c.nanos.Add(int64(by)) }

type subjectKey struct{}

// newLimiter allows a tenant 5 requests, each caller 3, and each address 2, and one more each second.
func newLimiter(t *testing.T, change func(*Config)) (*Limiter, *clock) {
	t.Helper()
	c := newClock()
	cfg := Config{
		Tenant: Rate{5, time.Second}, Caller: Rate{3, time.Second}, Address: Rate{2, time.Second}, Now: c.now,
		Subject: func(ctx context.Context) string { s, _ := ctx.Value(subjectKey{}).(string); return s },
	}
	if change != nil {
		change(&cfg)
	}
	l, err := New(cfg)
	require.NoError(t, err)
	return l, c
}

// request is one of a tenant and a caller, as headers say, which stand for a key that was verified.
type request struct{ tenant, caller, address, forwarded string }

// handler answers 401 without a tenant.
func (l *Limiter) handler() http.Handler {
	answer := l.ByTenant(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	return l.ByAddress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant := r.Header.Get("Tenant")
		if tenant == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		ctx := context.WithValue(tenancy.WithTenant(r.Context(), tenant), subjectKey{}, r.Header.Get("Caller"))
		answer.ServeHTTP(w, r.WithContext(ctx))
	}))
}

func send(ctx context.Context, h http.Handler, q request) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.Header.Set("Tenant", q.tenant)
	r.Header.Set("Caller", q.caller)
	if q.forwarded != "" {
		r.Header.Set("X-Forwarded-For", q.forwarded)
	}
	if q.address != "" {
		r.RemoteAddr = q.address
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// allowed sends requests until one is refused, and counts those before, of 20 at most.
func allowed(t *testing.T, h http.Handler, q request) (n int) {
	t.Helper()
	for ; n < 20 && send(t.Context(), h, q).Code != http.StatusTooManyRequests; n++ {
	}
	return n
}

func TestTenantsDoNotShareBuckets(t *testing.T) {
	l, c := newLimiter(t, nil)
	h := l.handler()
	for _, tenant := range []string{"acme", "globex", "Acme", "tenant:acme", "acme:ann", "acme%3Aann"} {
		require.Equal(t, 5, allowed(t, h, request{tenant: tenant}), tenant)
		require.Equal(t, 0, allowed(t, h, request{tenant: tenant}), tenant)
	}
	c.move(2 * time.Second)
	require.Equal(t, 2, allowed(t, h, request{tenant: "acme"}))
	c.move(time.Hour)
	require.Equal(t, 5, allowed(t, h, request{tenant: "acme"}))
}

// TestCallersShareTheirTenantsBucket: each has a part of it; callers of the same name in two tenants share nothing; and a request that is
// refused for the caller takes nothing of the tenant's.
func TestCallersShareTheirTenantsBucket(t *testing.T) {
	l, c := newLimiter(t, nil)
	h := l.handler()
	require.Equal(t, 3, allowed(t, h, request{tenant: "acme", caller: "ann"}))
	for range 10 {
		require.Equal(t, http.StatusTooManyRequests, send(t.Context(), h, request{tenant: "acme", caller: "ann"}).Code)
	}
	require.Equal(t, 2, allowed(t, h, request{tenant: "acme", caller: "bob"}), "what ann has left")
	require.Equal(t, 3, allowed(t, h, request{tenant: "globex", caller: "ann"}))
	// Refused for the tenant, which takes nothing of the caller's: bob has 1 of 3, and gets 2 more; eve gets all of hers.
	for range 10 {
		require.Equal(t, http.StatusTooManyRequests, send(t.Context(), h, request{tenant: "acme", caller: "eve"}).Code)
	}
	c.move(3 * time.Second)
	require.Equal(t, 3, allowed(t, h, request{tenant: "acme", caller: "eve"}))
}

// TestHeaders are those of the IETF's draft, and Retry-After is true.
func TestHeaders(t *testing.T) {
	l, c := newLimiter(t, nil)
	h := l.handler()
	w := send(t.Context(), h, request{tenant: "acme", caller: "ann"})
	require.Equal(t, `"tenant";q=5;w=5, "caller";q=3;w=3`, w.Header().Get("RateLimit-Policy"))
	require.Equal(t, `"tenant";r=4;t=1, "caller";r=2;t=1`, w.Header().Get("RateLimit"))
	require.Empty(t, w.Header().Get("Retry-After"))
	require.Equal(t, 2, allowed(t, h, request{tenant: "acme", caller: "ann"}))
	c.move(300 * time.Millisecond)
	w = send(t.Context(), h, request{tenant: "acme", caller: "ann"})
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Equal(t, `"tenant";r=2;t=3, "caller";r=0;t=3`, w.Header().Get("RateLimit"))
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.JSONEq(t, `{"title":"Too Many Requests","status":429,"detail":"too many requests: try again in 1s"}`, w.Body.String())
	require.NotContains(t, w.Body.String()+fmt.Sprint(w.Header()), "acme")

	slow, c := newLimiter(t, func(cfg *Config) { cfg.Tenant = Rate{1, time.Minute} })
	h = slow.handler()
	require.Equal(t, http.StatusOK, send(t.Context(), h, request{tenant: "acme"}).Code)
	c.move(15 * time.Second)
	w = send(t.Context(), h, request{tenant: "acme"})
	require.Equal(t, "45", w.Header().Get("Retry-After"))
	c.move(45 * time.Second)
	require.Equal(t, http.StatusOK, send(t.Context(), h, request{tenant: "acme"}).Code)
}

// TestUnknownTenantsAreLimitedByAddress, of which a header that the client sends says nothing. Requests with a tenant are not counted there.
func TestUnknownTenantsAreLimitedByAddress(t *testing.T) {
	l, c := newLimiter(t, func(cfg *Config) { cfg.Tenant, cfg.Caller = Rate{100, time.Second}, Rate{100, time.Second} })
	h := l.handler()
	for range 10 {
		require.Equal(t, http.StatusOK, send(t.Context(), h, request{tenant: "acme", address: "192.0.2.1:1"}).Code)
	}
	n := 0
	for i := range 20 {
		q := request{address: fmt.Sprint("192.0.2.1:", i), forwarded: fmt.Sprint("198.51.100.", i)}
		if send(t.Context(), h, q).Code == http.StatusUnauthorized {
			n++
		}
	}
	require.Equal(t, 2, n)
	w := send(t.Context(), h, request{address: "192.0.2.1:1"})
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Equal(t, `"address";q=2;w=2`, w.Header().Get("RateLimit-Policy"))
	require.Equal(t, http.StatusTooManyRequests, send(t.Context(), h, request{address: "[::ffff:192.0.2.1]:1"}).Code, "the same address")
	require.Equal(t, 2, allowed(t, h, request{address: "192.0.2.2:1"}))
	require.Equal(t, 2, allowed(t, h, request{address: "[2001:db8::1]:1"}))
	require.Equal(t, 0, allowed(t, h, request{address: "[2001:db8::ffff:1]:1"}), "the same network")
	require.Equal(t, 2, allowed(t, h, request{address: "[2001:db8:0:1::1]:1"}))
	require.Equal(t, 2, allowed(t, h, request{address: "pipe"}))
	c.move(time.Second)
	require.Equal(t, 1, allowed(t, h, request{address: "192.0.2.1:1"}))

	// Behind a proxy that is trusted, the client's address counts.
	h = middleware.ClientIPFromXFF("203.0.113.0/24")(h)
	require.Equal(t, 2, allowed(t, h, request{address: "203.0.113.7:1", forwarded: "1.1.1.1, 198.51.100.1"}))
	require.Equal(t, 0, allowed(t, h, request{address: "203.0.113.7:1", forwarded: "2.2.2.2, 198.51.100.1"}))
	require.Equal(t, 2, allowed(t, h, request{address: "203.0.113.7:1", forwarded: "198.51.100.2"}))
}

// TestByTenantAloneLimitsByAddress where nothing around it does.
func TestByTenantAloneLimitsByAddress(t *testing.T) {
	l, _ := newLimiter(t, nil)
	h := l.ByTenant(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	require.Equal(t, 2, allowed(t, h, request{}))
}

// TestBucketsAreBounded with 100,000 tenants, each of which has its own bucket. Beyond the maximum they share one.
func TestBucketsAreBounded(t *testing.T) {
	const tenants = 100_000
	l, c := newLimiter(t, func(cfg *Config) { cfg.Max = tenants })
	take := func(n int) bool {
		_, refused := l.take(tenancy.WithTenant(t.Context(), n), fmt.Sprint(n))
		return !refused
	}
	wrong := 0
	for n := range tenants {
		for i := range 6 {
			if take(n) != (i < 5) {
				wrong++
			}
		}
	}
	require.Zero(t, wrong, "of the tenants did not get what is theirs")
	require.Len(t, l.tenants.young, tenants)
	got := 0
	for n := range 1000 {
		if take(tenants + n) {
			got++
		}
	}
	require.Equal(t, 5, got, "of one bucket")
	require.Len(t, l.tenants.young, tenants)
	require.False(t, take(7), "those before are not forgotten")

	// A window later all have filled up, and other tenants have buckets of their own.
	c.move(5 * time.Second)
	for n := range tenants {
		if !take(2*tenants + n) {
			wrong++
		}
	}
	require.Zero(t, wrong)
	require.LessOrEqual(t, len(l.tenants.young)+len(l.tenants.old), 2*tenants)
	c.move(10 * time.Second)
	require.True(t, take(7))
	require.Equal(t, 1, len(l.tenants.young)+len(l.tenants.old))
}

// TestBucketsForgetNothing: the windows that pass give no caller a new bucket before it would be full.
func TestBucketsForgetNothing(t *testing.T) {
	l, c := newLimiter(t, nil)
	h := l.handler()
	for range 40 { // seconds, through many windows of 5
		require.LessOrEqual(t, allowed(t, h, request{tenant: "steady"}), 5)
		c.move(time.Second)
		require.Equal(t, 1, allowed(t, h, request{tenant: "steady"}))
	}
}

// TestManyAtOnce takes as many tokens as there are.
func TestManyAtOnce(t *testing.T) {
	l, _ := newLimiter(t, func(cfg *Config) { cfg.Tenant, cfg.Caller = Rate{50, time.Second}, Rate{40, time.Second} })
	h := l.handler()
	var ok [4]atomic.Int64
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			for range 50 {
				q := request{tenant: fmt.Sprint("tenant-", n%4), caller: fmt.Sprint("caller-", n/8)}
				if send(context.Background(), h, q).Code == http.StatusOK {
					ok[n%4].Add(1)
				}
			}
		})
	}
	all.Wait()
	for n := range ok {
		require.EqualValues(t, 50, ok[n].Load())
	}
}

// TestFloodLeavesNoDebt: what is refused, however much at once, takes nothing of the tenant's later requests.
func TestFloodLeavesNoDebt(t *testing.T) {
	l, c := newLimiter(t, nil)
	h := l.handler()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 500 {
				send(context.Background(), h, request{tenant: "acme", caller: "flood"})
			}
		})
	}
	all.Wait()
	require.Equal(t, 2, allowed(t, h, request{tenant: "acme", caller: "ann"}), "what the flood has left")
	c.move(5 * time.Second)
	require.Equal(t, 3, allowed(t, h, request{tenant: "acme", caller: "ann"}))
	require.Equal(t, 2, allowed(t, h, request{tenant: "acme", caller: "flood"}))
}

func TestNewChecksItsConfig(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Tenant = Rate{} },
		func(c *Config) { c.Caller.Burst = -1 },
		func(c *Config) { c.Address.Every = 0 },
		func(c *Config) { c.Tenant = Rate{1 << 40, time.Hour} },
		func(c *Config) { c.Subject = nil },
		func(c *Config) { c.Max = -1 },
	} {
		cfg := Config{Tenant: Rate{1, 1}, Caller: Rate{1, 1}, Address: Rate{1, 1}, Subject: func(context.Context) string { return "" }}
		change(&cfg)
		_, err := New(cfg)
		require.Error(t, err)
	}
}

// BenchmarkBuckets shows what a bucket takes of the memory.
func BenchmarkBuckets(b *testing.B) {
	buckets := newBuckets(Rate{100, time.Second}, b.N)
	now := time.Now()
	b.ReportAllocs()
	for n := range b.N {
		buckets.of(fmt.Sprint("tenant:acme-", n), now)
	}
}
