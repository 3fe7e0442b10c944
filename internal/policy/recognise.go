package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Verdict is what is known of a policy, or of one of its expressions. The proof on first use of the plugin accepts what isolates,
// Check reports what is unproved, and Migrate replaces what is not canonical.
type Verdict int

// The verdicts, the worst first.
const (
	Unproved  Verdict = iota // it may let through the rows of other tenants
	Isolates                 // it lets through the rows of the tenant alone, or fewer of them, as people write it by hand
	Canonical                // it is what package rls makes
)

// Expression is a condition of a policy, as the catalog shows it.
type Expression struct {
	Text   string // by pg_get_expr
	Others bool   // it uses functions, operators or types that are not PostgreSQL's own
}

// ExpressionOf returns SQL for an Expression as JSON, of an expression of a relation. Both are SQL: a pg_node_tree and an oid.
func ExpressionOf(tree, relation string) string {
	return `CASE WHEN ` + tree + ` IS NOT NULL THEN pg_catalog.json_build_object(
		'text', pg_catalog.pg_get_expr(` + tree + `, ` + relation + `), 'others', ` + UsesOthers(tree) + `) END`
}

// Judge returns the verdict on an expression of a policy on a table whose tenant column has the type; a type that no tenant column
// can have is possible. An expression that is not there is canonical: it lets no row through.
func (c Config) Judge(e *Expression, columnType string) Verdict {
	switch {
	case e == nil:
		return Canonical
	case e.Others:
		return Unproved
	case slices.Contains(c.canonicalTexts(columnType), e.Text):
		return Canonical
	case c.compiled().MatchString(e.Text):
		return Isolates
	default:
		return Unproved
	}
}

// canonicalTexts are how pg_get_expr writes what package rls makes, in each form that it makes: that is Predicate, with the column
// quoted or not. Another form gets a text here, an alternative in Pattern, and the functions that it needs an exception in UsesOthers.
func (c Config) canonicalTexts(columnType string) []string {
	var texts []string
	for _, column := range spellings(c.Column) {
		texts = append(texts, c.written(column, columnType))
	}
	return texts
}

// written is how pg_get_expr writes Predicate.
func (c Config) written(column, columnType string) string {
	claimed, name := c.WrittenDefault(columnType), `"nullif"`
	if function := c.tenantFunction(); function != "" {
		claimed, name = writtenAs(writtenCall(function, c.Setting), columnType), function
	}
	if c.Inline {
		if columnType == "character varying" {
			return fmt.Sprintf(`((%s)::text = (%s)::text)`, column, claimed)
		}
		return fmt.Sprintf(`(%s = %s)`, column, claimed)
	}
	if columnType == "character varying" { // which has no operators of its own
		return fmt.Sprintf(`((%s)::text = (( SELECT %s AS %s))::text)`, column, claimed, name)
	}
	return fmt.Sprintf(`(%s = ( SELECT %s AS %s))`, column, claimed, name)
}

// WrittenDefault is how PostgreSQL writes the default of a tenant column, which is Current.
func (c Config) WrittenDefault(columnType string) string {
	return writtenAs(fmt.Sprintf("NULLIF(current_setting(%s::text, true), ''::text)", sqltext.Literal(c.Setting)), columnType)
}

// writtenAs is how pg_get_expr writes a text cast to a type.
func writtenAs(text, columnType string) string {
	if columnType == "text" {
		return text
	}
	return fmt.Sprintf("(%s)::%s", text, columnType)
}

// writtenCall is how pg_get_expr writes a call of a function of package signing.
func writtenCall(function, setting string) string {
	return fmt.Sprintf("%s.%s(%s::text)", signing.Schema, function, sqltext.Literal(setting))
}

// tenantFunction is the function that policies of the form call, or empty.
func (c Config) tenantFunction() string {
	switch c.Form {
	case Signed:
		return signing.FunctionTenant
	case Either:
		return signing.FunctionTenantEither
	default:
		return ""
	}
}

// Stored is a policy as the catalog shows it.
type Stored struct {
	Command      string   // pg_policy.polcmd: '*' is FOR ALL
	Permissive   bool     // and not RESTRICTIVE
	Roles        []string // it is for; PUBLIC is empty
	Using, Check *Expression
}

// StoredOf returns SQL for a Stored as JSON. The policy is the alias of a row of pg_policy.
func StoredOf(policy string) string {
	return strings.NewReplacer("@p", policy, "@using", ExpressionOf(policy+".polqual", policy+".polrelid"),
		"@check", ExpressionOf(policy+".polwithcheck", policy+".polrelid")).Replace(`pg_catalog.json_build_object(
			'command',    @p.polcmd,
			'permissive', @p.polpermissive,
			'roles',      (
				SELECT pg_catalog.json_agg(CASE WHEN r = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(r) END) FROM pg_catalog.unnest(@p.polroles) r),
			'using',      @using,
			'check',      @check)`)
}

// Judge returns the verdict on all that the policy lets through, whatever the roles that it is for. A restrictive policy lets nothing
// through.
func (p Stored) Judge(c Config, columnType string) Verdict {
	verdict := min(c.Judge(p.Using, columnType), c.Judge(p.Check, columnType))
	switch {
	case !p.Permissive:
		return Isolates
	case verdict == Canonical && (p.Command != "*" || p.Using == nil || p.Check == nil):
		return Isolates
	default:
		return verdict
	}
}

// IsMade reports whether the policy is what Create makes by this name.
func (c Config) IsMade(name string, p Stored, columnType string) bool {
	want := c.definition(name)
	command := map[string]string{all: "*", reads: "r"}[want.command]
	if p.Command != command || !p.Permissive || !slices.Equal(p.Roles, []string{want.role}) {
		return false
	}
	if want.rows == tenantsRows {
		return p.Judge(c, columnType) == Canonical
	}
	everything := Expression{Text: cmp.Or(want.written, want.rows)}
	return p.Using != nil && *p.Using == everything && (command == "r") == (p.Check == nil) && (p.Check == nil || *p.Check == everything)
}

// compiled returns Pattern, compiled once for each column.
func (c Config) compiled() *regexp.Regexp {
	key := patternKey{c.Setting, c.Column, c.Form}
	if known, ok := patterns.Load(key); ok {
		return known.(*regexp.Regexp)
	}
	pattern := regexp.MustCompile(c.Pattern())
	patterns.Store(key, pattern)
	return pattern
}

var patterns sync.Map

type patternKey struct {
	setting, column string
	form            Form
}
