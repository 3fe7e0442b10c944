// Package guard is a database/sql driver between GORM and pgx. It gives every statement its tenant.
//
// A guarded pool is a genuine *sql.DB. Each of its connections wraps one of pgx's. With every statement it sends a call of
// set_config that names the tenant of the statement's context, in the same network round trip and the same PostgreSQL
// transaction. A statement whose context says nothing about the tenant is refused before anything is sent.
//
// A statement passes call.go (which tenant, which mode), send.go (what is sent with it) and rows.go (its result). What goes
// before it is made in prefix.go and scopesql.go; session.go cleans what it leaves.
//
// The package knows nothing of GORM. The root package installs it and re-exports what users see.
package guard
