// Package guard is a database/sql driver that sits between GORM and pgx and gives every statement its tenant.
//
// A guarded pool is a genuine *sql.DB. Each of its connections wraps one of pgx's and sends, in the same network round
// trip as the statement and in the same PostgreSQL transaction, a call of set_config that names the tenant found in
// the statement's context. A context that carries no decision about the tenant is refused before anything is sent.
//
// The package knows nothing of GORM. The root package installs it and re-exports the parts that users see.
package guard
