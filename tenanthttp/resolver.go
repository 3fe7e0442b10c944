package tenanthttp

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// A Resolver returns which tenant a request names. It returns [ErrNoTenant] for none, and another error of this package if the
// request is wrong. Any other error is the server's.
type Resolver func(*http.Request) (string, error)

// Header reads the tenant from a request header, as API gateways and internal services write it. Anyone can write it:
// use it with [Authorize], or in [CrossCheck] with a token.
func Header(name string) Resolver {
	return func(r *http.Request) (string, error) {
		request.Of(r.Context()).DependsOn(name)
		return one(r.Header.Values(name))
	}
}

// Cookie reads the tenant from a cookie, which the browser's user can change: use it with [Authorize]. For sessions that the
// server keeps, see [Func].
func Cookie(name string) Resolver {
	return func(r *http.Request) (string, error) {
		request.Of(r.Context()).DependsOn("Cookie")
		var values []string
		for _, c := range r.CookiesNamed(name) {
			values = append(values, c.Value)
		}
		return one(values)
	}
}

// PathValue reads the tenant from a wildcard of the route, such as {tenant} of "GET /t/{tenant}/orders", by
// [http.Request.PathValue]. The middleware must be inside the route, not around the router. Around the router there is no value,
// and the result is [ErrNoTenant].
func PathValue(name string) Resolver {
	return func(r *http.Request) (string, error) { return one([]string{r.PathValue(name)}) }
}

// Func reads the tenant by a function, for example from a session that another middleware has loaded. The empty string means no
// tenant.
func Func(get func(*http.Request) string) Resolver {
	return func(r *http.Request) (string, error) {
		request.Of(r.Context()).DependsOn("Authorization", "Cookie")
		return one([]string{get(r)})
	}
}

// FirstOf asks one resolver after the other until one does not return [ErrNoTenant]. Any other error ends the search, so that an
// invalid name in one place is not hidden by a valid one in another.
func FirstOf(resolvers ...Resolver) Resolver {
	return func(r *http.Request) (string, error) {
		none := ErrNoTenant
		for _, resolve := range resolvers {
			tenant, err := resolve(r)
			if !errors.Is(err, ErrNoTenant) {
				return tenant, err
			}
			none = errors.Join(none, err) // where a token was expected, it stays an ErrUnauthenticated too
		}
		return "", none
	}
}

// CrossCheck asks all resolvers. Each must name a tenant, and all the same one, otherwise the result is [ErrMismatch]: a header
// or a host name must agree with the token, so that forging one of them does not help.
//
// Errors of the request itself are returned before errors that depend on whether a tenant exists.
func CrossCheck(resolvers ...Resolver) Resolver {
	return func(r *http.Request) (string, error) {
		var tenant string
		worst := ErrNoTenant // of no resolvers
		for i, resolve := range resolvers {
			named, err := resolve(r)
			switch {
			case i == 0:
				tenant, worst = named, err
			case err == nil && worst == nil && named != tenant:
				worst = ErrMismatch
			case rank(err) > rank(worst):
				worst = err
			}
		}
		if worst != nil {
			return "", worst
		}
		return tenant, nil
	}
}

// rank orders errors by how much they say about tenants. CrossCheck returns the one that says least, which has the highest rank.
func rank(err error) int {
	for i, class := range []error{ErrUnknownTenant, ErrForbidden, ErrNoTenant, ErrUnauthenticated, ErrMalformed} {
		if errors.Is(err, class) {
			return i + 1
		}
	}
	if err != nil {
		return 6 // the server's own
	}
	return 0
}

// one returns the only value.
func one(values []string) (string, error) {
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", ErrNoTenant
	case len(values) > 1:
		return "", malformed("it is named more than once")
	case !isName(values[0]):
		return "", malformed("a tenant's name is up to 128 letters, digits and -._~:@, beginning with a letter or a digit")
	default:
		return values[0], nil
	}
}

// isName reports whether s may be a tenant's name or id. Anything else is refused before a lookup.
func isName(s string) bool {
	if s == "" || len(s) > 128 || !isAlphanumeric(s[0]) || strings.Contains(s, "..") || strings.HasSuffix(s, ".") {
		return false
	}
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && !strings.ContainsRune("-._~:@", rune(s[i])) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
