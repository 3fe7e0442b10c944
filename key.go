package tenancy

import (
	"context"
	"strings"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// Key returns a key for a cache, a lock or singleflight that carries the context's tenant, such as "tenant:acme:user:7". What is kept under
// it belongs to this tenant: two tenants, or two lists of parts, never share a key, because bytes other than letters, digits and "-._~@/"
// are escaped as in URLs. So a key has neither spaces nor line breaks. It is as long as its parts.
//
// It returns ErrNoTenant for a context without a tenant, and for one of WithoutTenant, so that nothing is kept for all tenants by
// mistake: name a key for shared rows yourself. A client of Bypass does not show in the context: do not keep the rows of all tenants
// that it reads under the key of one.
func Key(ctx context.Context, parts ...string) (string, error) {
	if err := guard.CheckTenant(ctx); err != nil {
		return "", err
	}
	id, _ := guard.Tenant(ctx)
	if id == "" {
		return "", wrapf(ErrNoTenant, "the key of a cache needs one, and a context of WithoutTenant has none")
	}
	var key strings.Builder
	key.WriteString("tenant:")
	escapePart(&key, id)
	for _, part := range parts {
		key.WriteByte(':')
		escapePart(&key, part)
	}
	return key.String(), nil
}

func escapePart(key *strings.Builder, part string) {
	const hex = "0123456789ABCDEF"
	for i := range len(part) {
		switch c := part[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~@/", c) >= 0:
			key.WriteByte(c)
		default:
			key.WriteByte('%')
			key.WriteByte(hex[c>>4])
			key.WriteByte(hex[c&15])
		}
	}
}
