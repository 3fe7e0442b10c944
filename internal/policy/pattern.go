package policy

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Pattern returns a regular expression for what pg_get_expr writes of the expression of a policy on a table with the tenant
// column, by which each tenant reaches its own rows only. It means the same to package regexp and to PostgreSQL.
//
// It matches a comparison of the column with the setting: as package rls writes it, and in the forms in which people write
// it by hand: with or without the scalar subquery and NULLIF, with one or two arguments of current_setting, with or without
// casts of the setting to types that cannot make two ids the same, and with the sides in either order. The column stands
// alone, or is cast to text of any length. Behind such a comparison others may follow, joined by AND.
//
// The function of package signing takes the place of the setting, according to the form. What Either makes is taken without a key too:
// it isolates as the setting does.
//
// It does not count parentheses, because PostgreSQL writes them in pairs, around each operator with its operands: with the few
// words that it allows, no other expression can be made. What begins with "((column = setting) AND " is that AND, and no OR of
// it with something else, which would begin with a third parenthesis.
//
// The names of functions, operators and types are those of pg_catalog only if the expression uses no others: that cannot be
// seen in its text, so UsesOthers has to be asked as well.
func (c Config) Pattern() string {
	const (
		// Not bpchar, which ignores spaces at the end, nor name, which cuts off.
		text   = `(?:text|character varying)`
		types  = `(?:text|character varying|uuid|smallint|integer|bigint)`
		equal  = ` (?:=|OPERATOR\(pg_catalog\.=\)) `
		before = `(?:\(| SELECT |NULLIF\()*`
		after  = `(?:\)|, ''::text\)|::` + types + `| AS (?:[a-z_][a-z0-9_]*|"[^"]+"))*`
	)
	var sources []string
	if c.Form != Signed {
		sources = []string{`(?:pg_catalog\.)?current_setting\('` + anyCase(c.Setting) + `'::text(?:, (?:true|false))?\)`, calls(signing.FunctionTenantEither, c.Setting)}
	}
	if c.Form != Unsigned {
		sources = append(sources, calls(signing.FunctionTenant, c.Setting))
	}
	current := before + `(?:` + strings.Join(sources, `|`) + `)` + after
	name := identifier(c.Column)
	name = `(?:` + name + `|\(` + name + `\)::` + text + `)`
	alternatives := []string{
		`false`,
		`\(` + name + equal + current + `\)`,
		`\(` + current + equal + name + `\)`,
		`\(\(` + name + equal + current + `\) AND (?:.|\n)+\)`,
	}
	return `^(?:` + strings.Join(alternatives, `|`) + `)$`
}

// calls matches a call of a function of package signing.
func calls(function, setting string) string {
	return regexp.QuoteMeta(writtenCall(function, setting))
}

// Binds returns SQL for whether an expression of a policy lets through the rows of the tenant alone, as Judge says in Go: the plugin
// asks with each statement, and the answer has to be PostgreSQL's. It is NULL where there is no expression. The pattern is SQL for what
// Pattern returns.
func Binds(tree, relation, pattern string) string {
	return `CASE WHEN ` + tree + ` IS NOT NULL THEN pg_catalog.pg_get_expr(` + tree + `, ` + relation + `) OPERATOR(pg_catalog.~) ` +
		pattern + ` AND NOT ` + UsesOthers(tree) + ` END`
}

// UsesOthers returns SQL that reports whether an expression, given as SQL of the type pg_node_tree, uses functions, operators or
// types that are not PostgreSQL's own, other than the functions of package signing. Their names can hide PostgreSQL's from pg_get_expr where they come first in the
// search_path. Oids from 16384 on are given to what is created in a database
// (https://www.postgresql.org/docs/current/system-catalog-initial-data.html#SYSTEM-CATALOG-OID-ASSIGNMENT).
func UsesOthers(tree string) string {
	return `EXISTS (SELECT FROM pg_catalog.regexp_matches((` + tree + `)::pg_catalog.text,` +
		` ' :(funcid|opno|opfuncid|resulttype|consttype) ([0-9]+)', 'g') used (part)` +
		` WHERE used.part[2]::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid` +
		` AND NOT (used.part[1] OPERATOR(pg_catalog.=) 'funcid' AND ` + signing.IsOurs("used.part[2]::pg_catalog.oid") + `))`
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

// spellings are how PostgreSQL writes the name of a column, which it quotes where it is not in lower case, or a keyword: which those
// are depends on the release, and quote_all_identifiers.
func spellings(name string) []string {
	quoted := sqltext.Ident(name)
	if needsNoQuotes.MatchString(name) {
		return []string{name, quoted}
	}
	return []string{quoted}
}

// identifier matches the name of a column.
func identifier(name string) string {
	names := spellings(name)
	for n := range names {
		names[n] = regexp.QuoteMeta(names[n])
	}
	return `(?:` + strings.Join(names, `|`) + `)`
}
