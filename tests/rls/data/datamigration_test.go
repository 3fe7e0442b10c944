package data

import (
	"errors"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// missingGrant returns the SQL that an error asks for.
func missingGrant(t *testing.T, err error) string {
	t.Helper()
	require.ErrorIs(t, err, rls.ErrRowsHidden)
	requireCode(t, err, "42501")
	found := regexp.MustCompile(`(CREATE ROLE|GRANT) .*(; or use AsOwner)$`).FindString(err.Error())
	require.NotEmpty(t, found, err.Error())
	return found[:len(found)-len("; or use AsOwner")]
}

// What all others are about: the owner changes no row, and PostgreSQL reports no error.
func TestNaiveUpdateChangesNothing(t *testing.T) {
	d := granted(t)
	result := d.db.Exec(setEuro)
	require.NoError(t, result.Error)
	require.Zero(t, result.RowsAffected)
	require.Equal(t, untouched, d.all(t, currencies))
}

func TestDataMigrationSeesAllTenants(t *testing.T) {
	d := newDatabase(t)
	migrate := func() error { return d.isolation().DataMigration(t.Context(), d.db, euro) }
	err := migrate()
	require.Equal(t, untouched, d.all(t, currencies))
	d.AsSuperuser(t, missingGrant(t, err))
	require.Zero(t, d.db.Exec(setEuro).RowsAffected, "the owner has none of the rights of the admin role before it takes it")
	require.NoError(t, migrate())
	require.Equal(t, inEuro, d.all(t, currencies))
	require.NoError(t, migrate(), "again, with no row left")

	var role string
	require.NoError(t, d.db.Raw("SELECT current_user || current_setting('row_security')").Scan(&role).Error)
	require.Equal(t, d.owner+"on", role, "the connection is as before")
	require.Empty(t, d.all(t, unforced))
}

func TestDataMigrationByAnyClient(t *testing.T) {
	for name, options := range map[string][]testdb.Option{
		"PrepareStmt":     {testdb.PrepareStmt},
		"simple protocol": {testdb.Mode(pgx.QueryExecModeSimpleProtocol)},
		"exec":            {testdb.Mode(pgx.QueryExecModeExec)},
		"a pool":          {testdb.FromPool()},
	} {
		t.Run(name, func(t *testing.T) {
			d := granted(t)
			db := testdb.OpenPlain(t, d.dsn, options...)
			require.NoError(t, db.Find(&[]invoice{}).Error, "a plan made for the owner")
			require.NoError(t, d.isolation().DataMigration(t.Context(), db, func(tx *gorm.DB) error {
				var found []invoice
				if err := tx.Order("id").Find(&found).Error; err != nil {
					return err
				}
				require.Len(t, found, 3)
				eur := "EUR"
				found[0].Currency = &eur
				if err := tx.Save(&found[0]).Error; err != nil { // in GORM's default transaction
					return err
				}
				return tx.Transaction(func(tx *gorm.DB) error {
					return tx.Model(&invoice{}).Where("currency IS NULL").Update("currency", "EUR").Error
				})
			}))
			require.Equal(t, inEuro, d.all(t, currencies))
		})
	}
}

// database/sql has no transaction of GORM's, but GORM takes its pools.
func TestDataMigrationOfAPlainPool(t *testing.T) {
	d := granted(t)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: testdb.OpenSQL(t, d.dsn)}), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	require.NoError(t, d.isolation().DataMigration(t.Context(), db, func(tx *gorm.DB) error {
		var n int
		if err := tx.Statement.ConnPool.QueryRowContext(t.Context(), "SELECT count(*) FROM invoices").Scan(&n); err != nil {
			return err
		}
		require.Equal(t, 3, n)
		stmt, err := tx.Statement.ConnPool.PrepareContext(t.Context(), "UPDATE invoices SET currency = $1")
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(t.Context(), "EUR")
		return err
	}))
	require.Equal(t, inEuro, d.all(t, currencies))
}

func TestDataMigrationAsALoginThatPoliciesDoNotBind(t *testing.T) {
	for name, alter := range map[string]string{
		"BYPASSRLS": "ALTER ROLE %owner BYPASSRLS", "superuser": "ALTER ROLE %owner SUPERUSER",
		"inherits": "GRANT %admin TO %owner",
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.AsSuperuser(t, d.names(alter))
			require.NoError(t, d.isolation().DataMigration(t.Context(), d.db, euro))
			require.Equal(t, inEuro, d.all(t, currencies))
		})
	}
	t.Run("the admin role itself", func(t *testing.T) {
		d := newDatabase(t)
		d.AsSuperuser(t, "ALTER ROLE "+d.admin+" LOGIN PASSWORD 'secret'")
		db := testdb.OpenPlain(t, testdb.WithLogin(d.dsn, d.admin, "secret"))
		require.NoError(t, d.isolation().DataMigration(t.Context(), db, euro))
		require.Equal(t, inEuro, d.all(t, currencies))
	})
	t.Run("an admin role with BYPASSRLS", func(t *testing.T) {
		d := granted(t)
		d.AsSuperuser(t, "ALTER ROLE "+d.admin+" BYPASSRLS")
		d.run(t, "DROP POLICY tenant_admin ON invoices")
		require.NoError(t, d.isolation().DataMigration(t.Context(), d.db, euro))
		require.Equal(t, inEuro, d.all(t, currencies))
	})
}

