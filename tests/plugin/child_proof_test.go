package plugin_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

// Visit refers to a patient, and its table was made by hand.
type Visit struct {
	ID        int64
	PatientID int64
}

func TestProofRefusesChildWithoutColumn(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE visits (id bigserial PRIMARY KEY, patient_id bigint REFERENCES patients (id))",
		"GRANT SELECT, INSERT ON visits TO "+d.App.Role, "GRANT USAGE ON SEQUENCE visits_id_seq TO "+d.App.Role)
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	for what, err := range map[string]error{
		"find":   db.Find(&[]Visit{}).Error,
		"join":   db.Table("visits").Joins("JOIN patients ON patients.id = visits.patient_id").Find(&[]map[string]any{}).Error,
		"create": db.Create(&Visit{PatientID: 1}).Error,
	} {
		require.ErrorIs(t, err, tenancy.ErrNotIsolated, what)
		require.ErrorContains(t, err, "visits refers to the tenant table patients", what)
	}
	d.AsOwner(t, "ALTER TABLE visits ENABLE ROW LEVEL SECURITY", "CREATE POLICY path ON visits USING (patient_id IN (SELECT id FROM patients))")
	require.ErrorIs(t, db.Find(&[]Visit{}).Error, tenancy.ErrNotIsolated, "by a policy of another form")
	trusting := d.Open(t, tenancy.Config{DangerouslyTrustPolicies: []string{"visits"}}).WithContext(as(acme))
	require.NoError(t, trusting.Find(&[]Visit{}).Error)
}

// TestProofRefusesParentByInheritance: a query of the parent reads the children, by the policies of the parent.
func TestProofRefusesParentByInheritance(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE people (id bigint, name text)", "GRANT SELECT ON people TO PUBLIC", "CREATE TABLE guests () INHERITS (people)")
	db := d.Open(t, tenancy.Config{}).WithContext(as(acme))
	require.NoError(t, db.Table("people").Find(&[]map[string]any{}).Error)
	d.AsOwner(t, "CREATE TABLE regulars (tenant_id text) INHERITS (guests)")
	db = d.Open(t, tenancy.Config{}).WithContext(as(acme))
	err := db.Table("people").Find(&[]map[string]any{}).Error
	require.ErrorIs(t, err, tenancy.ErrNotIsolated)
	require.ErrorContains(t, err, "the tenant table regulars inherits from people")
	d.AsOwner(t, "ALTER TABLE regulars NO INHERIT guests")
	require.NoError(t, db.Table("people").Find(&[]map[string]any{}).Error)
}

// TestProofRefusesLooseCollation: to such a column acme and ACME are one tenant.
func TestProofRefusesLooseCollation(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
		"ALTER TABLE patients DROP CONSTRAINT IF EXISTS fk_doctors_patients, DROP CONSTRAINT IF EXISTS fk_patients_doctor",
		"DROP POLICY tenant_isolation ON doctors", "ALTER TABLE doctors ALTER COLUMN tenant_id TYPE text COLLATE loose",
		"CREATE POLICY tenant_isolation ON doctors USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')))")
	db := d.Open(t, tenancy.Config{})
	err := db.WithContext(as("ACME")).Find(&[]Doctor{}).Error
	require.ErrorIs(t, err, tenancy.ErrNotIsolated)
	require.ErrorContains(t, err, "takes different ids for equal")
}
