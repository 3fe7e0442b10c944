// Package policy recognizes the row-level security policies that keep tenants apart.
package policy

import (
	"regexp"
	"strings"
	"unicode"
)

// Pattern returns a regular expression for what pg_get_expr writes of the expression of a policy on a table with this tenant
// column, by which each tenant reaches its own rows only. It means the same to package regexp and to PostgreSQL.
//
// It matches a comparison of the column with the setting: as package rls writes it, and in the forms in which people write
// it by hand: with or without the scalar sub-select and NULLIF, with one or two arguments of current_setting, with or without
// a cast of the setting to a type that cannot make two ids the same, and with the sides in either order. The column stands
// alone, or is cast to text of any length. Other conditions may follow it or precede it, if they are joined by AND.
//
// PostgreSQL writes each operator with its operands in parentheses of their own. So an expression that begins with
// "((column = setting) AND " is that AND, and no OR of it with something else, which would begin with a third parenthesis. It
// is the same with the end.
//
// The names of functions, operators and types are those of pg_catalog only if the expression uses no others: that cannot be
// seen in its text, so UsesOthers has to be asked as well.
func Pattern(setting, column string) string {
	const (
		// varchar stands for text here, bpchar does not: it ignores spaces at the end, and name cuts off.
		text  = `(?:text|character varying)`
		types = `(?:text|character varying|uuid|smallint|integer|bigint)`
		equal = ` (?:=|OPERATOR\(pg_catalog\.=\)) `
		alias = `(?: AS (?:[a-z_][a-z0-9_]*|"[^"]+"))?`
		rest  = `(?:.|\n)+`
	)
	read := `(?:pg_catalog\.)?current_setting\('` + anyCase(setting) + `'::text(?:, (?:true|false))?\)`
	value := `(?:` + read + `|NULLIF\(` + read + `, ''::text\))`
	cast := `(?:` + value + `|\(` + value + `\)::` + types + `|\(\(` + value + `\)::` + types + `\)::` + types + `)`
	query := `\( SELECT ` + cast + alias + `\)`
	current := `(?:` + cast + `|` + query + `|\(` + query + `\)::` + types + `)`
	name := identifier(column)
	name = `(?:` + name + `|\(` + name + `\)::` + text + `)`
	comparison := `\((?:` + name + equal + current + `|` + current + equal + name + `)\)`
	return `^(?:false|` + comparison + `|\(` + comparison + ` AND ` + rest + `\)|\(` + rest + ` AND ` + comparison + `\))$`
}

// UsesOthers returns SQL that reports whether an expression, given as SQL of the type pg_node_tree, uses functions, operators or
// types that are not PostgreSQL's own. Their names can hide PostgreSQL's from pg_get_expr where they come first in the
// search_path. Oids from 16384 on are given to what is created in a database
// (https://www.postgresql.org/docs/current/system-catalog-initial-data.html#SYSTEM-CATALOG-OID-ASSIGNMENT).
func UsesOthers(tree string) string {
	return `EXISTS (SELECT FROM pg_catalog.regexp_matches((` + tree + `)::pg_catalog.text,` +
		` ' :(?:funcid|opno|opfuncid|resulttype|consttype) ([0-9]+)', 'g') used (oid)` +
		` WHERE used.oid[1]::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid)`
}

// anyCase matches the name of a setting in a string constant. PostgreSQL does not mind the case of ASCII letters.
func anyCase(setting string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(setting, "'", "''") {
		lower, upper := string(unicode.ToLower(r)), string(unicode.ToUpper(r))
		if r < unicode.MaxASCII && lower != upper {
			b.WriteString("[" + lower + upper + "]")
		} else {
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return b.String()
}

var needsNoQuotes = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// identifier matches the name of a column, which PostgreSQL quotes where it is not in lower case, or a keyword.
func identifier(name string) string {
	quoted := regexp.QuoteMeta(`"` + strings.ReplaceAll(name, `"`, `""`) + `"`)
	if needsNoQuotes.MatchString(name) {
		return `(?:` + name + `|` + quoted + `)`
	}
	return quoted
}
