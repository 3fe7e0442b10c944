// Package check looks for holes in the isolation of a database, however it was made, and says by what SQL to fix each.
//
//	report, err := rls.Isolation{AppRole: "app", AdminRole: "app_admin"}.Check(ctx, db, check.Models(&Patient{}, &Invoice{}))
//	fmt.Print(report.SQL())
//
// It reads the catalog of PostgreSQL and nothing else, and writes nothing. Package tenanttest does the same in one line of a test, and
// the command tenancy from a shell.
package check
