package tenanthttp_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// fuzzed checks what holds for every resolver and every input: no panic, an error of this package or a tenant, never both,
// and only names that can do no harm.
func fuzzed(t *testing.T, resolve tenanthttp.Resolver, r *http.Request) string {
	t.Helper()
	tenant, err := resolve(r)
	switch {
	case err != nil && tenant != "":
		t.Fatalf("%q with the error %v", tenant, err)
	case err != nil && tenanthttp.Status(err) == http.StatusInternalServerError:
		t.Fatalf("the client's garbage became the server's error: %v", err)
	case err == nil && (tenant == "" || len(tenant) > 128 || !utf8.ValidString(tenant) ||
		strings.ContainsAny(tenant, " /\\'\"`;%,?#&<>\x00\r\n\t") || strings.Contains(tenant, "..")):
		t.Fatalf("%q is no tenant", tenant)
	}
	return tenant
}

func FuzzHeader(f *testing.F) {
	for _, n := range names {
		f.Add(n.value, "")
	}
	f.Add("acme", "globex")
	f.Fuzz(func(t *testing.T, first, second string) {
		values := []string{first}
		if second != "" {
			values = append(values, second)
		}
		tenant := fuzzed(t, tenanthttp.Header("X-Tenant"), request(func(r *http.Request) { r.Header["X-Tenant"] = values }))
		if tenant != "" && (second != "" || tenant != first) {
			t.Fatalf("%q of %q", tenant, values)
		}
	})
}

func FuzzPathAndSession(f *testing.F) {
	for _, n := range names {
		f.Add(n.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		fuzzed(t, tenanthttp.PathValue("tenant"), request(func(r *http.Request) { r.SetPathValue("tenant", value) }))
		fuzzed(t, tenanthttp.Func(func(*http.Request) string { return value }), request())
	})
}

func FuzzCookie(f *testing.F) {
	f.Add("tenant=acme; tenant=globex")
	f.Add(`tenant="acme"`)
	f.Add("tenant=a\x00; x")
	f.Fuzz(func(t *testing.T, line string) {
		fuzzed(t, tenanthttp.Cookie("tenant"), request(func(r *http.Request) { r.Header["Cookie"] = []string{line} }))
	})
}

func FuzzHost(f *testing.F) {
	for _, h := range []string{
		"acme.example.com", "ACME.Example.com.:8080", "a.b.example.com", "[::1]:80", "1.2.3.4", "xn--x.example.com", "..", "",
		"example.com.evil.org", "evilexample.com", "acme.example.com:x", "\x00.example.com", strings.Repeat("a.", 5000),
	} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, name string) {
		tenant := fuzzed(t, tenanthttp.Subdomain("example.com", "api"), request(host(name)))
		if tenant != "" && (!strings.HasPrefix(strings.ToLower(name), tenant+".example.com") || strings.Contains(tenant, ".")) {
			t.Fatalf("%q of %q", tenant, name)
		}
		fuzzed(t, tenanthttp.Domain(tenanthttp.FinderFunc(func(_ context.Context, domain string) (string, error) {
			if len(domain) > 253 || domain != strings.ToLower(domain) || strings.Trim(domain, ".-") != domain {
				t.Fatalf("looked up %q", domain)
			}
			return "acme", nil
		})), request(host(name)))
	})
}

// FuzzToken knows no valid token, so none may be believed, but for the one it starts from.
func FuzzToken(f *testing.F) {
	tokens := newTokens(f, "EdDSA", edKey().Public())
	good := sign(f, edMethod, edKey(), claims())
	f.Add("Bearer " + good)
	f.Add("Bearer " + good[:len(good)-2])
	f.Add("Bearer eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJhY21lIn0.")
	f.Add("Bearer ..")
	f.Add("Basic x")
	f.Fuzz(func(t *testing.T, value string) {
		tenant := fuzzed(t, tokens.Claim("tenant"), request(func(r *http.Request) { r.Header["Authorization"] = []string{value} }))
		if tenant != "" && !strings.Contains(value, good[:len(good)-2]) {
			t.Fatalf("a forged token was believed")
		}
	})
}

func FuzzJWKS(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"1","n":"AQAB","e":"AQAB"},null]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		tokens, err := tenanthttp.NewTokens(tenanthttp.TokenConfig{
			Algorithms: []string{"RS256", "ES256", "EdDSA"}, JWKS: document, Issuer: "i", Audience: "a",
		})
		if (tokens == nil) == (err == nil) {
			t.Fatal("neither, or both")
		}
	})
}
