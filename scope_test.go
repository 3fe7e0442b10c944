package tenancy_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

// ulid is stored as 16 bytes, and written as text that is not a UUID's.
type ulid [16]byte

func (u ulid) MarshalText() ([]byte, error) {
	if u[0] == 0xff {
		return nil, errors.New("no ULID")
	}
	return fmt.Appendf(nil, "ULID-%x", u[0]), nil
}

func (u ulid) Value() (driver.Value, error) { return u[:], nil }

// stored is text that the database has under another name.
type stored string

func (s stored) Value() (driver.Value, error) {
	if s == "broken" {
		return nil, errors.New("broken")
	}
	return "t-" + string(s), nil
}

func TestTenantFromContext(t *testing.T) {
	type (
		text   string
		number int64
	)
	ctx := context.Background()
	for _, c := range []struct {
		ctx  context.Context
		want string // empty: none
	}{
		{ctx, ""},
		{tenancy.WithTenant(ctx, "acme"), "acme"},
		{tenancy.WithTenant(ctx, text("Ünïcode 'quoted' \\")), "Ünïcode 'quoted' \\"},
		{tenancy.WithTenant(ctx, 42), "42"},
		{tenancy.WithTenant(ctx, number(-42)), "-42"},
		{tenancy.WithTenant(ctx, uint64(math.MaxUint64)), "18446744073709551615"},
		{tenancy.WithTenant(ctx, uint8(7)), "7"},
		{tenancy.WithTenant(ctx, [16]byte{0xab, 15: 1}), "ab000000-0000-0000-0000-000000000001"},
		{tenancy.WithTenant(ctx, UUID{0xab, 15: 1}), "ab000000-0000-0000-0000-000000000001"},
		{tenancy.WithTenant(ctx, ulid{0xab, 15: 1}), "ULID-ab"},
		{tenancy.WithTenant(ctx, ulid{0xff}), ""},
		{tenancy.WithTenant(ctx, stored("acme")), "t-acme"},
		{tenancy.WithTenant(ctx, stored("broken")), ""},
		{tenancy.WithTenant(tenancy.WithTenant(ctx, "acme"), "globex"), "globex"},
		{tenancy.WithTenant(tenancy.WithTenant(ctx, "acme"), ""), ""},
		{tenancy.WithTenant(ctx, text("")), ""},
		{tenancy.WithTenant(ctx, number(0)), ""},
		{tenancy.WithTenant(ctx, UUID{}), ""},
		{tenancy.WithTenant(ctx, "a\x00b"), ""},
		{tenancy.WithTenant(ctx, "\xff"), ""},
		{tenancy.WithTenant(ctx, strings.Repeat("x", 1025)), ""},
		{tenancy.WithoutTenant(tenancy.WithTenant(ctx, "acme")), ""},
		{tenancy.WithTenant(tenancy.WithoutTenant(ctx), "acme"), "acme"},
	} {
		id, ok := tenancy.TenantFromContext(c.ctx)
		require.Equal(t, c.want, id)
		require.Equal(t, c.want != "", ok)
	}
}
