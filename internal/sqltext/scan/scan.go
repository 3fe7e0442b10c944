// Package scan reads pieces of SQL text as PostgreSQL's scanner does, so that tests can tell where they end
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
package scan

import (
	"strings"
	"testing"
)

// Ident reads a quoted identifier, and returns what comes after it. It fails the test if there is none.
func Ident(t testing.TB, sql string) (name, rest string) {
	t.Helper()
	sql, found := strings.CutPrefix(sql, `"`)
	var b strings.Builder
	for found {
		var before string
		if before, sql, found = strings.Cut(sql, `"`); !found {
			break
		}
		b.WriteString(before)
		if !strings.HasPrefix(sql, `"`) {
			return b.String(), sql
		}
		b.WriteByte('"')
		sql = sql[1:]
	}
	t.Fatalf("no quoted identifier, or one without an end")
	return "", ""
}

// Literal reads a string constant, with standard_conforming_strings on or off, and returns what comes after it. It fails
// the test if there is none, and if it holds an escape with a meaning of its own, such as \n.
func Literal(t testing.TB, sql string, conforming bool) (value, rest string) {
	t.Helper()
	sql, escapes := strings.CutPrefix(sql, "E")
	escapes = escapes || !conforming
	if !strings.HasPrefix(sql, "'") {
		t.Fatalf("no string constant: %q", sql)
	}
	var b strings.Builder
	for n := 1; n < len(sql); n++ {
		switch c := sql[n]; {
		case c == '\\' && escapes:
			n++
			if n == len(sql) || sql[n] != '\\' && sql[n] != '\'' {
				t.Fatalf("an escape with a meaning of its own: %q", sql)
			}
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
	t.Fatalf("a string constant without an end: %q", sql)
	return "", ""
}
