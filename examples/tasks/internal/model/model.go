// Package model holds the rows of the application.
//
// Each model with the column tenant_id belongs to a tenant. No other code of the application mentions the column: the plugin fills it in, and
// PostgreSQL shows each tenant its own rows.
package model

import (
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

// All are the models to migrate, in an order that allows foreign keys.
func All() []any {
	return []any{
		&Tenant{}, &apikey.Key{}, &idempotency.Record{},
		&Project{}, &Label{}, &Task{}, &Comment{}, &Attachment{},
	}
}

// Tenant is a customer. Its id is a short name that never changes, such as "acme".
type Tenant struct {
	ID        string `gorm:"primaryKey"`
	Name      string `gorm:"not null"`
	CreatedAt time.Time
}

// TenantOwnRows says that a tenant sees its own row only.
func (Tenant) TenantOwnRows() {}

// Row is what the models of a tenant's rows have in common.
type Row struct {
	ID        string         `json:"id" gorm:"primaryKey;type:uuid;default:gen_random_uuid()" format:"uuid"`
	TenantID  string         `json:"-" gorm:"not null"`
	CreatedAt time.Time      `json:"created_at" gorm:"not null"`
	UpdatedAt time.Time      `json:"updated_at" gorm:"not null"`
	DeletedAt gorm.DeletedAt `json:"-" gorm:"index"`
	// Deletion is shared by all rows that one request has deleted, so that they are restored together. Nil while the row lives.
	Deletion *string `json:"-" gorm:"type:uuid"`
	// Version grows with each change. It is the row's ETag.
	Version int64 `json:"version" gorm:"not null;default:1" doc:"Grows with each change; the ETag of the row"`
}
