package roundtrip

import "gorm.io/gorm"

type (
	// Country is no tenant's: all tenants see it.
	Country struct {
		Code string `gorm:"primaryKey"`
		Name string
	}

	Doctor struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Name     string
		Patients []Patient
	}

	Patient struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Name     string
		DoctorID int64
	}
)

var models = append([]any{&Country{}, &Doctor{}, &Patient{}}, loneModels...)

const (
	tenant       = "acme"
	patientsEach = 100
)

// seed gives a tenant two doctors with patients.
func seed(db *gorm.DB, tenant string) error {
	for _, name := range []string{"Ann", "Bob"} {
		d := Doctor{TenantID: tenant, Name: name}
		for range patientsEach / 2 {
			d.Patients = append(d.Patients, Patient{TenantID: tenant, Name: "Patient"})
		}
		if err := db.Create(&d).Error; err != nil {
			return err
		}
	}
	return nil
}
