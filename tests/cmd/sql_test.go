package cmd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
)

func TestSQLMendsADatabase(t *testing.T) {
	d := newDatabase(t)
	r := tenancy(t, d.options(t, "sql")...)
	require.Equal(t, 0, r.exit, r.errors)
	require.Equal(t, "-- There is nothing to fix with SQL.\n", r.out)

	d.spoil(t)
	r = tenancy(t, d.options(t, "sql")...)
	require.Equal(t, 0, r.exit, r.errors)
	require.Empty(t, r.errors)
	d.AsOwner(t, "BEGIN; "+r.out+"\nCOMMIT")
	r = tenancy(t, d.options(t, "check")...)
	require.Equal(t, 0, r.exit, r.out)
}

func TestSQLTellsWhatIsToBeDoneByHand(t *testing.T) {
	d := newDatabase(t)
	r := tenancy(t, d.options(t, "sql", "--allow", "table-not-enabled=public.countries=was never")...)
	require.Equal(t, 0, r.exit, r.errors)
	require.Contains(t, r.out, "-- There is nothing to fix with SQL.\n-- To fix by hand: allow-stale: table-not-enabled on public.countries")
}

// No database is asked, so that the script can be made where there is none.
func TestSQLOfADataMigration(t *testing.T) {
	before, after, err := rls.Isolation{AdminRole: "app_admin"}.DataMigrationSQL()
	require.NoError(t, err)
	const between = "\n-- Here the statements that change rows.\n\n"
	require.Equal(t, result{out: before + between + after}, tenancy(t, "sql", "--data", "--admin-role", "app_admin"))

	before, after, err = rls.Isolation{}.DataMigrationSQL(rls.AsOwner("invoices", "billing.payments"))
	require.NoError(t, err)
	require.Equal(t, result{out: before + between + after}, tenancy(t, "sql", "--data", "--as-owner", "invoices", "--as-owner", "billing.payments"))

	tenancy(t, "sql", "--data").failed(t, "--data needs --admin-role, or --as-owner")
	tenancy(t, "sql", "--as-owner", "invoices").failed(t, "--as-owner is for --data")
	tenancy(t, "sql", "--data", "--as-owner", "a.b.c").failed(t, "AsOwner: name a table")
}

// TestSQLSaysWhatIsForAnotherRole: the owner cannot run all of it.
func TestSQLSaysWhatIsForAnotherRole(t *testing.T) {
	d := newDatabase(t)
	const note = `move it to a script of its own`
	d.spoil(t)
	require.NotContains(t, tenancy(t, d.options(t, "sql")...).out, note)
	r := tenancy(t, d.options(t, "sql", "--signed")...)
	require.Contains(t, r.out, "\n-- as a superuser")
	require.Contains(t, r.out, note)
}
