package guard_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// TestStatementsThatNeedNoTransaction go alone, for no tenant.
func TestStatementsThatNeedNoTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.AsOwner(t, `CREATE SEQUENCE tries; GRANT ALL ON tries TO `+d.App.Role)
	nobody := guard.WithoutTenant(context.Background())
	eachPool(t, func(t *testing.T, way way) {
		p := d.app(t, way)
		_, err := p.ExecContext(nobody, `VACUUM shared`)
		require.NoError(t, err)

		_, err = p.Exec(`VACUUM shared`)
		require.ErrorIs(t, err, guard.ErrNoTenant)
		_, err = p.ExecContext(tenant(t, "a"), `VACUUM shared`)
		require.ErrorContains(t, err, "25001", "a tenant's statement")
		_, err = p.ExecContext(nobody, `VACUUM shared; VACUUM shared`)
		require.ErrorContains(t, err, "25001", "several are a transaction")
		tx := begin(nobody, t, p, nil)
		_, err = tx.Exec(`VACUUM shared`)
		require.ErrorContains(t, err, "25001", "in a transaction")
		require.NoError(t, tx.Rollback())

		other := guarded(t, way, config(t, d.App, way.mode), guard.Config{Role: d.App.Role})
		_, err = other.ExecContext(nobody, `VACUUM shared`)
		require.ErrorContains(t, err, "25001", "a pool with a role sends nothing without it")

		// The same error from elsewhere is an error, and nothing is sent twice.
		d.AsOwner(t, `ALTER SEQUENCE tries RESTART`)
		_, err = p.ExecContext(nobody, `DO $$ BEGIN PERFORM nextval('tries'); RAISE 'no' USING ERRCODE = '25001'; END $$`)
		require.ErrorContains(t, err, "25001")
		var tries int
		require.NoError(t, d.owner.QueryRow(`SELECT nextval('tries')`).Scan(&tries))
		require.Equal(t, 2, tries)
	})
}

// TestTransactionTakesSetTransactionFirst can be the first statement of a transaction: what travels before it takes no snapshot.
func TestTransactionTakesSetTransactionFirst(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.eachApp(t, func(t *testing.T, p *pool) {
		tx := begin(tenant(t, "a"), t, p, nil)
		_, err := tx.Exec(`SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`)
		require.NoError(t, err)
		var level string
		require.NoError(t, tx.QueryRow(`SHOW transaction_isolation`).Scan(&level))
		require.Equal(t, "serializable", level)
		require.Equal(t, []string{"a1", "a2"}, p.notesOf(context.Background(), t, tx))
		require.NoError(t, tx.Commit())
	})
}
