package tenanthttp_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// questions counts what a request asks the database.
type questions struct {
	*directory
	authorized int
	err        error
}

func (q *questions) isMember(_ *http.Request, tenant string) (bool, error) {
	q.authorized++
	return tenant == "1", q.err
}

// lookups returns the number of lookups of a name.
func (q *questions) lookups(name string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.asked[name]
}

// TestRefusalCostsTheSame: what a request asks the database must not show whether a tenant exists, or time does. It is compared for
// a tenant that is in the cache, one that is not, and one that does not exist, at the first and the second request.
func TestRefusalCostsTheSame(t *testing.T) {
	token := answer("1", nil)
	for name, test := range map[string]struct {
		resolve func(host tenanthttp.Resolver) tenanthttp.Resolver
		status  int
		asks    int
	}{
		"authorize":   {func(host tenanthttp.Resolver) tenanthttp.Resolver { return host }, http.StatusForbidden, 1},
		"cross check": {func(host tenanthttp.Resolver) tenanthttp.Resolver { return tenanthttp.CrossCheck(host, token) }, http.StatusForbidden, 1},
		"no token": {func(host tenanthttp.Resolver) tenanthttp.Resolver {
			return tenanthttp.CrossCheck(host, answer("", tenanthttp.ErrUnauthenticated))
		}, http.StatusUnauthorized, 0},
	} {
		t.Run(name, func(t *testing.T) {
			q := &questions{directory: newDirectory(map[string]string{"mine": "1", "busy": "2", "quiet": "3"})}
			cache := tenanthttp.NewCache(q, tenanthttp.CacheConfig{})
			mw := tenanthttp.Middleware(test.resolve(tenanthttp.Lookup(byHeader, cache)), tenanthttp.Authorize(q.isMember))
			serve(mw, echo, request(header("X-Tenant-ID", "mine")))
			_, err := cache.Tenant(t.Context(), "busy") // for its own members
			require.NoError(t, err)

			for attempt := range 3 {
				for _, name := range []string{"busy", "quiet", "missing"} {
					lookups, authorized := q.lookups(name), q.authorized
					w := serve(mw, echo, request(header("X-Tenant-ID", name)))
					require.Equal(t, test.status, w.Code, name)
					want := 0
					if attempt == 0 {
						want = 1
					}
					require.Equal(t, want, q.lookups(name)-lookups, "lookups of %s, attempt %d", name, attempt)
					require.Equal(t, test.asks, q.authorized-authorized, "Authorize for %s, attempt %d", name, attempt)
				}
			}
		})
	}
}

// TestRefusalCostsTheSameLater: the memory of both ends at the same time, and in the same flood of names.
func TestRefusalCostsTheSameLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &questions{directory: newDirectory(map[string]string{"busy": "2"})}
		cache := tenanthttp.NewCache(q, tenanthttp.CacheConfig{Size: 8, TTL: time.Hour, UnknownTTL: 5 * time.Second})
		mw := tenanthttp.Middleware(tenanthttp.Lookup(byHeader, cache), tenanthttp.Authorize(q.isMember))
		cost := func(name string) int {
			before := q.lookups(name)
			require.Equal(t, http.StatusForbidden, serve(mw, echo, request(header("X-Tenant-ID", name))).Code)
			return q.lookups(name) - before
		}
		_, err := cache.Tenant(t.Context(), "busy")
		require.NoError(t, err)
		both := func(want int, why string) {
			t.Helper()
			require.Equal(t, want, cost("busy"), why)
			require.Equal(t, want, cost("missing"), why)
		}
		both(1, "first")
		both(0, "soon after")
		time.Sleep(5 * time.Second)
		both(1, "later")
		for i := range 9 {
			cost(fmt.Sprint("guess", i))
		}
		both(1, "after a flood")
	})
}

// TestAuthorizeIsAskedForNoTenant: with an id of the form of the others', so that the database answers and does not complain.
func TestAuthorizeIsAskedForNoTenant(t *testing.T) {
	for _, test := range []struct{ real, decoy string }{
		{"7", "0"},
		{"0190a3c2-7b1e-7c3d-9f00-0123456789ab", "00000000-0000-0000-0000-000000000000"},
		{"acme", "-"},
	} {
		var asked []string
		var fails error
		mw := func(options ...tenanthttp.Option) func(http.Handler) http.Handler {
			find := newDirectory(map[string]string{"real": test.real})
			return tenanthttp.Middleware(tenanthttp.Lookup(byHeader, find), append(options,
				tenanthttp.Authorize(func(_ *http.Request, tenant string) (bool, error) {
					asked = append(asked, tenant)
					return true, fails // even for the decoy
				}))...)
		}
		get := func(mw func(http.Handler) http.Handler, name string) int {
			return serve(mw, echo, request(header("X-Tenant-ID", name))).Code
		}
		hides := mw()
		fails = errors.New("the id does not fit the column")
		require.Equal(t, http.StatusForbidden, get(hides, "missing"), "no form is known yet")
		fails = tenanthttp.ErrUnauthenticated
		require.Equal(t, http.StatusUnauthorized, get(hides, "missing"), "as for a tenant that exists")
		fails = nil
		require.Equal(t, http.StatusOK, get(hides, "real"))
		require.Equal(t, http.StatusForbidden, get(hides, "missing"), "whatever Authorize says")
		require.Equal(t, test.decoy, asked[len(asked)-1])
		logTo(t)
		fails = errors.New("the database is gone")
		require.Equal(t, http.StatusInternalServerError, get(hides, "missing"), "as for a tenant that exists")

		asked, fails = nil, nil
		require.Equal(t, http.StatusNotFound, get(mw(tenanthttp.RevealTenants()), "missing"))
		require.Empty(t, asked, "nothing is hidden")
	}
}

