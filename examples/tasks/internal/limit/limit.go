// Package limit limits how many requests a tenant, a caller and an address may send: by token buckets, in memory.
//
// Each tenant has a bucket, and so has each caller of a tenant, so that one key cannot use up what the others of its tenant need. Requests
// that turn out to have no tenant, such as those that guess keys, are counted by their address.
//
// Each process counts for itself. Behind a load balancer with n processes the limits are up to n times as high.
package limit

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"golang.org/x/time/rate"

	"github.com/gormtenancy/tenancy"
)

// Rate is how many requests are allowed.
type Rate struct {
	// Burst is the number of requests that may come at once.
	Burst int
	// Every is the time after which one more is allowed.
	Every time.Duration
}

func (r Rate) bucket() *rate.Limiter { return rate.NewLimiter(rate.Every(r.Every), r.Burst) }

// window is the time in which an empty bucket fills up.
func (r Rate) window() time.Duration { return time.Duration(r.Burst) * r.Every }

func (r Rate) isValid() bool {
	return r.Burst > 0 && r.Every > 0 && r.window()/r.Every == time.Duration(r.Burst)
}

// Config is what is allowed. All rates are required.
type Config struct {
	Tenant  Rate // for each tenant
	Caller  Rate // for each caller of a tenant
	Address Rate // for each address, of requests without a tenant
	// Subject names the caller of a request. A caller without a name has the tenant's bucket alone.
	Subject func(context.Context) string
	// Max is the number of tenants, of callers and of addresses that have a bucket of their own within the time in which a bucket fills up.
	// Zero means 200,000. A bucket takes about 200 bytes.
	Max int
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Limiter limits requests. It is safe for concurrent use.
type Limiter struct {
	subject                     func(context.Context) string
	now                         func() time.Time
	tenants, callers, addresses *buckets

	mu sync.Mutex // while tokens of two buckets are taken
}

// New checks the configuration.
func New(cfg Config) (*Limiter, error) {
	if !cfg.Tenant.isValid() || !cfg.Caller.isValid() || !cfg.Address.isValid() || cfg.Subject == nil || cfg.Max < 0 {
		return nil, errors.New("limit: Config needs a Tenant, a Caller and an Address rate above zero, and a Subject")
	}
	if cfg.Max == 0 {
		cfg.Max = 200_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Limiter{
		subject: cfg.Subject, now: cfg.Now,
		tenants: newBuckets(cfg.Tenant, cfg.Max), callers: newBuckets(cfg.Caller, cfg.Max), addresses: newBuckets(cfg.Address, cfg.Max),
	}, nil
}

// named is a bucket, as the header fields name it.
type named struct {
	name   string
	rate   Rate
	bucket *rate.Limiter
}

// known says whether a request has turned out to have a tenant.
type known struct{ tenant bool }

type knownKey struct{}

// ByAddress belongs around everything. It refuses requests of an address that has sent too many without a tenant, and counts a request
// when it is over. So requests that are under way at once are not counted yet: an address can exceed its limit by as many as it has
// connections.
//
// Behind a proxy, all requests have the proxy's address, unless chi's middleware.ClientIPFromXFF, or another one of its kind, is around this
// one and names the proxy. No header is trusted otherwise.
func (l *Limiter) ByAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := address(r)
		now := l.now()
		if bucket := l.addresses.of(name, now); bucket.TokensAt(now) < 1 {
			refuse(w, usage{"address", l.addresses.rate, bucket.TokensAt(now)})
			return
		}
		k := &known{}
		defer func() {
			if !k.tenant {
				now := l.now()
				l.addresses.of(name, now).AllowN(now, 1)
			}
		}()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), knownKey{}, k)))
	})
}

// ByTenant belongs inside of what finds the tenant of a request. It refuses requests of a tenant, or of one of its callers, that has sent too
// many. A request that is refused for one of them is not counted for the other. Without a tenant it does what ByAddress does.
func (l *Limiter) ByTenant(next http.Handler) http.Handler {
	byAddress := l.ByAddress(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		k, within := ctx.Value(knownKey{}).(*known)
		tenant, err := tenancy.Key(ctx)
		if err != nil {
			if within { // and counts it
				next.ServeHTTP(w, r)
			} else {
				byAddress.ServeHTTP(w, r)
			}
			return
		}
		if within {
			k.tenant = true
		}
		usages, refused := l.take(ctx, tenant)
		if refused {
			refuse(w, usages...)
			return
		}
		describe(w.Header(), usages)
		next.ServeHTTP(w, r)
	})
}

// take takes a token of the tenant and one of the caller, or none of either. Reservations of package rate would not do: where several are
// cancelled at once, some of their tokens are lost.
func (l *Limiter) take(ctx context.Context, tenant string) (usages []usage, refused bool) {
	now := l.now()
	taken := []named{{"tenant", l.tenants.rate, l.tenants.of(tenant, now)}}
	if subject := l.subject(ctx); subject != "" {
		name, err := tenancy.Key(ctx, subject)
		if err != nil { // not after the tenant's key
			return nil, true
		}
		taken = append(taken, named{"caller", l.callers.rate, l.callers.of(name, now)})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range taken {
		refused = refused || a.bucket.TokensAt(now) < 1
	}
	for _, a := range taken {
		if !refused {
			a.bucket.AllowN(now, 1)
		}
		usages = append(usages, usage{a.name, a.rate, a.bucket.TokensAt(now)})
	}
	return usages, refused
}

// address returns the client's address, of IPv6 the network that one customer has.
func address(r *http.Request) string {
	ip, err := netip.ParseAddr(middleware.GetClientIP(r.Context()))
	if err != nil {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if ip, err = netip.ParseAddr(host); err != nil {
			return "unknown" // they share a bucket
		}
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return network.String()
}
