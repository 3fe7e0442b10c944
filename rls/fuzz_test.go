package rls

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/sqltext/scan"
)

func FuzzIdent(f *testing.F) {
	for _, name := range []string{"", "tenant_id", "select", `weird "" name`, `"`, `""`, "größe", "a.b", "\x00", strings.Repeat("ä", 40)} {
		f.Add(name, "x")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		strip := func(s string) string { return strings.ReplaceAll(s, "\x00", "") } // PostgreSQL has no names with it
		name, rest := scan.Ident(t, ident(first, second))
		require.Equal(t, strip(first), name)
		require.True(t, strings.HasPrefix(rest, "."), rest)
		name, rest = scan.Ident(t, rest[1:])
		require.Equal(t, strip(second), name)
		require.Empty(t, rest)
	})
}

// FuzzBlock tests that nothing in a statement ends the block it is in, and that a comment ends with its line.
func FuzzBlock(f *testing.F) {
	for _, sql := range []string{"", "$$", "$tenancy0$", "$$ $tenancy0$ $tenancy1$", "$", "x\n; DROP TABLE y", "\u2028", "\x85"} {
		f.Add(sql, sql)
	}
	f.Fuzz(func(t *testing.T, sql, condition string) {
		script := Change{SQL: sql, held: condition + " "}.script()
		script, found := strings.CutPrefix(script, "-- +goose StatementBegin\nDO ")
		require.True(t, found)
		tag, body, found := strings.Cut(script, "\n")
		require.True(t, found)
		require.Regexp(t, `^\$([a-z]+[0-9]+)?\$$`, tag)
		body, rest, found := strings.Cut(body, tag)
		require.True(t, found)
		require.Equal(t, ";\n-- +goose StatementEnd\n", rest)
		require.Contains(t, body, sql)
		require.Contains(t, body, condition)
		require.NotContains(t, comment(sql), "\n")
		require.NotContains(t, comment(sql), "\r")
	})
}

func FuzzName(f *testing.F) {
	for _, table := range []string{"", "orders", strings.Repeat("ä", 40), strings.Repeat("a", 63), "\xff", strings.Repeat("\xc3", 90)} {
		f.Add(table, "id")
	}
	f.Fuzz(func(t *testing.T, table, column string) {
		for _, name := range []string{keyName(table, []string{column}), sequenceName(table, column), cut(table, maxIdentifier)} {
			require.LessOrEqual(t, len(name), maxIdentifier)
			if utf8.ValidString(table) && utf8.ValidString(column) {
				require.True(t, utf8.ValidString(name))
			}
		}
		if name := keyName(table, []string{column}); len("uni__"+table+column) <= maxIdentifier {
			require.Equal(t, "uni_"+table+"_"+column, name)
		} else {
			require.NotEqual(t, name, keyName(table, []string{column + "x"}))
		}
	})
}
