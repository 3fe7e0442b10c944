package lifecycle_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// A tenant that makes its rows refer to a person of another, by a foreign key that forgets the tenant, gets them neither exported nor changed.
func TestSubjectOfOneTenantReachesNoRowOfAnother(t *testing.T) {
	testdb.InBothForms(t, testSubjectOfOneTenantReachesNoRowOfAnother)
}

func testSubjectOfOneTenantReachesNoRowOfAnother(t *testing.T) {
	d := people(t)
	d.AsOwner(t, "ALTER TABLE orders DROP CONSTRAINT fk_orders_user, ADD CONSTRAINT fk_orders_user FOREIGN KEY (user_id) REFERENCES users (id)")
	d.AsSuperuser(t, "UPDATE orders SET user_id = 1, note = 'of globex' WHERE id = 101")
	s := subjects(t, d)
	globex, acme := checksum(t, d, testdb.Globex), checksum(t, d, testdb.Acme)
	var file bytes.Buffer
	m, err := s.Export(t.Context(), testdb.Acme, bob, &file)
	require.NoError(t, err)
	require.EqualValues(t, 9, m.Rows())
	require.NotContains(t, file.String(), "of globex")

	// To delete the person would take a row of the other tenant along, or leave it without its parent.
	deletes := subjects(t, d)
	for _, n := range []int{0, 1, 6} {
		deletes.Holdings[n].Erasure = lifecycle.Delete()
	}
	_, err = deletes.Erase(t.Context(), testdb.Acme, bob)
	require.ErrorContains(t, err, "fk_orders_user")
	require.NotContains(t, err.Error(), "globex")
	require.Equal(t, globex, checksum(t, d, testdb.Globex))

	_, err = s.Erase(t.Context(), testdb.Acme, bob)
	require.NoError(t, err)
	require.NotEqual(t, acme, checksum(t, d, testdb.Acme))
	require.Equal(t, globex, checksum(t, d, testdb.Globex))

	report, err := s.PlanErase(t.Context(), "a stranger", bob)
	require.NoError(t, err)
	require.Zero(t, report.Rows(), "a tenant without rows has none of anyone")
}

// Without policies that bind the run, it is refused: conditions in SQL alone are one mistake away from another tenant.
func TestSubjectNeedsPolicies(t *testing.T) { testdb.InBothForms(t, testSubjectNeedsPolicies) }

func testSubjectNeedsPolicies(t *testing.T) {
	d := people(t)
	before := checksum(t, d, testdb.Acme) + checksum(t, d, testdb.Globex)
	s := subjects(t, d)
	for _, open := range []string{"DISABLE ROW LEVEL SECURITY", "NO FORCE ROW LEVEL SECURITY"} {
		d.AsOwner(t, "ALTER TABLE orders "+open)
		_, err := s.Export(t.Context(), testdb.Acme, bob, io.Discard)
		require.ErrorIs(t, err, lifecycle.ErrNotIsolated)
		_, err = s.Erase(t.Context(), testdb.Acme, bob)
		require.ErrorIs(t, err, lifecycle.ErrNotIsolated)
		d.AsOwner(t, "ALTER TABLE orders ENABLE ROW LEVEL SECURITY", "ALTER TABLE orders FORCE ROW LEVEL SECURITY")
	}
	s.Tenants.DB = testdb.OpenSQL(t, d.Admin.DSN)
	_, err := s.Erase(t.Context(), testdb.Acme, bob)
	require.ErrorIs(t, err, lifecycle.ErrNotIsolated, "the admin sees all tenants")
	require.Equal(t, before, checksum(t, d, testdb.Acme)+checksum(t, d, testdb.Globex))
}

// The key of a person is a value, whatever it holds.
func TestSubjectKeyIsNoSQL(t *testing.T) { testdb.InBothForms(t, testSubjectKeyIsNoSQL) }

func testSubjectKeyIsNoSQL(t *testing.T) {
	d := people(t)
	s := subjects(t, d)
	before := checksum(t, d, testdb.Acme)
	for _, key := range []string{"' OR true --", `%`, "bob@example.com' OR email <> '", `\`, "{bob@example.com}", `["bob@example.com"]`} {
		report, err := s.Erase(t.Context(), testdb.Acme, key)
		require.NoError(t, err, key)
		require.Zero(t, report.Rows(), key)
	}
	_, err := s.Erase(t.Context(), testdb.Acme, "x\x00")
	require.Error(t, err)
	_, err = s.Erase(t.Context(), testdb.Acme, "")
	require.Error(t, err)
	require.Equal(t, before, checksum(t, d, testdb.Acme), "nothing is changed")
}
