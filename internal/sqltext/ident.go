package sqltext

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// MaxIdentifier is the length in bytes at which PostgreSQL cuts an identifier off (NAMEDATALEN - 1,
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS).
const MaxIdentifier = 63

// Ident quotes an identifier, and qualifies it where several parts are given.
func Ident(parts ...string) string {
	return pgx.Identifier(parts).Sanitize()
}

// Idents quotes identifiers and joins them by commas.
func Idents(names []string) string {
	quoted := make([]string, len(names))
	for n, name := range names {
		quoted[n] = Ident(name)
	}
	return strings.Join(quoted, ", ")
}

// UniqueIndexName is the name of a unique index on the columns of a table.
func UniqueIndexName(table string, columns ...string) string {
	return Fit("uni_" + table + "_" + strings.Join(columns, "_"))
}

// IndexName is the name of an index on the columns of a table.
func IndexName(table string, columns ...string) string {
	return Fit("idx_" + table + "_" + strings.Join(columns, "_"))
}

// Fit shortens a name that is too long for PostgreSQL, which would cut it off silently. A hash keeps it distinct.
func Fit(name string) string {
	if len(name) <= MaxIdentifier {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return Cut(name, MaxIdentifier-9) + "_" + hex.EncodeToString(sum[:4])
}

// Cut returns as much of s as fits into so many bytes without breaking a character, as PostgreSQL does.
func Cut(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:size]
}