// Without a role that sees all rows, everything that hides no row goes on.
func TestDataMigrationOfSharedTablesNeedsNoGrant(t *testing.T) {
	d := newDatabase(t)
	for _, isolation := range []rls.Isolation{d.isolation(), {}} {
		require.NoError(t, isolation.DataMigration(t.Context(), d.db, func(tx *gorm.DB) error {
			return tx.Exec("UPDATE plans SET name = name || '!'").Error
		}))
		require.ErrorIs(t, isolation.DataMigration(t.Context(), d.db, euro), rls.ErrRowsHidden)
	}
	require.Equal(t, []string{"free!!"}, d.all(t, "SELECT name FROM plans"))
	require.Equal(t, untouched, d.all(t, currencies))
	err := rls.Isolation{AdminRole: "none_such"}.DataMigration(t.Context(), d.db, euro)
	require.ErrorContains(t, err, `role "none_such" does not exist`)
}

// Whatever hides rows from a function is an error, and nothing is kept.
func TestDataMigrationRefusesToMissRows(t *testing.T) {
	type function = func(d database, tx *gorm.DB) error
	exec := func(statements ...string) function {
		return func(d database, tx *gorm.DB) error {
			for _, statement := range statements {
				if err := tx.Exec(d.names(statement)).Error; err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		given    []string // by the owner
		fn       function
		ignoring bool // the function ignores all errors
	}{
		"owner's role":                {fn: exec("RESET ROLE", setEuro)},
		"owner's role, ignored":       {fn: exec("RESET ROLE", setEuro), ignoring: true},
		"owner's role, at the end":    {fn: exec(setEuro, "RESET ROLE")},
		"owner's role, by a function": {fn: exec("SELECT set_config('role', 'none', true)", setEuro)},
		"there and back":              {fn: exec("RESET ROLE; " + setEuro + "; SET ROLE %admin")},
		"there and back, in a block":  {fn: exec("DO $$BEGIN RESET ROLE; " + setEuro + "; SET ROLE %admin; END$$")},
		"there and back, one by one":  {fn: exec("RESET ROLE", setEuro, "SET ROLE %admin")},
		"authorization":               {fn: exec("SET LOCAL SESSION AUTHORIZATION DEFAULT", setEuro)},
		"commit":                      {fn: exec("COMMIT", setEuro)},
		"commit, ignored":             {fn: exec("COMMIT", setEuro), ignoring: true},
		"commit, in one text":         {fn: exec("COMMIT; " + setEuro)},
		"commit and begin":            {fn: exec("COMMIT; BEGIN", setEuro)},
		"commit and chain":            {fn: exec("COMMIT AND CHAIN", setEuro)},
		"rollback":                    {fn: exec("ROLLBACK", setEuro)},
		"GORM's commit":               {fn: func(_ database, tx *gorm.DB) error { return tx.Commit().Error }},
		"no statement":                {fn: func(database, *gorm.DB) error { return nil }},
		"row_security":                {fn: exec("SET LOCAL row_security = off", "SELECT 1")},
		"failed, ignored":             {fn: exec("SELECT 1/0"), ignoring: true},
		"DISCARD":                     {fn: exec("DISCARD ALL")},

		"no policy":        {given: []string{"DROP POLICY tenant_admin ON invoices"}, fn: exec(setEuro)},
		"some rows":        {given: []string{"ALTER POLICY tenant_admin ON invoices USING (total > 1)"}, fn: exec(setEuro)},
		"rows to read":     {given: []string{"DROP POLICY tenant_admin ON invoices", "CREATE POLICY a ON invoices FOR SELECT TO %admin USING (true)"}, fn: exec(setEuro)},
		"restrictive":      {given: []string{"CREATE POLICY r ON invoices AS RESTRICTIVE USING (total > 1)"}, fn: exec(setEuro)},
		"of a table read":  {given: []string{"ALTER POLICY tenant_admin ON payments USING (amount > 1)"}, fn: exec("UPDATE invoices SET total = (SELECT sum(amount) FROM payments)")},
		"a view":           {given: []string{"CREATE VIEW v AS SELECT * FROM invoices", "GRANT ALL ON v TO %admin"}, fn: exec("UPDATE v SET currency = 'EUR'")},
		"a view of a view": {given: []string{"CREATE VIEW v AS SELECT * FROM invoices", "CREATE VIEW w AS SELECT * FROM v", "GRANT ALL ON w TO %admin"}, fn: exec("INSERT INTO plans (name) SELECT tenant_id FROM w")},
		"table of a savepoint": {given: []string{"DROP POLICY tenant_admin ON invoices"}, fn: func(_ database, tx *gorm.DB) error {
			return tx.Transaction(euro)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := granted(t)
			for _, statement := range test.given {
				d.run(t, d.names(statement))
			}
			err := d.isolation().DataMigration(t.Context(), d.db, func(tx *gorm.DB) error {
				err := test.fn(d, tx)
				if test.ignoring {
					return nil
				}
				return err
			})
			require.Error(t, err)
			if name != "failed, ignored" && name != "GORM's commit" && name != "DISCARD" {
				require.ErrorIs(t, err, rls.ErrRowsHidden)
			}
			require.NotContains(t, d.all(t, currencies), "acme 1 EUR")
			require.Equal(t, []string{"free"}, d.all(t, "SELECT name FROM plans"))
		})
	}
}

// The client that the function has closed over sees no tenant's rows, and the function is told.
func TestDataMigrationRefusesAnotherClient(t *testing.T) {
	d := granted(t)
	err := d.isolation().DataMigration(t.Context(), d.db, func(*gorm.DB) error { return euro(d.db) })
	require.ErrorIs(t, err, rls.ErrRowsHidden)
	require.ErrorContains(t, err, "no statement through its transaction")
}

func TestDataMigrationMaySetTheTenant(t *testing.T) {
	d := granted(t)
	require.NoError(t, d.isolation().DataMigration(t.Context(), d.db, func(tx *gorm.DB) error {
		if err := tx.Exec("SELECT set_config('app.tenant_id', 'initech', true)").Error; err != nil {
			return err
		}
		return errors.Join(tx.Exec("INSERT INTO invoices (total) VALUES (4)").Error, euro(tx))
	}))
	require.Equal(t, append(inEuro[:3:3], "initech 4 EUR"), d.all(t, currencies))
}

// A view with the rights of its reader hides nothing.
func TestDataMigrationReadsInvokerViews(t *testing.T) {
	d := granted(t)
	if d.version(t) < 150000 {
		return // which has none
	}
	d.run(t, "CREATE VIEW v WITH (security_invoker = true) AS SELECT * FROM invoices", "GRANT ALL ON v TO "+d.admin)
	require.NoError(t, d.isolation().DataMigration(t.Context(), d.db, func(tx *gorm.DB) error {
		return tx.Exec("UPDATE v SET currency = 'EUR'").Error
	}))
	require.Equal(t, inEuro, d.all(t, currencies))
}

func TestDataMigrationKeepsNothingOfAnError(t *testing.T) {
	d := granted(t)
	failed := errors.New("failed")
	err := d.isolation().DataMigration(t.Context(), d.db, func(tx *gorm.DB) error { return errors.Join(euro(tx), failed) })
	require.ErrorIs(t, err, failed)
	require.NotErrorIs(t, err, rls.ErrRowsHidden)
	require.Panics(t, func() {
		_ = d.isolation().DataMigration(t.Context(), d.db, func(tx *gorm.DB) error { _ = euro(tx); panic("function") })
	})
	require.Equal(t, untouched, d.all(t, currencies))

	err = d.isolation().DataMigration(t.Context(), d.db, func(tx *gorm.DB) error {
		return tx.Exec("UPDATE invoices SET total = tenant_id::bigint").Error
	})
	requireCode(t, err, "22P02")
	require.NotContains(t, err.Error(), "acme", "no stored value")
}

// A transaction of the caller's, such as gormigrate's, goes on in its own role.
func TestDataMigrationWithinATransaction(t *testing.T) {
	d := granted(t)
	require.NoError(t, d.db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Exec("ALTER TABLE invoices ADD COLUMN vat numeric").Error)
		require.NoError(t, tx.Exec("CREATE TABLE secrets (id int); ALTER TABLE secrets ENABLE ROW LEVEL SECURITY").Error)
		require.Error(t, d.isolation().DataMigration(t.Context(), tx, func(tx *gorm.DB) error {
			return errors.Join(tx.Exec("UPDATE invoices SET vat = 7").Error, errors.New("failed"))
		}))
		require.NoError(t, d.isolation().DataMigration(t.Context(), tx, func(tx *gorm.DB) error {
			return tx.Exec("UPDATE invoices SET vat = coalesce(vat, 19)").Error
		}))
		return tx.Exec("ALTER TABLE invoices ALTER COLUMN vat SET NOT NULL").Error
	}))
	require.Equal(t, []string{"19", "19", "19"}, d.all(t, "SELECT vat FROM invoices"))
}

func TestDataMigrationRefusesAGuardedClient(t *testing.T) {
	d := granted(t)
	db := testdb.OpenPlain(t, d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{Logger: testdb.Quiet})))
	err := d.isolation().DataMigration(t.Context(), db, euro)
	require.ErrorContains(t, err, "tenancy: the plugin chooses the role of each statement")
	require.ErrorContains(t, d.isolation().DataMigration(t.Context(), nil, euro), "tenancy: no database")
	require.ErrorContains(t, rls.Isolation{Column: "\x00"}.DataMigration(t.Context(), d.db, euro), "tenancy: Column")
}
