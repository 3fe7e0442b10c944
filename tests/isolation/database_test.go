package isolation

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

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

func (d *database) withCountry(t testing.TB) *database {
	t.Helper()
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

func (d *database) seed(t testing.TB, tenant string) (f fixture) {
	t.Helper()
	err := d.AdminDB.Transaction(func(tx *gorm.DB) error {
		doctor := Doctor{TenantID: tenant, Name: "Doctor"}
		tag := Tag{TenantID: tenant, Label: "tag"}
		hooked := Hooked{TenantID: tenant, Name: "hooked"}
		if err := tx.Session(&gorm.Session{SkipHooks: true}).Create(&hooked).Error; err != nil {
			return err
		}
		for _, row := range []any{&doctor, &tag} {
			if err := tx.Create(row).Error; err != nil {
				return err
			}
		}
		f.doctor, f.tag, f.hooked = doctor.ID, tag.ID, hooked.ID
		for i := range patientsEach + 1 {
			p := Patient{TenantID: tenant, Name: fmt.Sprintf("Patient %d", i), Age: 30 + i, DoctorID: &doctor.ID}
			if err := tx.Create(&p).Error; err != nil {
				return err
			}
			v := Visit{TenantID: tenant, PatientID: p.ID, Note: "visit"}
			if err := tx.Create(&v).Error; err != nil {
				return err
			}
			f.visit = v.ID
			if i == patientsEach {
				f.deleted = p.ID
				return tx.Delete(&p).Error
			}
			f.patients[i] = p.ID
			if err := tx.Exec("INSERT INTO patient_tags (patient_id, tag_id, tenant_id) VALUES (?, ?, ?)",
				p.ID, tag.ID, tenant).Error; err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	return f
}

// state is all rows of a tenant in all tables, as text.
func (d *database) state(t testing.TB, tenant string) (rows []string) {
	t.Helper()
	for _, table := range []string{"doctors", "tags", "patients", "visits", "hookeds", "patient_tags"} {
		var some []string
		require.NoError(t, d.AdminDB.Raw(
			"SELECT '"+table+" ' || t::text FROM "+table+" t WHERE tenant_id = ? ORDER BY 1", tenant).Scan(&some).Error)
		rows = append(rows, some...)
	}
	return rows
}
