package cmd_test

import (
	"testing"

	"github.com/stretchr/testify/require"
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
