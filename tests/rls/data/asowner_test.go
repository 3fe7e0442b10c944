package data

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// asOwner runs statements as the owner of the tables.
func (d database) asOwner(t *testing.T, statements []string, tables ...string) error {
	t.Helper()
	return rls.Isolation{}.DataMigration(t.Context(), d.db, func(tx *gorm.DB) error {
		for _, statement := range statements {
			if err := tx.Exec(statement).Error; err != nil {
				return err
			}
		}
		return nil
	}, rls.AsOwner(tables...))
}

func TestDataMigrationAsOwner(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.asOwner(t, []string{
		"ALTER TABLE invoices ADD COLUMN vat numeric", "ALTER TABLE payments ADD COLUMN vat numeric",
		"UPDATE invoices SET vat = 19; " + setEuro,
		"ALTER TABLE invoices ALTER COLUMN vat SET NOT NULL",
	}, "invoices"))
	require.Equal(t, inEuro, d.all(t, currencies))
	require.Empty(t, d.all(t, unforced))
	require.Zero(t, d.db.Exec("DELETE FROM invoices").RowsAffected, "policies are forced again")

	var timeout string
	require.NoError(t, d.db.Raw("SHOW lock_timeout").Scan(&timeout).Error)
	require.Equal(t, "0", timeout)
}

// Both are read with the rights of the owner, and not of the role that runs the statement, and are empty as soon as policies are forced.
func TestDataMigrationMakesMaterializedViewsAndTables(t *testing.T) {
	d := granted(t)
	const view, table = "SELECT tenant_id FROM totals ORDER BY 1", "SELECT tenant_id FROM copies ORDER BY 1"
	d.run(t, "CREATE MATERIALIZED VIEW totals AS SELECT tenant_id, sum(total) FROM invoices GROUP BY 1",
		"REFRESH MATERIALIZED VIEW totals", "CREATE TABLE copies AS SELECT * FROM invoices")
	require.Empty(t, d.all(t, view), "naive")
	require.Empty(t, d.all(t, table), "naive")

	require.NoError(t, d.asOwner(t, []string{
		"REFRESH MATERIALIZED VIEW totals", "DROP TABLE copies", "CREATE TABLE copies AS SELECT * FROM invoices",
	}, "public.invoices"))
	require.Equal(t, []string{"acme", "globex"}, d.all(t, view))
	require.Equal(t, []string{"acme", "acme", "globex"}, d.all(t, table))

	err := d.asOwner(t, []string{"REFRESH MATERIALIZED VIEW totals"}, "payments")
	require.ErrorIs(t, err, rls.ErrRowsHidden)
	require.Equal(t, []string{"acme", "globex"}, d.all(t, view), "as before")
	require.ErrorIs(t, d.asOwner(t, []string{"CREATE TABLE more AS SELECT * FROM invoices"}), rls.ErrRowsHidden)

	// The admin role may not refresh the view, and would find it empty if it might (MAINTAIN, from PostgreSQL 17 on).
	refresh := func(tx *gorm.DB) error { return tx.Exec("REFRESH MATERIALIZED VIEW totals").Error }
	err = d.isolation().DataMigration(t.Context(), d.db, refresh)
	requireCode(t, err, "42501")
	if d.version(t) >= 170000 {
		d.run(t, "GRANT MAINTAIN ON totals TO "+d.admin)
		require.ErrorIs(t, d.isolation().DataMigration(t.Context(), d.db, refresh), rls.ErrRowsHidden)
	}
	require.Equal(t, []string{"acme", "globex"}, d.all(t, view), "as before")
}

func TestDataMigrationAsOwnerRefusesToMissRows(t *testing.T) {
	d := newDatabase(t)
	d.run(t, "GRANT SELECT, UPDATE ON invoices TO "+d.App.Role,
		"CREATE FUNCTION pay() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'UPDATE payments SET amount = 0'",
		"CREATE VIEW v AS SELECT * FROM payments")
	d.AsSuperuser(t, "GRANT "+d.App.Role+" TO "+d.owner)
	for name, statements := range map[string][]string{
		"another table":      {setEuro, "UPDATE payments SET amount = 0"},
		"a table read":       {"UPDATE invoices SET total = (SELECT sum(amount) FROM payments)"},
		"application's role": {"SET LOCAL ROLE " + d.App.Role, setEuro},
		"there and back":     {"SET LOCAL ROLE " + d.App.Role + "; " + setEuro + "; RESET ROLE"},
		"in a block":         {"DO $$BEGIN EXECUTE 'SET LOCAL RO' || 'LE " + d.App.Role + "'; " + setEuro + "; END$$"},
		"a function":         {"SELECT pay()"},
		"a view":             {"UPDATE v SET amount = 0"},
		"no table":           {"COPY invoices TO STDOUT", "DELETE FROM payments"},
		"row_security":       {"SET row_security = on", "DELETE FROM payments"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, d.asOwner(t, statements, "invoices"), rls.ErrRowsHidden)
			require.Equal(t, untouched, d.all(t, currencies))
			require.Empty(t, d.all(t, unforced))
		})
	}
	require.ErrorIs(t, rls.Isolation{}.DataMigration(t.Context(), d.db, euro, rls.AsOwner()), rls.ErrRowsHidden, "of no table")
	for _, name := range []string{"", "a.b.c"} {
		require.ErrorContains(t, d.asOwner(t, nil, name), "tenancy: AsOwner")
	}
	requireCode(t, d.asOwner(t, []string{setEuro}, "no_such_table"), "42P01")
	require.ErrorIs(t, d.asOwner(t, []string{setEuro}, "plans"), rls.ErrRowsHidden, "plans have no policies")
}

