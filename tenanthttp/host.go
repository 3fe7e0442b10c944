package tenanthttp

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/tenanthttp/internal/request"
)

// Subdomain reads the tenant from the host name: it is "acme" for acme.example.com, if the base is example.com. Ports, case and
// a trailing dot do not matter. "www" and the reserved labels, such as "api", name no tenant. Nor do the base itself, IP
// addresses, and hosts outside the base, which may be tenants' own (see [Domain]). A name of several labels below the base is
// [ErrMalformed].
//
// Only the request's Host counts. Configure a proxy to pass it on; X-Forwarded-Host is not read, because anyone can write it.
//
// The base is a domain that belongs to the application alone, of two labels or more, or "localhost". Subdomain panics if it is
// not such a name, as [http.ServeMux] does for a bad pattern.
func Subdomain(base string, reserved ...string) Resolver {
	base = strings.ToLower(base)
	if !isHostname(base) || isIP(base) || !strings.Contains(base, ".") && base != "localhost" {
		panic(fmt.Sprintf("tenanthttp: the base %q of Subdomain must be a domain such as example.com, or localhost", base))
	}
	reserved = append([]string{"www"}, reserved...)
	for i := range reserved {
		reserved[i] = strings.ToLower(reserved[i])
	}
	return func(r *http.Request) (string, error) {
		host, err := hostname(r)
		if err != nil {
			return "", err
		}
		label, below := strings.CutSuffix(host, "."+base)
		switch {
		case !below || slices.Contains(reserved, label):
			return "", ErrNoTenant
		case strings.Contains(label, "."):
			return "", malformed("the host name has more than one label below the base")
		default:
			return label, nil
		}
	}
}

// Domain reads the tenant from the whole host name, by looking up which tenant it belongs to: tenants' own domains. Use
// [VerifiedDomains] for the lookup, or a tenant can claim a domain of another.
func Domain(lookup Finder) Resolver {
	return Lookup(func(r *http.Request) (string, error) {
		host, err := hostname(r)
		if err == nil && !strings.Contains(host, ".") {
			return "", ErrNoTenant
		}
		return host, err
	}, lookup)
}

// hostname returns the host that a request was sent to, in lower case, without port and trailing dot.
func hostname(r *http.Request) (string, error) {
	request.Of(r.Context()).DependsOn("Host")
	host := r.Host
	if len(host) > 260 { // a name of 253 bytes, a dot, a colon, a port
		return "", malformed("the host name is too long")
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		if !isPort(host[i+1:]) {
			return "", malformed("the host's port is not a number")
		}
		host = host[:i]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case host == "" || isIP(host):
		return "", ErrNoTenant
	case !isHostname(host):
		return "", malformed("the host is not a valid host name")
	default:
		return host, nil
	}
}

func isPort(s string) bool {
	return len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}

func isIP(host string) bool {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil
}

// isHostname reports whether s, in lower case, is a name of letters, digits and hyphens (RFC 1123). International names come in
// this form, as punycode.
func isHostname(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
