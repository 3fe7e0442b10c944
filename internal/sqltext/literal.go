// Package sqltext writes names and values into SQL text, and knows the limits and versions of PostgreSQL.
package sqltext

import "strings"

// Literal quotes a string constant. A backslash escapes in a plain one where standard_conforming_strings is off, and does
// not where it is on; in an escape string constant it always does
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE).
func Literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