// What PostgreSQL has committed it does not undo.
func TestDataMigrationForcesPoliciesAgainAfterACommit(t *testing.T) {
	d := newDatabase(t)
	for _, statements := range [][]string{{"COMMIT", setEuro}, {"COMMIT; " + setEuro}, {"COMMIT AND CHAIN", setEuro}, {setEuro, "COMMIT"}} {
		require.ErrorContains(t, d.asOwner(t, statements, "invoices", "payments"), "the transaction was ended by a statement")
		require.Empty(t, d.all(t, unforced), statements)
	}
}

func TestDataMigrationAsOwnerKeepsNothingOfAnError(t *testing.T) {
	d := newDatabase(t)
	require.Error(t, d.asOwner(t, []string{setEuro, "SELECT 1/0"}, "invoices"))
	require.Equal(t, untouched, d.all(t, currencies))
	require.Empty(t, d.all(t, unforced))
}

// A table that takes the name of another needs its policies.
func TestDataMigrationAsOwnerRefusesAnOpenTable(t *testing.T) {
	d := newDatabase(t)
	swap := []string{"CREATE TABLE new AS SELECT * FROM payments", "DROP TABLE payments", "ALTER TABLE new RENAME TO payments"}
	require.ErrorContains(t, d.asOwner(t, swap, "payments"), "has lost its row level security")
	require.ErrorContains(t, d.asOwner(t, []string{"ALTER TABLE payments DISABLE ROW LEVEL SECURITY"}, "payments"), "has lost its row level security")
	require.Empty(t, d.all(t, unforced))
	require.NoError(t, d.asOwner(t, []string{"DROP TABLE payments"}, "payments"))
}

// Other sessions wait, and see no table without FORCE: those of the application and those of the owner.
func TestDataMigrationAsOwnerIsSeenByNoOtherSession(t *testing.T) {
	d := newDatabase(t)
	other := testdb.OpenPlain(t, testdb.WithParam(d.dsn, "lock_timeout", "10ms"))
	require.NoError(t, rls.Isolation{}.DataMigration(t.Context(), d.db, func(tx *gorm.DB) error {
		require.Empty(t, d.all(t, unforced), "in the catalog")
		requireCode(t, other.Find(&[]invoice{}).Error, "55P03")
		require.NoError(t, other.Find(&[]payment{}).Error, "others are not locked")
		return euro(tx)
	}, rls.AsOwner("invoices")))
	require.Equal(t, inEuro, d.all(t, currencies))

	// And it does not wait for others for ever.
	busy := d.db.Begin()
	require.NoError(t, busy.Find(&[]invoice{}).Error)
	err := rls.Isolation{}.DataMigration(t.Context(), other, euro, rls.AsOwner("invoices"))
	requireCode(t, err, "55P03")
	require.NoError(t, busy.Rollback().Error)
}

func TestDataMigrationAsOwnerWithinATransaction(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.db.Transaction(func(tx *gorm.DB) error {
		require.Error(t, rls.Isolation{}.DataMigration(t.Context(), tx, func(tx *gorm.DB) error {
			return errors.Join(euro(tx), errors.New("failed"))
		}, rls.AsOwner("invoices")))
		require.NoError(t, rls.Isolation{}.DataMigration(t.Context(), tx, euro, rls.AsOwner("invoices")))
		require.Zero(t, tx.Exec("DELETE FROM invoices").RowsAffected, "policies are forced again")
		return nil
	}))
	require.Equal(t, inEuro, d.all(t, currencies))
}

// What no catalog tells: a function with the rights of the owner, called in the admin role. The documentation says so.
func TestDataMigrationDoesNotSeeThroughDefiners(t *testing.T) {
	d := granted(t)
	d.run(t, "CREATE FUNCTION euro() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$"+setEuro+"$$")
	call := func(tx *gorm.DB) error { return tx.Exec("SELECT euro()").Error }
	require.NoError(t, d.isolation().DataMigration(t.Context(), d.db, call))
	require.Equal(t, untouched, d.all(t, currencies))
	require.NoError(t, d.isolation().DataMigration(t.Context(), d.db, call, rls.AsOwner("invoices")))
	require.Equal(t, inEuro, d.all(t, currencies))
}
