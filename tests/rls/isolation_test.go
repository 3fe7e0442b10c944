package rls_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type note struct {
	ID       int64
	TenantID string
	Body     string
}

const bodies = "SELECT body FROM notes ORDER BY body"

// twoTenants gives acme and globex a note each.
func twoTenants(t *testing.T) database {
	t.Helper()
	d := newDatabase(t)
	d.migrate(t, &note{})
	d.as(t, "acme", "INSERT INTO notes (body) VALUES ('of acme')")
	d.as(t, "globex", "INSERT INTO notes (body) VALUES ('of globex')")
	return d
}

func TestPolicyShowsATenantItsOwnRowsOnly(t *testing.T) {
	d := twoTenants(t)
	require.Equal(t, []string{"of acme"}, d.sees(t, "acme", bodies))
	require.Equal(t, []string{"of globex"}, d.sees(t, "globex", bodies))
	require.Equal(t, []string{"of globex"}, d.sees(t, "globex", "SELECT body FROM notes WHERE tenant_id IN ('acme', 'globex')"))
}

func TestPolicyShowsNothingWithoutTenant(t *testing.T) {
	d := twoTenants(t)
	require.Empty(t, d.sees(t, "", bodies), "in a session that had a tenant before, where the setting is empty")

	pool, err := testdb.OpenPlain(t, d.App.DSN).DB()
	require.NoError(t, err)
	require.Empty(t, collect(t, pool, bodies), "in a new session, where the setting is NULL")
}

func TestPolicyRefusesToWriteForeignRows(t *testing.T) {
	d := twoTenants(t)
	for name, statement := range map[string]string{
		"insert for another": "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'planted')",
		"insert for none":    "INSERT INTO notes (tenant_id, body) VALUES (NULL, 'planted')",
		"hand over":          "UPDATE notes SET tenant_id = 'globex'",
	} {
		t.Run(name, func(t *testing.T) {
			requireCode(t, d.fails(t, "acme", statement), insufficientPrivilege)
		})
	}
	requireCode(t, d.fails(t, "", "INSERT INTO notes (body) VALUES ('of nobody')"), insufficientPrivilege)

	d.as(t, "acme", "UPDATE notes SET body = body || '!'", "DELETE FROM notes WHERE tenant_id = 'globex'")
	require.Equal(t, []string{"of acme!"}, d.sees(t, "acme", bodies))
	require.Equal(t, []string{"of globex"}, d.sees(t, "globex", bodies))
}

func TestPolicyHoldsForTheOwner(t *testing.T) {
	d := twoTenants(t)
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	require.Empty(t, collect(t, pool, bodies))
}

func TestPolicyShowsTheAdminAllRows(t *testing.T) {
	d := twoTenants(t)
	tx := d.begin(t, "")
	require.NoError(t, tx.exec("SET LOCAL ROLE "+d.Admin.Role))
	require.Equal(t, []string{"of acme", "of globex"}, tx.strings(t, bodies))
	require.NoError(t, tx.exec("INSERT INTO notes (tenant_id, body) VALUES ('initech', 'of initech')"))
	require.NoError(t, tx.exec("UPDATE notes SET body = body || '!'"))
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"of initech!"}, d.sees(t, "initech", bodies))
	require.Empty(t, d.sees(t, "", bodies), "the role ends with its transaction")
}
