package rls

import (
	"context"
	"fmt"

	"gorm.io/gorm"
)

// pattern is how the catalog shows a finished tenant's table, as far as the type of its tenant column decides it.
type pattern struct {
	columnType    string
	columnDefault string
	policies      map[string]policy
}

// patterns are the known patterns by type of tenant column.
type patterns map[string]*pattern

// columnTypes are the types a tenant column can have, as PostgreSQL writes them.
var columnTypes = []string{"text", "character varying", "uuid", "smallint", "integer", "bigint"}

// patternTable is the name of the temporary table that patterns are taken from.
const patternTable = "tenancy_pattern"

// pattern asks PostgreSQL how it writes the canonical default and policies for a type of tenant column.
//
// PostgreSQL stores expressions parsed and writes them in its own words, which differ between types and releases: text
// can't be compared with what we once sent. So the very statements of the plan are run against an empty temporary table,
// and what the catalog then shows is what it must show of a tenant's table. That finds a policy altered by hand too, which
// a fingerprint kept in a comment would only find as long as nobody touches the comment.
func (i Isolation) pattern(ctx context.Context, conn gorm.ConnPool, columnType string) (*pattern, error) {
	table := ident("pg_temp", patternTable)
	statements := []string{
		fmt.Sprintf("CREATE TEMPORARY TABLE %s (%s %s)", ident(patternTable), ident(i.Column), columnType),
		i.setDefault(table, columnType),
	}
	for _, name := range i.policyNames() {
		statements = append(statements, i.createPolicy(name, table, columnType))
	}
	for _, sql := range statements {
		if _, err := conn.ExecContext(ctx, sql); err != nil {
			return nil, err
		}
	}
	live, err := i.inspect(ctx, conn, []string{table})
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, "DROP TABLE "+table); err != nil {
		return nil, err
	}
	return &pattern{columnType: columnType, columnDefault: live[0].Column.Default, policies: live[0].Policies}, nil
}
