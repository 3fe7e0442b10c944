package rls

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// ident quotes an identifier, and qualifies it where several parts are given.
func ident(parts ...string) string {
	return pgx.Identifier(parts).Sanitize()
}

// identList quotes identifiers and joins them by commas.
func identList(names []string) string {
	quoted := make([]string, len(names))
	for n, name := range names {
		quoted[n] = ident(name)
	}
	return strings.Join(quoted, ", ")
}
