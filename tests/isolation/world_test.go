package isolation

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// world is what a way of sending SQL finds: two tenants with the same kind of rows.
type world struct {
	me, other string
	mine      fixture
	theirs    fixture
}

// fixture is the ids of one tenant's rows.
type fixture struct {
	doctor, tag, visit, hooked int64
	patients                   [3]int64
	deleted                    int64 // a patient who is soft-deleted
}

// patientsEach is how many patients a tenant has that are not deleted.
const patientsEach = 3

// database is a migrated database, and a plain connection that sees and changes everything.
type database struct {
	*pgserver.Database
	admin *gorm.DB
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{Database: pgserver.New(t)}
	owner := plain(t, d.Owner.DSN)
	_, err := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}.Migrate(context.Background(), owner, models...)
	require.NoError(t, err)
	d.admin = plain(t, d.Admin.DSN)
	require.NoError(t, d.admin.Create(&Country{Code: "NO", Name: "Norway"}).Error)
	return d
}

// plain is GORM without the plugin.
func plain(t testing.TB, dsn string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

var worlds atomic.Int64

// newWorld makes two tenants that nobody else uses.
func (d *database) newWorld(t testing.TB) *world {
	t.Helper()
	n := worlds.Add(1)
	w := &world{me: fmt.Sprintf("me-%d", n), other: fmt.Sprintf("other-%d", n)}
	w.mine, w.theirs = d.seed(t, w.me), d.seed(t, w.other)
	return w
}

func (d *database) seed(t testing.TB, tenant string) (f fixture) {
	t.Helper()
	err := d.admin.Transaction(func(tx *gorm.DB) error {
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
		require.NoError(t, d.admin.Raw(
			"SELECT '"+table+" ' || t::text FROM "+table+" t WHERE tenant_id = ? ORDER BY 1", tenant).Scan(&some).Error)
		rows = append(rows, some...)
	}
	return rows
}
