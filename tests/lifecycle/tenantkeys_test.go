package lifecycle_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestCopyWithTenantKeysKeepsIDs copies a tenant beside itself with the same ids, which are each tenant's own, and erases the copy.
func TestCopyWithTenantKeysKeepsIDs(t *testing.T) {
	d := testdb.NewTenantKeys(t, models...)
	for _, tenant := range []string{testdb.Acme, testdb.Globex} {
		for _, sql := range []string{
			"INSERT INTO orgs (id, name) VALUES ('%s', 'org')",
			"INSERT INTO people (tenant_id, id, name) VALUES ('%s', 1, 'boss'), ('%[1]s', 2, 'other')",
			"UPDATE people SET boss_id = 1 WHERE tenant_id = '%s' AND id = 2",
			"INSERT INTO projects (tenant_id, id, name) VALUES ('%s', 1, 'project')",
			"INSERT INTO tasks (tenant_id, id, project_id) VALUES ('%s', 1, 1)",
			"INSERT INTO person_projects (tenant_id, person_id, project_id) VALUES ('%s', 1, 1)",
		} {
			d.AsSuperuser(t, fmt.Sprintf(sql, tenant))
		}
	}
	l := tenants(t, d)
	acme, globex := checksum(t, d, testdb.Acme), checksum(t, d, testdb.Globex)
	_, file := export(t, l, testdb.Acme)
	_, err := l.Import(t.Context(), "copy", file)
	require.NoError(t, err)
	requireSame(t, l, file)
	require.Equal(t, []string{"1", "2"}, rowsOf(t, d, "SELECT id::text FROM people WHERE tenant_id = 'copy' ORDER BY 1"))
	_, err = l.Erase(t.Context(), "copy")
	require.NoError(t, err)
	require.Empty(t, rowsOf(t, d, "SELECT id::text FROM people WHERE tenant_id = 'copy'"))
	require.Equal(t, acme, checksum(t, d, testdb.Acme))
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
}
