package plugin_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestPoolInUseIsNotTakenOver: a connection that the application holds while the plugin is installed was made without the guard, and
// is given back to the pool later. No statement of the guarded pool may get it.
func TestPoolInUseIsNotTakenOver(t *testing.T) {
	d := newDatabase(t)
	for name, hold := range map[string]func(*testing.T, *sql.DB) (release func() error){
		"connection": func(t *testing.T, pool *sql.DB) func() error {
			conn, err := pool.Conn(t.Context())
			require.NoError(t, err)
			return conn.Close
		},
		"transaction": func(t *testing.T, pool *sql.DB) func() error {
			tx, err := pool.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			return tx.Rollback
		},
		"rows": func(t *testing.T, pool *sql.DB) func() error {
			rows, err := pool.QueryContext(t.Context(), "SELECT generate_series(1, 100)")
			require.NoError(t, err)
			require.True(t, rows.Next())
			require.NoError(t, rows.Err())
			return rows.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := testdb.OpenPlain(t, d.App.DSN)
			pool, err := db.DB()
			require.NoError(t, err)
			release := hold(t, pool)
			require.NoError(t, db.Use(tenancy.New(tenancy.Config{Logger: testdb.Quiet})))
			require.NoError(t, release())

			guarded, err := db.DB()
			require.NoError(t, err)
			for range 5 {
				var one int
				require.ErrorIs(t, guarded.QueryRowContext(t.Context(), "SELECT 1").Scan(&one), tenancy.ErrNoTenant)
				var found []Doctor
				require.NoError(t, db.WithContext(as(acme)).Find(&found).Error)
				require.Len(t, found, 1)
			}
		})
	}
}
