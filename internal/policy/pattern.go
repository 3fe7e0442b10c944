// Package policy knows how PostgreSQL writes the predicate of a policy that binds a table's rows to the tenant.
package policy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Pattern returns a regular expression for the predicates that compare the tenant column with the setting, as pg_get_expr
// writes them: the one that package rls makes, and others that mean the same, with or without the sub-select, the NULLIF and
// the cast of the setting. It means the same to Go and to PostgreSQL.
//
// Whatever does more is not matched: a function of the column, an OR, another column. Nor is a cast to a type with a length,
// which would cut off the end of a tenant's id.
func Pattern(setting, column string) string {
	name := regexp.QuoteMeta(column)
	quoted := regexp.QuoteMeta(`"` + strings.ReplaceAll(column, `"`, `""`) + `"`)
	const kind = `[a-z_][a-z0-9_]*( [a-z]+)*`
	tenant := fmt.Sprintf(`(%[1]s|%[2]s|\((%[1]s|%[2]s)\)::text)`, name, quoted)
	value := fmt.Sprintf(`current_setting\(%s::text(, (true|false))?\)`, regexp.QuoteMeta(sqltext.Literal(setting)))
	value = fmt.Sprintf(`(%[1]s|NULLIF\(%[1]s, ''::text\))`, value)
	value = fmt.Sprintf(`(%[1]s|\(%[1]s\)::%[2]s)`, value, kind)
	value = fmt.Sprintf(`(%[1]s|\( SELECT %[1]s AS "?[a-z_]+"?\))`, value)
	value = fmt.Sprintf(`(%[1]s|\(%[1]s\)::text)`, value)
	return fmt.Sprintf(`^\((%[1]s = %[2]s|%[2]s = %[1]s)\)$`, tenant, value)
}

// Unsafe is a regular expression for casts that make two ids one: to a type that cuts off the end, or that overlooks case.
const Unsafe = `::(name|citext)([^a-z0-9_]|$)`
