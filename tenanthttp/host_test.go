package tenanthttp_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// longLabel is as long as a label of a name can be.
var longLabel = strings.Repeat("a", 63)

// subdomains are hosts, and the tenants that they name.
var subdomains = []struct {
	host   string
	tenant string
	err    error
}{
	{host: "acme.example.com", tenant: "acme"},
	{host: "acme.example.com:8080", tenant: "acme"},
	{host: "acme.example.com:", tenant: "acme"},
	{host: "ACME.Example.COM", tenant: "acme"},
	{host: "acme.example.com.", tenant: "acme"},
	{host: "acme.example.com.:443", tenant: "acme"},
	{host: "xn--mnchen-3ya.example.com", tenant: "xn--mnchen-3ya"},
	{host: "7.example.com", tenant: "7"},
	{host: longLabel + ".example.com", tenant: longLabel},

	{host: "", err: tenanthttp.ErrNoTenant},
	{host: "example.com", err: tenanthttp.ErrNoTenant},
	{host: "www.example.com", err: tenanthttp.ErrNoTenant},
	{host: "API.example.com", err: tenanthttp.ErrNoTenant},
	{host: "admin.example.com:80", err: tenanthttp.ErrNoTenant},
	{host: "localhost:8080", err: tenanthttp.ErrNoTenant},
	{host: "127.0.0.1", err: tenanthttp.ErrNoTenant},
	{host: "127.0.0.1:8080", err: tenanthttp.ErrNoTenant},
	{host: "[::1]", err: tenanthttp.ErrNoTenant},
	{host: "[::1]:8080", err: tenanthttp.ErrNoTenant},
	{host: "[fe80::1%25eth0]:8080", err: tenanthttp.ErrNoTenant},
	{host: "acme.example.org", err: tenanthttp.ErrNoTenant},
	{host: "acme.example.com.evil.org", err: tenanthttp.ErrNoTenant},
	{host: "evilexample.com", err: tenanthttp.ErrNoTenant},
	{host: "com", err: tenanthttp.ErrNoTenant},

	{host: "a.acme.example.com", err: tenanthttp.ErrMalformed},
	{host: "www.acme.example.com", err: tenanthttp.ErrMalformed},
	{host: ".example.com", err: tenanthttp.ErrMalformed},
	{host: "..example.com", err: tenanthttp.ErrMalformed},
	{host: "acme..example.com", err: tenanthttp.ErrMalformed},
	{host: "acme.example.com..", err: tenanthttp.ErrMalformed},
	{host: "-acme.example.com", err: tenanthttp.ErrMalformed},
	{host: "ac_me.example.com", err: tenanthttp.ErrMalformed},
	{host: "ac me.example.com", err: tenanthttp.ErrMalformed},
	{host: "acme/.example.com", err: tenanthttp.ErrMalformed},
	{host: "acme@example.com", err: tenanthttp.ErrMalformed},
	{host: "münchen.example.com", err: tenanthttp.ErrMalformed},
	{host: "acme\x00.example.com", err: tenanthttp.ErrMalformed},
	{host: "acme.example.com:http", err: tenanthttp.ErrMalformed},
	{host: "acme.example.com:123456", err: tenanthttp.ErrMalformed},
	{host: "::1", err: tenanthttp.ErrMalformed},
	{host: longLabel + "a.example.com", err: tenanthttp.ErrMalformed},
	{host: strings.Repeat("a.", 5<<10) + "example.com", err: tenanthttp.ErrMalformed},
}

func TestSubdomain(t *testing.T) {
	resolve := tenanthttp.Subdomain("Example.com", "api", "Admin")
	for _, test := range subdomains {
		tenant, err := resolve(request(host(test.host)))
		require.ErrorIs(t, err, test.err, "%.40q", test.host)
		require.Equal(t, test.tenant, tenant, "%.40q", test.host)
	}

	tenant, err := tenanthttp.Subdomain("localhost")(request(host("hogwarts.localhost:8080")))
	require.NoError(t, err)
	require.Equal(t, "hogwarts", tenant)
}

// TestSubdomainIgnoresForwardedHost: only a proxy that the application trusts could say what the host was, and the
// package knows none.
func TestSubdomainIgnoresForwardedHost(t *testing.T) {
	tenant, err := tenanthttp.Subdomain("example.com")(request(host("acme.example.com"),
		header("X-Forwarded-Host", "globex.example.com"), header("Forwarded", "host=globex.example.com")))
	require.NoError(t, err)
	require.Equal(t, "acme", tenant)
}

// TestSubdomainBase: a base that others have names below would make them tenants.
func TestSubdomainBase(t *testing.T) {
	for _, base := range []string{"", "com", ".", ".com", "example.com.", "*.example.com", "https://example.com", "127.0.0.1", "example.com:8080"} {
		require.Panics(t, func() { tenanthttp.Subdomain(base) }, base)
	}
	for _, base := range []string{"localhost", "example.co.uk", "app.example.com"} {
		require.NotPanics(t, func() { tenanthttp.Subdomain(base) }, base)
	}
}

func TestDomain(t *testing.T) {
	var asked int
	resolve := tenanthttp.Domain(tenanthttp.VerifiedDomains(func(_ context.Context, domain string) (string, bool, error) {
		asked++
		switch domain {
		case "shop.acme.example":
			return "acme", true, nil
		case "claimed.example":
			return "globex", false, nil
		default:
			return "", false, nil
		}
	}))
	for _, test := range []struct {
		host, tenant string
		err          error
	}{
		{host: "shop.acme.example", tenant: "acme"},
		{host: "SHOP.acme.example.:8443", tenant: "acme"},
		{host: "claimed.example", err: tenanthttp.ErrUnknownTenant},
		{host: "other.example", err: tenanthttp.ErrUnknownTenant},
		{host: "evil.shop.acme.example", err: tenanthttp.ErrUnknownTenant},
	} {
		tenant, err := resolve(request(host(test.host)))
		require.ErrorIs(t, err, test.err, test.host)
		require.Equal(t, test.tenant, tenant, test.host)
	}
	require.Equal(t, 5, asked)

	for _, name := range []string{"", "localhost", "10.0.0.1:80", "[::1]:80"} {
		_, err := resolve(request(host(name)))
		require.ErrorIs(t, err, tenanthttp.ErrNoTenant, name)
	}
	for _, name := range []string{"..", "a..b.example", "a_b.example", strings.Repeat("a", 10<<10) + ".example"} {
		_, err := resolve(request(host(name)))
		require.ErrorIs(t, err, tenanthttp.ErrMalformed, "%.20q", name)
	}
	require.Equal(t, 5, asked, "no lookup for garbage")
}

// TestSubdomainOrDomain is the usual pair: subdomains of the application, else the tenant's own domain.
func TestSubdomainOrDomain(t *testing.T) {
	resolve := tenanthttp.FirstOf(tenanthttp.Subdomain("example.com"),
		tenanthttp.Domain(tenanthttp.FinderFunc(func(_ context.Context, domain string) (string, error) {
			if domain == "acme.org" {
				return "acme", nil
			}
			return "", tenanthttp.ErrUnknownTenant
		})))
	for name, want := range map[string]string{"globex.example.com": "globex", "acme.org": "acme"} {
		tenant, err := resolve(request(host(name)))
		require.NoError(t, err, name)
		require.Equal(t, want, tenant)
	}
	_, err := resolve(request(host("example.com.evil.org")))
	require.ErrorIs(t, err, tenanthttp.ErrUnknownTenant)
}
