package catalog

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Canonical is how the catalog shows a finished tenant table, as far as the type of its tenant column decides it.
type Canonical struct {
	ColumnType string
	Default    string
	Policies   map[string]Policy
}

// canonicalTable is the name of the temporary table that Canonical is taken from.
const canonicalTable = "tenancy_pattern"

// AskCanonical asks PostgreSQL how it writes the canonical default and policies for a type of tenant column.
//
// PostgreSQL stores expressions parsed and writes them in its own words, which differ between types and releases: text
// cannot be compared with what we once sent. So the very statements of the plan are run against an empty temporary table,
// and what the catalog then shows is what it must show of a tenant table. That also finds a policy altered by hand, which
// a fingerprint kept in a comment would only find as long as the comment stays as it is.
func AskCanonical(ctx context.Context, conn gorm.ConnPool, c policy.Config, columnType string) (*Canonical, error) {
	table := sqltext.Ident("pg_temp", canonicalTable)
	statements := []string{
		fmt.Sprintf("CREATE TEMPORARY TABLE %s (%s %s)", sqltext.Ident(canonicalTable), sqltext.Ident(c.Column), columnType),
		c.SetDefault(table, columnType),
	}
	for _, name := range append(c.Names(), policy.Lookup) {
		statements = append(statements, c.Create(name, table, columnType))
	}
	for _, sql := range statements {
		if _, err := conn.ExecContext(ctx, sql); err != nil {
			return nil, err
		}
	}
	live, err := Inspect(ctx, conn, c, []string{table})
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, "DROP TABLE "+table); err != nil {
		return nil, err
	}
	return &Canonical{ColumnType: columnType, Default: live[0].Column.Default, Policies: live[0].Policies}, nil
}
