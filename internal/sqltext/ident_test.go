package sqltext_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/internal/sqltext/scan"
)

func TestIdent(t *testing.T) {
	for in, want := range map[string]string{
		"tenant_id":      `"tenant_id"`,
		"select":         `"select"`,
		`we"ird`:         `"we""ird"`,
		`"; DROP x; --`:  `"""; DROP x; --"`,
		"name.with.dots": `"name.with.dots"`,
		"größe":          `"größe"`,
	} {
		require.Equal(t, want, sqltext.Ident(in))
	}
	require.Equal(t, `"billing"."invoices"`, sqltext.Ident("billing", "invoices"))
	require.Equal(t, `"a", "b"`, sqltext.Idents([]string{"a", "b"}))
}

func FuzzIdent(f *testing.F) {
	for _, name := range []string{"", "tenant_id", "select", `weird "" name`, `"`, `""`, "größe", "a.b", "\x00", strings.Repeat("ä", 40)} {
		f.Add(name, "x")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		strip := func(s string) string { return strings.ReplaceAll(s, "\x00", "") } // PostgreSQL has no names with it
		name, rest := scan.Ident(t, sqltext.Ident(first, second))
		require.Equal(t, strip(first), name)
		require.True(t, strings.HasPrefix(rest, "."), rest)
		name, rest = scan.Ident(t, rest[1:])
		require.Equal(t, strip(second), name)
		require.Empty(t, rest)
	})
}

func TestIndexNameFitsPostgreSQL(t *testing.T) {
	require.Equal(t, "uni_orders_tenant_id_id", sqltext.UniqueIndexName("orders", "tenant_id", "id"))
	require.Equal(t, "idx_orders_tenant_id", sqltext.IndexName("orders", "tenant_id"))
	for _, long := range []string{strings.Repeat("ä", 40), strings.Repeat("länge", 10)} {
		name := sqltext.UniqueIndexName(long, "tenant_id", "id")
		require.LessOrEqual(t, len(name), sqltext.MaxIdentifier)
		require.True(t, utf8.ValidString(name))
		require.NotEqual(t, name, sqltext.UniqueIndexName(long, "tenant_id", "code"))
	}
	require.Equal(t, strings.Repeat("ä", 31), sqltext.Cut(strings.Repeat("ä", 40), sqltext.MaxIdentifier))
}

func FuzzIndexName(f *testing.F) {
	for _, table := range []string{"", "orders", strings.Repeat("ä", 40), strings.Repeat("a", 63), "\xff", strings.Repeat("\xc3", 90)} {
		f.Add(table, "id")
	}
	f.Fuzz(func(t *testing.T, table, column string) {
		for _, name := range []string{sqltext.UniqueIndexName(table, column), sqltext.Cut(table, sqltext.MaxIdentifier)} {
			require.LessOrEqual(t, len(name), sqltext.MaxIdentifier)
			if utf8.ValidString(table) && utf8.ValidString(column) {
				require.True(t, utf8.ValidString(name))
			}
		}
		if name := sqltext.UniqueIndexName(table, column); len("uni__"+table+column) <= sqltext.MaxIdentifier {
			require.Equal(t, "uni_"+table+"_"+column, name)
		} else {
			require.NotEqual(t, name, sqltext.UniqueIndexName(table, column+"x"))
		}
	})
}
