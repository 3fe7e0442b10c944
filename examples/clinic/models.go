package main

import "time"

// Clinic is a tenant. The sign-in page lists all of them, by the lookup role: see isolation.
type Clinic struct {
	ID   int64
	Name string `gorm:"not null;uniqueIndex"`
	Town string `gorm:"not null"`
}

// accents is how many colours the style sheet has for clinics.
const accents = 6

// TenantOwnRows says that the table is read before the request has a tenant, and that a clinic sees its own row only.
func (Clinic) TenantOwnRows() {}

// Accent is the clinic's colour in the style sheet.
func (c Clinic) Accent() int64 { return (c.ID-1)%accents + 1 }

// User signs in. The table is shared, because one user may work for several clinics. The application only reads it.
type User struct {
	ID           int64
	Email        string `gorm:"not null;uniqueIndex"`
	Name         string `gorm:"not null"`
	Job          string `gorm:"not null"`
	PasswordHash string `gorm:"not null"`
	Admin        bool   `gorm:"not null"` // may see all clinics, through the bypass client
}

// Membership lets a user work for a clinic.
type Membership struct {
	UserID   int64 `gorm:"primaryKey"`
	User     User
	TenantID int64  `gorm:"primaryKey"`
	Clinic   Clinic `gorm:"foreignKey:TenantID"`
}

// TenantOwnRows says that memberships are read before the request has a tenant, and that a clinic sees its own only.
func (Membership) TenantOwnRows() {}

// AuditEntry is one statement of the bypass client. The table is shared: only the bypass client adds to it, and neither role changes it.
type AuditEntry struct {
	ID       int64
	At       time.Time `gorm:"not null;index"`
	UserName string    `gorm:"not null"`
	Path     string    `gorm:"not null"` // the route, not the request's path
	Reason   string    `gorm:"not null"`
	Kind     string    `gorm:"not null"` // SELECT, …; empty if it failed
	Target   string    `gorm:"not null"` // the table; empty for raw SQL
	ReadOnly bool      `gorm:"not null"`
	Rows     int64     `gorm:"not null"`
	Took     int64     `gorm:"not null"` // microseconds
	Failed   bool      `gorm:"not null"`
	SQLState string    `gorm:"not null"`
}

// Patient belongs to a clinic: the table has the column tenant_id.
type Patient struct {
	ID           int64
	TenantID     int64     `gorm:"not null"`
	Clinic       *Clinic   `gorm:"foreignKey:TenantID"`
	Chart        string    `gorm:"not null;uniqueIndex"` // within the clinic: rls adds the tenant to the index
	Name         string    `gorm:"not null"`
	Born         time.Time `gorm:"not null;type:date"`
	Phone        string    `gorm:"not null"`
	Notes        string    `gorm:"not null"`
	Version      int64     `gorm:"not null;default:1"` // grows with each change, so that no change is overwritten by accident
	CreatedAt    time.Time
	UpdatedAt    time.Time
	Appointments []Appointment `gorm:"constraint:OnDelete:CASCADE"`
}

// Appointment belongs to a clinic. Its foreign key includes the tenant, so that it cannot be with another clinic's patient.
type Appointment struct {
	ID        int64
	TenantID  int64     `gorm:"not null"`
	PatientID int64     `gorm:"not null"`
	Patient   *Patient  `gorm:"constraint:OnDelete:CASCADE"`
	At        time.Time `gorm:"not null;index"`
	Doctor    string    `gorm:"not null"`
	Reason    string    `gorm:"not null"`
}

// models are the models to migrate, in an order that allows foreign keys.
func models() []any {
	return []any{&Clinic{}, &User{}, &Membership{}, &AuditEntry{}, &Patient{}, &Appointment{}}
}