// TestCacheSpellings: a finder that ignores case finds many spellings of one name, which must not drive out the other names.
func TestCacheSpellings(t *testing.T) {
	spellings := func(do func(name string)) {
		for i := range 16 {
			name := []byte("acme")
			for bit := range name {
				if i>>bit&1 == 1 {
					name[bit] -= 'a' - 'A'
				}
			}
			do(string(name))
		}
	}
	all := map[string]string{}
	spellings(func(name string) { all[name] = "acme's" })
	for i := range 7 {
		all[fmt.Sprint("real", i)] = fmt.Sprint(i)
	}
	for name, fold := range map[string]bool{"as they are": false, "folded": true} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(all)
			cache := tenanthttp.NewCache(d, tenanthttp.CacheConfig{Size: 8, FoldCase: fold})
			get := func(name string) {
				id, err := cache.Tenant(t.Context(), name)
				require.NoError(t, err)
				require.Equal(t, all[name], id)
			}
			for i := range 7 {
				get(fmt.Sprint("real", i))
			}
			spellings(get)
			for i := range 7 {
				get(fmt.Sprint("real", i))
				require.Equal(t, 1, d.asked[fmt.Sprint("real", i)], "driven out")
			}
			if fold {
				require.Equal(t, 1, d.asked["acme"])
				require.Zero(t, d.asked["ACME"])
				cache.Forget("AcMe")
				get("ACME")
				require.Equal(t, 2, d.asked["acme"])
			}
		})
	}
}

// TestCacheKeepsCase: where case counts, two spellings are two tenants, and neither gets the other's id.
func TestCacheKeepsCase(t *testing.T) {
	cache := tenanthttp.NewCache(newDirectory(map[string]string{"acme": "1", "ACME": "2"}), tenanthttp.CacheConfig{})
	for range 2 {
		require.Equal(t, "1", must(cache.Tenant(t.Context(), "acme")))
		require.Equal(t, "2", must(cache.Tenant(t.Context(), "ACME")))
		_, err := cache.Tenant(t.Context(), "Acme")
		require.ErrorIs(t, err, tenanthttp.ErrUnknownTenant)
	}
}

// TestHostSpellings: what stands for the same host is one name, and what is no host makes no lookup.
func TestHostSpellings(t *testing.T) {
	d := newDirectory(map[string]string{"acme.example.com": "1"})
	resolve := tenanthttp.Domain(d)
	for _, name := range []string{"acme.example.com", "ACME.example.COM", "acme.example.com.", "acme.example.com:443", "acme.example.com.:8080"} {
		require.Equal(t, "1", must(resolve(request(host(name)))), name)
	}
	for _, name := range []string{
		"acme..example.com", ".acme.example.com", "acme.example.com..", "acme.example.com:443:80", "acme.example.com:+80", "user@acme.example.com",
		"acme.example.com/", "acme.example.com,globex.example.com", "acme.example.com globex.example.com", "äcme.example.com", "acme_.example.com",
		"acme.example.com%2e", "acme.example.com\x00", "acme。example.com", "-acme.example.com",
	} {
		_, err := resolve(request(host(name)))
		require.ErrorIs(t, err, tenanthttp.ErrMalformed, name)
	}
	require.Equal(t, map[string]int{"acme.example.com": 5}, d.asked)

	forwarded := request(host("acme.example.com"), header("X-Forwarded-Host", "globex.example.com"), header("Forwarded", "host=globex.example.com"),
		header("X-Host", "globex.example.com"), header("X-Original-Host", "globex.example.com"), header(":authority", "globex.example.com"))
	require.Equal(t, "1", must(resolve(forwarded)))
}

// TestHeaderSpellings: a gateway that removes X-Tenant-ID from outside leaves other spellings, and they are not the header.
func TestHeaderSpellings(t *testing.T) {
	for _, name := range []string{"X_Tenant_ID", "X-Tenant_ID", "X-Tenant-ID ", "X-TenantID", "HTTP_X_TENANT_ID"} {
		_, err := byHeader(request(func(r *http.Request) { r.Header[name] = []string{"globex"} }))
		require.ErrorIs(t, err, tenanthttp.ErrNoTenant, name)
	}
	for _, values := range [][]string{{"acme", "globex"}, {"acme", ""}, {"", "acme"}, {"acme,globex"}, {"acme, globex"}} {
		_, err := byHeader(request(header("X-Tenant-ID", values...)))
		require.ErrorIs(t, err, tenanthttp.ErrMalformed, values)
	}
}
