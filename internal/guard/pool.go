package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"
)

// Config says what the connections of a guarded pool set for every statement.
type Config struct {
	// Setting is the PostgreSQL setting that the policies read, such as "app.tenant_id".
	Setting string
	// Role is the role every statement runs under. Empty means the role of the login.
	Role string
	// Bypass makes a pool whose statements see every tenant's rows: the setting is cleared, and the context must carry
	// a Bypass mark in place of a tenant.
	Bypass bool
	// Report, if not nil, is called after each statement of a bypass pool.
	Report func(ctx context.Context, e Event)
}

// Event is what a bypass pool reports of one statement. It holds no SQL and no values.
type Event struct {
	Bypass   Bypass
	Kind     string // the statement's kind as PostgreSQL names it in its command tag, such as "SELECT"
	Rows     int64  // rows returned or affected
	Duration time.Duration
	Err      error
}

// Borrow returns a guarded pool whose connections are borrowed from inner, statement by statement and transaction by
// transaction, so that inner's limits, lifetimes and statistics go on holding. inner must be a pool of pgx's stdlib.
// Closing the guarded pool leaves inner open.
func Borrow(inner *sql.DB, cfg Config) *sql.DB {
	panic("TODO")
}

// Open returns a guarded pool whose connections are made by c, a connector of pgx's stdlib.
func Open(c driver.Connector, cfg Config) *sql.DB {
	panic("TODO")
}

// Of tells whether db is a guarded pool, and its configuration.
func Of(db *sql.DB) (Config, bool) {
	panic("TODO")
}

// Inner returns the pool that the guarded pool db borrows from; db itself where it does not borrow.
func Inner(db *sql.DB) *sql.DB { panic("TODO") }

// Supported tells with an error why db can't be guarded; nil if it can.
func Supported(ctx context.Context, db *sql.DB) error {
	return errors.New("TODO")
}
