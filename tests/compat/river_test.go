package compat

import (
	"database/sql"
	"errors"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // its driver
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// mail is a job of a tenant's. River's tables are shared, so the job names its tenant itself.
type mail struct {
	Tenant string `json:"tenant"`
	Order  int64  `json:"order"`
}

func (mail) Kind() string { return "mail" }

// TestRiverInsertTx: a job is inserted in the transaction of a tenant, and is there if the tenant's row is.
func TestRiverInsertTx(t *testing.T) { testdb.InBothForms(t, testRiverInsertTx) }

func testRiverInsertTx(t *testing.T) {
	d := newDatabase(t)
	owner := riverMigrated(t, d)
	client, err := river.NewClient(riverdatabasesql.New(nil), &river.Config{}) // it inserts, and works on nothing
	require.NoError(t, err)
	order := func(tx *gorm.DB, tenant, item string) error {
		o := Order{Item: item}
		if err := tx.Create(&o).Error; err != nil {
			return err
		}
		_, err := client.InsertTx(tx.Statement.Context, tx.Statement.ConnPool.(*sql.Tx), mail{Tenant: tenant, Order: o.ID}, nil)
		if err != nil {
			return err
		}
		return tx.First(&Order{}, o.ID).Error // the tenant is still set after River's statements
	}
	db := testdb.OpenPlain(t, d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(d.Config())))
	two := d.newPair(t)
	for _, tenant := range []string{two.me, two.other} {
		ctx := tenancy.WithTenant(t.Context(), tenant)
		require.NoError(t, db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return order(tx, tenant, "committed") }))
		undone := errors.New("undone")
		require.ErrorIs(t, db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			return errors.Join(order(tx, tenant, "rolled back"), undone)
		}), undone)

		bound := tenancy.DangerouslyBind(ctx, db)
		require.NoError(t, bound.Transaction(func(tx *gorm.DB) error { return order(tx, tenant, "committed") }))
	}
	other := tenancy.WithTenant(t.Context(), two.other)
	require.ErrorIs(t, db.WithContext(two.ctx()).Transaction(func(tx *gorm.DB) error {
		_, err := client.InsertTx(other, tx.Statement.ConnPool.(*sql.Tx), mail{Tenant: two.other}, nil)
		return err
	}), tenancy.ErrTenantMismatch, "River's statements are guarded as well")

	for _, tenant := range []string{two.me, two.other} {
		var orders []int64
		require.NoError(t, d.AdminDB.Model(&Order{}).Where("tenant_id = ? AND item <> 'mine' AND item <> 'theirs'", tenant).
			Order("id").Pluck("id", &orders).Error)
		require.Len(t, orders, 2)
		require.Equal(t, orders, riverOrders(t, owner, tenant))
	}
}

// riverMigrated makes River's tables, which the application may use, and returns their owner's pool.
func riverMigrated(t *testing.T, d *database) *sql.DB {
	t.Helper()
	owner, err := testdb.OpenPlain(t, d.Owner.DSN).DB()
	require.NoError(t, err)
	migrator, err := rivermigrate.New(riverdatabasesql.New(owner), nil)
	require.NoError(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	_, err = owner.ExecContext(t.Context(), `GRANT SELECT, INSERT, UPDATE, DELETE ON river_job TO `+d.App.Role+`;
		GRANT SELECT ON river_queue TO `+d.App.Role+`; GRANT USAGE ON SEQUENCE river_job_id_seq TO `+d.App.Role)
	require.NoError(t, err)
	return owner
}

// riverOrders are the orders of a tenant's jobs.
func riverOrders(t *testing.T, owner *sql.DB, tenant string) (orders []int64) {
	t.Helper()
	rows, err := owner.QueryContext(t.Context(),
		`SELECT (args->>'order')::bigint FROM river_job WHERE kind = 'mail' AND args->>'tenant' = $1 ORDER BY 1`, tenant)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var order int64
		require.NoError(t, rows.Scan(&order))
		orders = append(orders, order)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	return orders
}
