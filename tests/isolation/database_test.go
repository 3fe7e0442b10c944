package isolation

import (
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// database is migrated for all models.
type database struct{ *testdb.Database }

// pair is what a way of sending SQL finds: two tenants with the same kind of rows.
type pair struct {
	me, other string
	mine      fixture
	theirs    fixture
	keyed     bool // tenants can have the same ids
}

// fixture is the ids of one tenant's rows.
type fixture struct {
	doctor, tag, visit, hooked int64
	patients                   [3]int64
	deleted                    int64 // a patient who is soft-deleted
}

// patientsEach is how many patients a tenant has that are not deleted.
const patientsEach = 3

func newDatabase(t testing.TB) *database {
	t.Helper()
	return (&database{testdb.New(t, models...)}).withCountry(t)
}

// newSignedDatabase is one whose policies demand the proof of a key.
func newSignedDatabase(t testing.TB) *database {
	t.Helper()
	return (&database{testdb.NewSigned(t, models...)}).withCountry(t)
}

// newKeyedDatabase is one whose primary keys begin with the tenant column.
func newKeyedDatabase(t testing.TB) *database {
	t.Helper()
	return (&database{testdb.NewTenantKeys(t, models...)}).withCountry(t)
}

// newPartitionedDatabase is one whose tables have partitions by the hash of the tenant.
func newPartitionedDatabase(t testing.TB, count int) *database {
	t.Helper()
	return (&database{testdb.NewPartitioned(t, rls.Partitioned{Hash: count}, models[1:], models...)}).withCountry(t)
}

// newAuditedDatabase is one whose primary keys begin with the tenant column, and which records the changes of all tenant tables. In a subtest
// called signed its policies demand the proof of a key.
func newAuditedDatabase(t testing.TB) *database {
	t.Helper()
	d := testdb.NewTenantKeys(t)
	isolation := d.Isolation()
	for _, model := range models[1:] {
		isolation.Audits = append(isolation.Audits, rls.Audit{Model: model})
	}
	d.Migrate(t, isolation, models...)
	return (&database{d}).withCountry(t)
}

// records returns how many changes of a tenant's rows are recorded.
func (d *database) records(t testing.TB, tenant string) (n int) {
	t.Helper()
	require.NoError(t, d.AdminDB.Raw("SELECT count(*) FROM tenancy_audit WHERE tenant_id = ?", tenant).Scan(&n).Error)
	return n
}

func (d *database) withCountry(t testing.TB) *database {
	t.Helper()
	d.AsOwner(t, seedSQL)
	require.NoError(t, d.AdminDB.Create(&Country{Code: "NO", Name: "Norway"}).Error)
	return d
}

var pairs atomic.Int64

// newPair makes two tenants that no other test uses.
func (d *database) newPair(t testing.TB) *pair {
	t.Helper()
	n := pairs.Add(1)
	two := &pair{me: fmt.Sprintf("me-%d", n), other: fmt.Sprintf("other-%d", n), keyed: d.TenantKeys()}
	two.mine, two.theirs = d.seed(t, two.me), d.seed(t, two.other)
	return two
}

// seedSQL makes the function that makes a tenant's rows in one round trip: patientsEach patients, and one that is deleted.
const seedSQL = `CREATE FUNCTION seed(tenant text, OUT doctor bigint, OUT tag bigint, OUT visit bigint, OUT hooked bigint, OUT patients bigint[])
	LANGUAGE plpgsql AS $$
	DECLARE patient bigint;
	BEGIN
		INSERT INTO hookeds (tenant_id, name) VALUES (tenant, 'hooked') RETURNING id INTO hooked;
		INSERT INTO doctors (tenant_id, name) VALUES (tenant, 'Doctor') RETURNING id INTO doctor;
		INSERT INTO tags (tenant_id, label) VALUES (tenant, 'tag') RETURNING id INTO tag;
		FOR i IN 0..3 LOOP
			INSERT INTO patients (tenant_id, name, age, doctor_id, updated_at, deleted_at)
				VALUES (tenant, 'Patient ' || i, 30 + i, doctor, now(), CASE WHEN i = 3 THEN now() END) RETURNING id INTO patient;
			INSERT INTO visits (tenant_id, patient_id, note) VALUES (tenant, patient, 'visit') RETURNING id INTO visit;
			IF i < 3 THEN
				INSERT INTO patient_tags (patient_id, tag_id, tenant_id) VALUES (patient, tag, tenant);
			END IF;
			patients := patients || patient;
		END LOOP;
	END $$`

func (d *database) seed(t testing.TB, tenant string) (f fixture) {
	t.Helper()
	row := d.AdminDB.Raw("SELECT doctor, tag, visit, hooked, patients[1], patients[2], patients[3], patients[4] FROM seed(?)", tenant).Row()
	require.NoError(t, row.Scan(&f.doctor, &f.tag, &f.visit, &f.hooked, &f.patients[0], &f.patients[1], &f.patients[2], &f.deleted))
	return f
}

// stateSQL returns all rows of a tenant in all tables, as text.
var stateSQL = func() string {
	var parts []string
	for _, table := range []string{"doctors", "tags", "patients", "visits", "hookeds", "patient_tags"} {
		parts = append(parts, "SELECT '"+table+" ' || t::text FROM "+table+" t WHERE tenant_id = @tenant")
	}
	return strings.Join(parts, " UNION ALL ") + " ORDER BY 1"
}()

func (d *database) state(t testing.TB, tenant string) (rows []string) {
	t.Helper()
	require.NoError(t, d.AdminDB.Raw(stateSQL, sql.Named("tenant", tenant)).Scan(&rows).Error)
	return rows
}
