// Package identity tells databases apart.
package identity

import (
	"context"
	"database/sql"
	"fmt"
)

const query = `SELECT pg_catalog.concat((pg_catalog.pg_control_system()).system_identifier, '/',
    (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())), pg_catalog.pg_is_in_recovery()`

// Of returns the cluster and the database that a pool leads to, as a text that a primary and its standbys have in common, and whether it is a
// standby. A standby that was promoted, and a copy of a cluster's files, keep the identity of what they were made from; pg_upgrade changes it.
func Of(ctx context.Context, db *sql.DB) (identity string, standby bool, err error) {
	if err = db.QueryRowContext(ctx, query).Scan(&identity, &standby); err != nil {
		err = fmt.Errorf("tenancy: ask PostgreSQL which database it is: %w", err)
	}
	return identity, standby, err
}
