package testdb_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

type Note struct {
	ID       int64
	TenantID string
}

// TestRoles: a fixture that bound the admin, or did not bind the others, would let other tests prove nothing.
func TestRoles(t *testing.T) { testdb.InBothForms(t, testRoles) }

func testRoles(t *testing.T) {
	d := testdb.New(t, &Note{})
	d.AsOwner(t, "ALTER TABLE notes ADD body text")
	db := d.Open(t, d.Config(), testdb.PrepareStmt)
	for _, tenant := range []string{testdb.Acme, testdb.Globex} {
		require.NoError(t, db.WithContext(testdb.As(tenant)).Create(&Note{}).Error)
	}
	var own, all, owners []Note
	require.NoError(t, db.WithContext(testdb.As(testdb.Acme)).Find(&own).Error)
	require.Len(t, own, 1)
	require.NoError(t, d.AdminDB.Find(&all).Error)
	require.Len(t, all, 2)
	require.NoError(t, d.OwnerDB.Find(&owners).Error)
	require.Empty(t, owners, "the owner is bound as well")

	d.AsSuperuser(t, "SET session_replication_role = replica; TRUNCATE notes")
	require.NoError(t, d.AdminDB.Find(&all).Error)
	require.Empty(t, all)
}

// TestInBothForms: a switch that did nothing would let tests run twice in one form.
func TestInBothForms(t *testing.T) {
	var seen []int
	testdb.InBothForms(t, func(t *testing.T) {
		d := testdb.New(t, &Note{})
		db := d.Open(t, d.Config())
		require.NoError(t, db.WithContext(testdb.As(testdb.Globex)).Create(&Note{}).Error)
		var ids []int64
		require.NoError(t, db.WithContext(testdb.As(testdb.Acme)).Raw(
			`WITH s AS MATERIALIZED (SELECT set_config('app.tenant_id', 'globex', true)) SELECT id FROM s, notes`).Scan(&ids).Error)
		seen = append(seen, len(ids))
	})
	require.Equal(t, []int{1, 0}, seen, "rows of a tenant that SQL names")
}

// TestModes: an option that did nothing would let a test of all modes test one of them five times.
func TestModes(t *testing.T) {
	d := testdb.New(t)
	for _, mode := range testdb.Modes {
		t.Run(testdb.ModeName(mode), func(t *testing.T) {
			db := testdb.OpenPlain(t, d.App.DSN, testdb.Mode(mode))
			var prepared []string
			require.NoError(t, db.Raw("SELECT statement FROM pg_prepared_statements WHERE ? <> ''", "x").Scan(&prepared).Error)
			require.NoError(t, db.Raw("SELECT statement FROM pg_prepared_statements WHERE ? <> ''", "x").Scan(&prepared).Error)
			require.Equal(t, testdb.ModeName(mode) == "cache_statement", len(prepared) == 1)
		})
	}
}
