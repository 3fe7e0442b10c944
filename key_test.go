package tenancy_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

// TestKeyIsUnambiguous: no two tenants, and no two lists of parts, have the same key.
func TestKeyIsUnambiguous(t *testing.T) {
	texts := []string{"", "a", "b", "a:b", "b:a", ":", "%", "%3A", "a%3Ab", "A", "a b", "a\n", "a\x00", "ä", "\xff", "tenant", "tenant:a"}
	seen := map[string]string{}
	add := func(tenant string, parts ...string) {
		key, err := tenancy.Key(tenancy.WithTenant(t.Context(), tenant), parts...)
		require.NoError(t, err)
		require.Regexp(t, `^tenant:[A-Za-z0-9._~@/%:-]+$`, key, "fit for any cache")
		what := fmt.Sprintf("%q %q", tenant, parts)
		require.Empty(t, seen[key], "%s has the key of another: %s", what, key)
		seen[key] = what
	}
	for _, tenant := range []string{"a", "b", "a:b", "A", "%", "a%3Ab", "ä", "tenant"} {
		add(tenant)
		for _, one := range texts {
			add(tenant, one)
			for _, two := range texts {
				add(tenant, one, two)
			}
		}
	}
}

func TestKeyNeedsATenant(t *testing.T) {
	for name, ctx := range map[string]context.Context{
		"nothing":       t.Context(),
		"WithoutTenant": tenancy.WithoutTenant(tenancy.WithTenant(t.Context(), "acme")),
		"empty":         tenancy.WithTenant(tenancy.WithTenant(t.Context(), "acme"), ""),
		"too long":      tenancy.WithTenant(t.Context(), string(make([]byte, 2000))),
	} {
		key, err := tenancy.Key(ctx, "user")
		require.ErrorIs(t, err, tenancy.ErrNoTenant, name)
		require.Empty(t, key, name)
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a", "b", "a", "b")
	f.Add("a:b", "c", "a", "b:c")
	f.Fuzz(func(t *testing.T, tenant1, part1, tenant2, part2 string) {
		one, err1 := tenancy.Key(tenancy.WithTenant(t.Context(), tenant1), part1)
		two, err2 := tenancy.Key(tenancy.WithTenant(t.Context(), tenant2), part2)
		if err1 == nil && err2 == nil && one == two && (tenant1 != tenant2 || part1 != part2) {
			t.Fatalf("%q %q and %q %q share the key %q", tenant1, part1, tenant2, part2, one)
		}
	})
}

// The tenant is in the key, so a cache that all tenants share gives each its own.
func ExampleKey() {
	cache := map[string]string{}
	for _, tenant := range []string{"acme", "globex"} {
		ctx := tenancy.WithTenant(context.Background(), tenant)
		key, err := tenancy.Key(ctx, "report", "2026:Q4")
		if err != nil {
			fmt.Println(err)
			return
		}
		cache[key] = "report of " + tenant
		fmt.Println(key)
	}
	fmt.Println(len(cache))

	_, err := tenancy.Key(context.Background(), "report")
	fmt.Println(err != nil)
	// Output:
	// tenant:acme:report:2026%3AQ4
	// tenant:globex:report:2026%3AQ4
	// 2
	// true
}
