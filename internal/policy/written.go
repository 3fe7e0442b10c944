package policy

import (
	"fmt"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// WrittenPredicate is how PostgreSQL writes Predicate. The column is quoted as PostgreSQL quotes it. Package rls/check knows it and
// does not ask for it, as Migrate does, because that would take the right to make a temporary table, and a server that may write.
// Its tests compare it with what PostgreSQL says.
func (c Config) WrittenPredicate(column, columnType string) string {
	current := c.WrittenDefault(columnType)
	if columnType == "character varying" { // which has no operators of its own
		return fmt.Sprintf(`((%s)::text = (( SELECT %s AS "nullif"))::text)`, column, current)
	}
	return fmt.Sprintf(`(%s = ( SELECT %s AS "nullif"))`, column, current)
}

// WrittenDefault is how PostgreSQL writes the default of a tenant column, which is Current.
func (c Config) WrittenDefault(columnType string) string {
	current := fmt.Sprintf("NULLIF(current_setting(%s::text, true), ''::text)", sqltext.Literal(c.Setting))
	if columnType == "text" {
		return current
	}
	return fmt.Sprintf("(%s)::%s", current, columnType)
}
