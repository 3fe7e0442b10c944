package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestTenantIsExportedErasedAndImported(t *testing.T) {
	exportEraseAndImport(t, filled(t))
}

func exportEraseAndImport(t *testing.T, d *testdb.Database) {
	t.Helper()
	l := tenants(t, d)
	acme, globex := checksum(t, d, testdb.Acme), checksum(t, d, testdb.Globex)

	m, file := export(t, l, testdb.Acme)
	require.EqualValues(t, 1+10+5+30+5+2, m.Rows())
	again, _ := export(t, l, testdb.Acme)
	require.Equal(t, m.Tables, again.Tables)

	planned, err := l.PlanErase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.Equal(t, m.Rows(), planned.Rows())
	require.Equal(t, acme, checksum(t, d, testdb.Acme), "the plan changes nothing")

	l.BatchSize = 3
	erased, err := l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.Equal(t, m.Rows(), erased.Rows())
	require.Equal(t, checksum(t, d, "no one"), checksum(t, d, testdb.Acme))
	require.Equal(t, globex, checksum(t, d, testdb.Globex))

	imported, err := l.Import(t.Context(), "", file)
	require.NoError(t, err)
	require.Equal(t, m.Rows(), imported.Rows())
	require.Equal(t, acme, checksum(t, d, testdb.Acme), "each value is what it was")
	require.Equal(t, globex, checksum(t, d, testdb.Globex))

	differences, err := l.Diff(t.Context(), "", file)
	require.NoError(t, err)
	require.Empty(t, differences)
	d.AsSuperuser(t, "UPDATE tasks SET done = true WHERE id = 3", "DELETE FROM odds WHERE tenant_id = 'acme' AND title = ''")
	differences, err = l.Diff(t.Context(), "", file)
	require.NoError(t, err)
	require.Len(t, differences, 2)
}
