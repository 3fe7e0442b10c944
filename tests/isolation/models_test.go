package isolation

import (
	"time"

	"gorm.io/gorm"
)

// The models of a clinic. All but Country are a tenant's.
type (
	Country struct {
		Code string `gorm:"primaryKey"`
		Name string
	}

	Doctor struct {
		ID       int64
		TenantID string
		Name     string
		Patients []Patient
	}

	Patient struct {
		ID        int64
		TenantID  string `gorm:"not null"`
		Name      string
		Age       int
		DoctorID  *int64
		Doctor    *Doctor
		Visits    []Visit
		Tags      []Tag `gorm:"many2many:patient_tags"`
		UpdatedAt time.Time
		DeletedAt gorm.DeletedAt
	}

	Visit struct {
		ID        int64
		TenantID  string
		PatientID int64
		Note      string
	}

	Tag struct {
		ID       int64
		TenantID string
		Label    string
	}

	// Hooked reads and writes other rows in its hooks, with the tx it is given.
	Hooked struct {
		ID       int64
		TenantID string
		Name     string
		Seen     []string `gorm:"-"`
	}
)

func (h *Hooked) BeforeCreate(tx *gorm.DB) error {
	var patient Patient
	if err := tx.First(&patient).Error; err != nil {
		return err
	}
	return tx.Create(&Visit{PatientID: patient.ID, Note: "by hook"}).Error
}

func (h *Hooked) AfterFind(tx *gorm.DB) error {
	return tx.Model(&Patient{}).Pluck("tenant_id", &h.Seen).Error
}

var models = []any{&Country{}, &Doctor{}, &Tag{}, &Patient{}, &Visit{}, &Hooked{}}
