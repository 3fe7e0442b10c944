package web

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey/apikeytest"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestAPIKeyStoreKeepsTheContract(t *testing.T) {
	testdb.InBothForms(t, testAPIKeyStoreKeepsTheContract)
}

func testAPIKeyStoreKeepsTheContract(t *testing.T) {
	_, db := migrated(t, []rls.Lookup{apikey.Lookup()}, &apikey.Key{})
	apikeytest.Run(t, apikey.NewStore(db), acme, globex)
}

// TestAPIKeysAreIsolated: the hashes of another tenant's keys are read by no role of the application, and none is forged in its name.
func TestAPIKeysAreIsolated(t *testing.T) { testdb.InBothForms(t, testAPIKeysAreIsolated) }

func testAPIKeysAreIsolated(t *testing.T) {
	_, db := migrated(t, []rls.Lookup{apikey.Lookup()}, &apikey.Key{})
	keys, err := apikey.New(apikey.Config{
		Prefix: "shop", Environment: "live", Store: apikey.NewStore(db),
		Peppers: []apikey.Pepper{{Version: 1, Secret: []byte("a pepper of thirty-two bytes, or more")}},
	})
	require.NoError(t, err)
	text, key, err := keys.Create(testdb.As(acme), apikey.Options{Name: "exports", Scopes: []string{"read"}})
	require.NoError(t, err)
	got, err := keys.Verify(t.Context(), text)
	require.NoError(t, err)
	require.Equal(t, acme, got.TenantID)
	require.NoError(t, keys.Flush(t.Context()))
	var stored apikey.Key
	require.NoError(t, db.WithContext(testdb.As(acme)).Take(&stored, "id = ?", key.ID).Error)
	require.NotNil(t, stored.LastUsedAt)
	require.NotContains(t, string(stored.Hash), text)

	none := db.WithContext(tenancy.WithoutTenant(t.Context()))
	for _, column := range []string{"hash", "scopes", "name", "*"} {
		require.ErrorContains(t, none.Table("api_keys").Select(column).Find(&[]map[string]any{}).Error, "42501", column)
	}
	theirs := db.WithContext(testdb.As(globex))
	var all []apikey.Key
	require.NoError(t, theirs.Find(&all).Error)
	require.Empty(t, all)
	require.Zero(t, theirs.Exec("UPDATE api_keys SET hash = 'x' WHERE id = ?", key.ID).RowsAffected)
	require.ErrorContains(t, theirs.Exec("INSERT INTO api_keys (id, tenant_id, name, scopes, hash, pepper, created_at) VALUES (gen_random_uuid(), 'acme', '', '', '', 1, now())").Error, "42501")
	require.Error(t, theirs.Exec("INSERT INTO api_keys (id, tenant_id, name, scopes, hash, pepper, created_at) VALUES (?, 'globex', '', '', '', 1, now())", key.ID).Error,
		"the id of another's key would become ambiguous")
	_, err = keys.Verify(t.Context(), text)
	require.NoError(t, err)
}
