package data

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// parcel has a primary key of several columns, of types whose texts sort otherwise.
type parcel struct {
	TenantID string `gorm:"primaryKey"`
	Number   int64  `gorm:"primaryKey"`
	Weight   int64
}

var heavier = rls.Batches{Name: "heavier", Table: "parcels", Size: 7}

// withParcels is a database with 60 parcels of three tenants.
func withParcels(t *testing.T) database {
	t.Helper()
	d := granted(t)
	_, err := d.isolation().Migrate(t.Context(), d.db, &parcel{})
	require.NoError(t, err)
	d.AsSuperuser(t, `INSERT INTO parcels SELECT tenant, n, 0 FROM unnest('{acme,"o''hara?",globex}'::text[]) tenant, generate_series(1, 20) n`)
	return d
}

// weights are the different weights, and how many parcels have each.
const weights = "SELECT weight || ': ' || count(*) FROM parcels GROUP BY weight ORDER BY weight"

func heavy(tx *gorm.DB, rows clause.Expression) error {
	return tx.Model(&parcel{}).Where(rows).Update("weight", gorm.Expr("weight + 1")).Error
}

// Each row has its turn once, wherever the data migration stops.
func TestDataMigrationInBatchesGoesOnWhereItStopped(t *testing.T) {
	for name, stop := range map[string]func(t *testing.T, d database, tx *gorm.DB) error{
		"error": func(*testing.T, database, *gorm.DB) error { return errors.New("stopped") },
		"killed": func(t *testing.T, d database, tx *gorm.DB) error {
			var pid int
			require.NoError(t, tx.Raw("SELECT pg_backend_pid()").Scan(&pid).Error)
			d.AsSuperuser(t, "SELECT pg_terminate_backend("+strconv.Itoa(pid)+", 5000)")
			return nil
		},
		"another role": func(_ *testing.T, _ database, tx *gorm.DB) error { return tx.Exec("RESET ROLE").Error },
		"rolled back":  func(_ *testing.T, _ database, tx *gorm.DB) error { return tx.Exec("ROLLBACK").Error },
	} {
		t.Run(name, func(t *testing.T) {
			d := withParcels(t)
			calls, i := 0, d.isolation()
			var reported []string
			i.Progress = func(p rls.Progress) {
				reported = append(reported, fmt.Sprintf("%s %s %d", p.Table, p.Description, p.Done))
			}
			run := func(at int) error {
				return i.DataMigrationInBatches(t.Context(), d.db, heavier, func(tx *gorm.DB, rows clause.Expression) error {
					if err := heavy(tx, rows); err != nil {
						return err
					}
					if calls++; calls == at {
						return stop(t, d, tx)
					}
					return nil
				})
			}
			require.Error(t, run(4))
			require.Equal(t, []string{"0: 39", "1: 21"}, d.all(t, weights))
			require.NoError(t, run(0))
			require.Equal(t, []string{"1: 60"}, d.all(t, weights))
			require.Equal(t, 4+6, calls, "the fourth twice")
			require.NoError(t, run(0), "again")
			require.Equal(t, []string{"1: 60"}, d.all(t, weights))
			require.Len(t, reported, 9)
			require.Equal(t, "parcels heavier 60", reported[8])
		})
	}
}

func TestDataMigrationInBatchesByTwo(t *testing.T) {
	d := withParcels(t)
	var both sync.WaitGroup
	failed := make([]error, 2)
	for n := range failed {
		both.Go(func() { failed[n] = d.isolation().DataMigrationInBatches(t.Context(), d.db, heavier, heavy) })
	}
	both.Wait()
	require.NoError(t, errors.Join(failed...))
	require.Equal(t, []string{"1: 60"}, d.all(t, weights))
}

func TestDataMigrationInBatchesInSQL(t *testing.T) {
	d := withParcels(t)
	require.NoError(t, d.isolation().DataMigrationInBatches(t.Context(), d.db, rls.Batches{Name: "sql", Table: "public.parcels"},
		func(tx *gorm.DB, rows clause.Expression) error {
			return tx.Exec("UPDATE parcels SET weight = ? WHERE ?", 5, rows).Error
		}))
	require.Equal(t, []string{"5: 60"}, d.all(t, weights))
	report, err := d.isolation().Check(t.Context(), d.db, check.ServerVersion(d.version(t)/10000*10000+9999))
	require.NoError(t, err)
	require.NoError(t, report.Err(), "the table of data migrations is no hole")
	for _, note := range report.Notes {
		require.NotEqual(t, check.OwnerBound, note.Code, "the owner can take the admin role")
	}
	require.Zero(t, d.db.Exec("SELECT FROM pg_class WHERE relname = 'tenancy_data_migrations' AND has_table_privilege(?, oid, 'SELECT, UPDATE')", d.App.Role).RowsAffected)
}

func TestDataMigrationInBatchesRefusesToMissRows(t *testing.T) {
	d := withParcels(t)
	run := func(b rls.Batches) error {
		return d.isolation().DataMigrationInBatches(t.Context(), d.db, b, heavy)
	}
	d.run(t, "ALTER POLICY tenant_admin ON parcels USING (false)")
	require.ErrorIs(t, run(heavier), rls.ErrRowsHidden, "no row is seen, and it is not taken for the end")
	d.run(t, "ALTER POLICY tenant_admin ON parcels USING (number > 5)")
	require.ErrorIs(t, run(heavier), rls.ErrRowsHidden)
	require.Equal(t, []string{"0: 60"}, d.all(t, weights))
	d.run(t, "ALTER POLICY tenant_admin ON parcels USING (true)", "CREATE TABLE keyless (id int)")

	for text, b := range map[string]rls.Batches{
		"needs a Name": {Table: "parcels"}, "and a Table": {Name: "x"}, "cannot be negative": {Name: "x", Table: "parcels", Size: -1},
		"has no primary key": {Name: "x", Table: "keyless"},
	} {
		require.ErrorContains(t, run(b), text)
	}
	requireCode(t, run(rls.Batches{Name: "x", Table: "no_such_table"}), "42P01")
	require.ErrorContains(t, d.db.Transaction(func(tx *gorm.DB) error {
		return d.isolation().DataMigrationInBatches(t.Context(), tx, heavier, heavy)
	}), "batches need transactions of their own")
	require.NoError(t, run(heavier))
	require.Equal(t, []string{"1: 60"}, d.all(t, weights))

	// Another table under the same name.
	require.NoError(t, d.db.Exec("UPDATE tenancy_data_migrations SET done = false").Error)
	require.ErrorContains(t, run(rls.Batches{Name: "heavier", Table: "plans"}), "has begun with another primary key")
}
