package roundtrip

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// operation is something an application does. The same body runs without the plugin and with it; db carries the
// context.
type operation func(db *gorm.DB) error

func first(db *gorm.DB) error { return db.First(&Patient{}).Error }

func find(db *gorm.DB) error {
	var p []Patient
	return rows(db.Where("tenant_id = ?", tenant).Limit(patientsEach).Find(&p), patientsEach)
}

func exec(db *gorm.DB) error {
	return rows(db.Exec("UPDATE patients SET name = ? WHERE id = (SELECT min(id) FROM patients)", "Eve"), 1)
}

// execText has no arguments, so that pgx takes it for SQL text of any number of statements.
func execText(db *gorm.DB) error {
	return rows(db.Exec("UPDATE patients SET name = 'Eve' WHERE id = (SELECT min(id) FROM patients)"), 1)
}

func raw(db *gorm.DB) error {
	var n int
	return db.Raw("SELECT count(*) FROM patients WHERE name = ?", "Eve").Scan(&n).Error
}

func create(db *gorm.DB) error {
	return rows(db.Create(&Patient{TenantID: tenant, Name: "New", DoctorID: 1}), 1)
}

func update(db *gorm.DB) error {
	return rows(db.Model(&Patient{}).Where("id = (SELECT min(id) FROM patients)").Update("name", "Eve"), 1)
}

func deleteOne(db *gorm.DB) error {
	return rows(db.Where("id = (SELECT max(id) FROM patients WHERE tenant_id = ?)", tenant).Delete(&Patient{}), 1)
}

func count(db *gorm.DB) error {
	var n int64
	return db.Model(&Patient{}).Count(&n).Error
}

func emptyTransaction(db *gorm.DB) error {
	return db.Transaction(func(*gorm.DB) error { return nil })
}

func firstAndCreate(db *gorm.DB) error {
	return db.Transaction(func(tx *gorm.DB) error { return errors.Join(first(tx), create(tx)) })
}

var errRolledBack = errors.New("rolled back")

func rolledBack(db *gorm.DB) error {
	err := db.Transaction(func(tx *gorm.DB) error { return errors.Join(first(tx), errRolledBack) })
	if !errors.Is(err, errRolledBack) {
		return fmt.Errorf("got %w", err)
	}
	return nil
}

func nested(db *gorm.DB) error {
	return db.Transaction(func(tx *gorm.DB) error { return tx.Transaction(first) })
}

func createInBatches(db *gorm.DB) error {
	p := make([]Patient, 30)
	for i := range p {
		p[i] = Patient{TenantID: tenant, Name: "New", DoctorID: 1}
	}
	return rows(db.CreateInBatches(p, 10), 30)
}

func findInBatches(db *gorm.DB) error {
	var p []Patient
	return rows(db.Limit(60).FindInBatches(&p, 20, func(*gorm.DB, int) error { return nil }), 60)
}

func preload(db *gorm.DB) error {
	var d []Doctor
	return rows(db.Preload("Patients").Limit(2).Find(&d), 2)
}

// stream reads rows of some megabytes one by one.
func stream(db *gorm.DB) error {
	r, err := db.Raw("SELECT n, repeat('x', 100) FROM generate_series(1, ?::int) n", streamed).Rows()
	if err != nil {
		return err
	}
	return read(r, streamed)
}

const streamed = 20_000

// stopEarly closes the rows of stream at the first.
func stopEarly(db *gorm.DB) error {
	r, err := db.Raw("SELECT n, repeat('x', 100) FROM generate_series(1, ?::int) n", streamed).Rows()
	if err != nil {
		return err
	}
	r.Next()
	return r.Close()
}

func read(r *sql.Rows, want int) error {
	defer r.Close()
	n := 0
	for r.Next() {
		n++
	}
	if n != want {
		return errors.Join(r.Err(), fmt.Errorf("%d rows, want %d", n, want))
	}
	return r.Err()
}

func shared(db *gorm.DB) error { return db.First(&Country{}).Error }

// perTenant is one transaction each for two tenants. Without the plugin it is a loop.
func perTenant(db *gorm.DB) error {
	tenants := []string{tenant, "other"}
	fn := func(_ context.Context, tx *gorm.DB) error { return first(tx) }
	if _, installed := db.Plugins["tenancy"]; installed {
		return tenancy.ForEachTenant(context.Background(), db, tenants, fn)
	}
	for range tenants {
		if err := db.Transaction(func(tx *gorm.DB) error { return fn(context.Background(), tx) }); err != nil {
			return err
		}
	}
	return nil
}

// bypassed runs an operation with the admin client; without the plugin, every client is one.
func bypassed(do operation) operation {
	return func(db *gorm.DB) error {
		if _, installed := db.Plugins["tenancy"]; installed {
			db = tenancy.Bypass(db, "test")
		}
		return do(db)
	}
}

// withoutTenant runs an operation for no tenant.
func withoutTenant(do operation) operation {
	return func(db *gorm.DB) error { return do(db.WithContext(forNone())) }
}
