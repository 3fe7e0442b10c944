// Package lifecycle works on all rows of one tenant: it counts them, exports them to a file, imports such a file into another database or
// for another tenant, erases them and proves it, and compares the two.
//
//	tenants := lifecycle.Tenants{DB: pool, Actor: "alice@example.com"}
//	manifest, err := tenants.Export(ctx, "acme", file)
//
// Subjects does so with what is about one person, which an application declares.
//
// Which tables of a tenant there are comes from PostgreSQL's catalog, and from no list: each table that has the tenant column, and each that policies
// divide by its primary key, as the table of tenants. What cannot be proved to be isolated is an error, unless Skip names it with a reason.
//
// All statements run within the policies of that one tenant, as a role that they bind, and have a condition besides. So a mistake in a
// condition, a file that was tampered with, or a foreign key that forgets the tenant reaches no row of another tenant.
package lifecycle
