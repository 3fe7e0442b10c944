package rollout_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// A new column changes what SELECT * returns, so a statement that pgx has prepared before fails once in each connection, as after each
// ADD COLUMN. The mode exec prepares none.
func TestObserveMeetsPreparedStatements(t *testing.T) {
	d := newDatabase(t, 10)
	prepared, exec := testdb.OpenPlain(t, d.oldDSN()), testdb.OpenPlain(t, testdb.WithParam(d.oldDSN(), "default_query_exec_mode", "exec"))
	pool, err := prepared.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	require.NoError(t, prepared.Find(&[]Project{}).Error)
	require.NoError(t, exec.Find(&[]Project{}).Error)

	d.to(t, rls.StageObserve)
	var once *pgconn.PgError
	require.ErrorAs(t, prepared.Find(&[]Project{}).Error, &once)
	require.Equal(t, "0A000", once.Code)
	require.NoError(t, prepared.Find(&[]Project{}).Error)
	require.NoError(t, exec.Find(&[]Project{}).Error)

	d.to(t, rls.StageShadow)
	require.NoError(t, prepared.Find(&[]Project{}).Error, "the column is there already")
}

// There is no policy yet, so what runs for a tenant sees the rows of all, in a model without a field for the tenant.
func TestObserveHidesNoRows(t *testing.T) {
	const rows = 10
	d := newDatabase(t, rows)
	d.to(t, rls.StageObserve)
	db := d.Open(t, tenancy.Config{DangerouslyObserve: func(context.Context, tenancy.Refusal) {}})
	var seen []int
	require.NoError(t, tenancy.ForEachTenant(t.Context(), db, []string{"1", "2"}, func(_ context.Context, tx *gorm.DB) error {
		var projects []Project
		err := tx.Find(&projects).Error
		seen = append(seen, len(projects))
		return err
	}))
	require.Equal(t, []int{rows, rows}, seen)
}
