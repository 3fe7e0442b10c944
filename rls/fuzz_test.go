package rls

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// scanIdent reads a quoted identifier as PostgreSQL's scanner does (PostgreSQL documentation, "Identifiers and Key Words"),
// and returns what comes after it.
func scanIdent(t *testing.T, sql string) (name, rest string) {
	t.Helper()
	require.True(t, strings.HasPrefix(sql, `"`), sql)
	var b strings.Builder
	for sql = sql[1:]; ; {
		before, after, found := strings.Cut(sql, `"`)
		require.True(t, found, "no end")
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after
		}
		b.WriteByte('"')
		sql = after[1:]
	}
}

// scanLiteral reads a string constant likewise ("String Constants"), with standard_conforming_strings on or off.
func scanLiteral(t *testing.T, sql string, conforming bool) (value, rest string) {
	t.Helper()
	escapes := !conforming
	if after, found := strings.CutPrefix(sql, "E"); found {
		sql, escapes = after, true
	}
	require.True(t, strings.HasPrefix(sql, "'"), sql)
	var b strings.Builder
	for n := 1; n < len(sql); n++ {
		switch c := sql[n]; {
		case c == '\\' && escapes:
			n++
			require.Less(t, n, len(sql), "no end")
			require.Contains(t, `\'`, string(sql[n]), "an escape with a meaning of its own")
			b.WriteByte(sql[n])
		case c == '\'' && n+1 < len(sql) && sql[n+1] == '\'':
			n++
			b.WriteByte('\'')
		case c == '\'':
			return b.String(), sql[n+1:]
		default:
			b.WriteByte(c)
		}
	}
	require.Fail(t, "no end", sql)
	return "", ""
}

func FuzzIdent(f *testing.F) {
	for _, name := range []string{"", "tenant_id", "select", `weird "" name`, `"`, `""`, "größe", "a.b", "\x00", strings.Repeat("ä", 40)} {
		f.Add(name, "x")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		strip := func(s string) string { return strings.ReplaceAll(s, "\x00", "") } // PostgreSQL has no names with it
		name, rest := scanIdent(t, ident(first, second))
		require.Equal(t, strip(first), name)
		require.True(t, strings.HasPrefix(rest, "."), rest)
		name, rest = scanIdent(t, rest[1:])
		require.Equal(t, strip(second), name)
		require.Empty(t, rest)
	})
}

func FuzzLiteral(f *testing.F) {
	for _, value := range []string{"", "app.tenant_id", "o'reilly", `back\slash`, `\'`, `'\`, `\\''`, "E'", "\xff'", "größe"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, conforming := range []bool{true, false} {
			scanned, rest := scanLiteral(t, literal(value), conforming)
			require.Equal(t, value, scanned)
			require.Empty(t, rest)
		}
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
