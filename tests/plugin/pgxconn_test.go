package plugin_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

// TestWithPgxConn runs what database/sql does not have, for a tenant.
func TestWithPgxConn(t *testing.T) {
	db := newDatabase(t).Open(t, tenancy.Config{})
	pool, err := db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	conn, err := pool.Conn(t.Context())
	require.NoError(t, err)
	count := func(n *int) func(*pgx.Conn) error {
		return func(c *pgx.Conn) error {
			return c.QueryRow(t.Context(), "SELECT count(*) FROM patients").Scan(n)
		}
	}

	var n int
	require.NoError(t, tenancy.WithPgxConn(as(acme), conn, count(&n)))
	require.Equal(t, 1, n, "the tenant's")
	require.NoError(t, tenancy.WithPgxConn(tenancy.WithoutTenant(t.Context()), conn, count(&n)))
	require.Zero(t, n)
	require.ErrorIs(t, tenancy.WithPgxConn(t.Context(), conn, count(&n)), tenancy.ErrNoTenant)

	// An error undoes everything, and so does the end of a transaction around it.
	sentinel := errors.New("on purpose")
	insert := func(c *pgx.Conn) error {
		_, err := c.Exec(t.Context(), "INSERT INTO patients (tenant_id, name) VALUES ($1, 'by pgx')", acme)
		return err
	}
	require.ErrorIs(t, tenancy.WithPgxConn(as(acme), conn, func(c *pgx.Conn) error { return errors.Join(insert(c), sentinel) }), sentinel)
	tx, err := conn.BeginTx(as(acme), nil)
	require.NoError(t, err)
	require.NoError(t, tenancy.WithPgxConn(as(acme), conn, insert))
	require.ErrorIs(t, tenancy.WithPgxConn(as("globex"), conn, count(&n)), tenancy.ErrTenantMismatch)
	require.NoError(t, tenancy.WithPgxConn(as(acme), conn, count(&n)))
	require.Equal(t, 2, n)
	require.NoError(t, tx.Rollback())
	require.NoError(t, tenancy.WithPgxConn(as(acme), conn, count(&n)))
	require.Equal(t, 1, n)

	// What is left in the session is gone when the connection is given back.
	leave := func(c *pgx.Conn) error {
		_, err := c.Exec(t.Context(), "SET my.secret = 'acme'; CREATE TEMPORARY TABLE patients (id bigint)")
		return err
	}
	require.NoError(t, tenancy.WithPgxConn(as(acme), conn, leave))
	require.NoError(t, conn.Close())
	var secret sql.NullString
	require.NoError(t, pool.QueryRowContext(as("globex"), "SELECT current_setting('my.secret', true)").Scan(&secret))
	require.Empty(t, secret.String)
	require.NoError(t, pool.QueryRowContext(as(acme), "SELECT count(*) FROM patients").Scan(&n))
	require.Equal(t, 1, n)
}

// TestWithPgxConnThatEndsTransaction: what f does behind the guard's back is seen, and reaches no other user.
func TestWithPgxConnThatEndsTransaction(t *testing.T) {
	db := newDatabase(t).Open(t, tenancy.Config{})
	pool, err := db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	for _, end := range []string{"COMMIT", "COMMIT; BEGIN", "COMMIT AND CHAIN", "ROLLBACK; SET app.tenant_id = 'globex'"} {
		conn, err := pool.Conn(t.Context())
		require.NoError(t, err)
		require.Error(t, tenancy.WithPgxConn(as(acme), conn, func(c *pgx.Conn) error {
			return c.PgConn().Exec(t.Context(), end).Close()
		}), end)
		_ = conn.Close()
		var n int
		require.NoError(t, pool.QueryRowContext(as(acme), "SELECT count(*) FROM patients").Scan(&n), end)
		require.Equal(t, 1, n)
	}
	conn, err := pool.Conn(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, tenancy.WithPgxConn(as(acme), conn, func(c *pgx.Conn) error {
		_, err := c.Query(t.Context(), "SELECT * FROM patients")
		return err
	}), "close the rows")
	_ = conn.Close()
	require.NoError(t, pool.PingContext(t.Context()))
}

// TestRawNamesAlternative: a type assertion fails, and says what to use.
func TestRawNamesAlternative(t *testing.T) {
	db := newDatabase(t).Open(t, tenancy.Config{})
	pool, err := db.DB()
	require.NoError(t, err)
	conn, err := pool.Conn(context.Background())
	require.NoError(t, err)
	defer conn.Close()
	defer func() {
		p := recover()
		require.NotNil(t, p)
		require.ErrorContains(t, p.(error), "UseTenancyWithPgxConn")
	}()
	_ = conn.Raw(func(dc any) error { return dc.(*stdlib.Conn).Conn().Ping(context.Background()) })
}
