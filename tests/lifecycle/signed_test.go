package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// signedFixture is a fixture whose policies demand the proof of a key, those that were written by hand as well.
func signedFixture(t *testing.T) *testdb.Database {
	t.Helper()
	d := testdb.NewSigned(t, models...)
	addOdds(t, d)
	fill(t, d)
	return d
}

func TestSignedTenantIsExportedErasedAndImported(t *testing.T) {
	exportEraseAndImport(t, signedFixture(t))
}

// TestSignedTenantIsMovedBetweenForms: a file says nothing of how tenants are kept apart.
func TestSignedTenantIsMovedBetweenForms(t *testing.T) {
	from, to := signedFixture(t), fixture(t)
	to.AsSuperuser(t, "INSERT INTO plans (id, name) VALUES (1, 'free')")
	_, file := export(t, tenants(t, from), testdb.Acme)
	_, err := tenants(t, to).Import(t.Context(), "", file)
	require.NoError(t, err)
	require.Equal(t, checksum(t, from, testdb.Acme), checksum(t, to, testdb.Acme))
}

// TestSignedTenantNeedsTheRoleOfTheKeys: without it, or without a key, nothing is read and nothing erased.
func TestSignedTenantNeedsTheRoleOfTheKeys(t *testing.T) {
	d := signedFixture(t)
	l := tenants(t, d)
	before := checksum(t, d, testdb.Acme)
	fails := func(words string) {
		t.Helper()
		_, err := l.Count(t.Context(), testdb.Acme)
		require.ErrorContains(t, err, words)
		_, err = l.Erase(t.Context(), testdb.Acme)
		require.ErrorContains(t, err, words)
	}
	d.AsSuperuser(t, "UPDATE tenancy_signed.keys SET id = 'kept'", "CREATE TABLE kept_keys AS TABLE tenancy_signed.keys")
	d.RetireKey(t, "kept")
	fails("there is no key")
	d.AsSuperuser(t, "INSERT INTO tenancy_signed.keys TABLE kept_keys", "DROP TABLE kept_keys")
	signer := d.Isolation().SignerRole
	d.AsSuperuser(t, "REVOKE "+signer+" FROM "+d.Owner.Role)
	fails("log in as a member of the role \"" + signer + "\"")
	d.AsSuperuser(t, "GRANT "+signer+" TO "+d.Owner.Role)
	require.Equal(t, before, checksum(t, d, testdb.Acme))
	_, err := l.Count(t.Context(), testdb.Acme)
	require.NoError(t, err)

	l.DB = testdb.OpenSQL(t, d.App.DSN)
	fails("log in as a member")
	l.DB, l.Isolation.AppRole = testdb.OpenSQL(t, d.SuperuserDSN(t)), d.App.Role
	report, err := l.Count(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.EqualValues(t, 53, report.Rows())
}

// TestSignedEraseNoticesRetiredKey: without a key the policies show no rows, and a tenant whose rows are there would be reported as erased.
func TestSignedEraseNoticesRetiredKey(t *testing.T) {
	d := signedFixture(t)
	l := tenants(t, d)
	l.BatchSize = 3
	globex := checksum(t, d, testdb.Globex)
	l.Progress = func(p lifecycle.Progress) {
		if p.Operation == lifecycle.OpErase && p.Done == 3 {
			d.AsSuperuser(t, "DELETE FROM tenancy_signed.keys")
		}
	}
	_, err := l.Erase(t.Context(), testdb.Acme)
	require.ErrorContains(t, err, "there is no key")

	d.AddKey(t, "second", 's')
	d.AsOwner(t, "CREATE FUNCTION clear() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('app.tenant_id_proof', 'x', true); RETURN OLD; END$$",
		"CREATE TRIGGER clear BEFORE DELETE ON tasks FOR EACH ROW WHEN (OLD.id % 7 = 0) EXECUTE FUNCTION clear()")
	l.Progress = nil
	_, err = l.Erase(t.Context(), testdb.Acme)
	require.ErrorIs(t, err, lifecycle.ErrRowsHidden)
	require.ErrorContains(t, err, "signature")
	d.AsOwner(t, "DROP TRIGGER clear ON tasks")
	_, err = l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.Equal(t, checksum(t, d, "no one"), checksum(t, d, testdb.Acme))
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
}

// TestSignedProofEndsWithTheRun, and so does the role that made it.
func TestSignedProofEndsWithTheRun(t *testing.T) {
	d := signedFixture(t)
	pool := testdb.OpenSQL(t, d.Owner.DSN)
	pool.SetMaxOpenConns(1)
	l := tenants(t, d)
	l.DB = pool
	_, err := l.Count(t.Context(), testdb.Acme)
	require.NoError(t, err)
	var proof, role, login string
	require.NoError(t, pool.QueryRow(`SELECT current_setting('app.tenant_id_proof', true), current_user, session_user`).Scan(&proof, &role, &login))
	require.Empty(t, proof, "the transaction has ended")
	require.Equal(t, login, role)
}

// TestSignedTenantsWhileSwitching: policies that take both forms, and tables of either form beside each other.
func TestSignedTenantsWhileSwitching(t *testing.T) {
	d := signedFixture(t)
	l := tenants(t, d)
	want, err := l.Count(t.Context(), testdb.Acme)
	require.NoError(t, err)
	either := d.Isolation()
	either.DangerouslyAcceptUnsigned = true
	unsigned := d.Isolation()
	unsigned.Signed = false
	for _, isolation := range []rls.Isolation{either, unsigned, d.Isolation()} {
		d.Migrate(t, isolation, models...)
		got, err := l.Count(t.Context(), testdb.Acme)
		require.NoError(t, err)
		require.Equal(t, want.Rows(), got.Rows())
	}
	d.AsOwner(t, "DROP POLICY tenant_isolation ON odds")
	d.AsOwner(t, "CREATE POLICY tenant_isolation ON odds USING (tenant_id = (SELECT tenancy_signed.lookup('app.tenant_id'))::text)")
	_, err = l.Count(t.Context(), testdb.Acme)
	require.ErrorIs(t, err, lifecycle.ErrNotIsolated, "another function is no proof of isolation")
}
