// Package model holds the rows of the application.
//
// Each model with the column tenant_id belongs to a tenant. No other code of the application mentions the column: the plugin fills it in, and
// PostgreSQL shows each tenant its own rows.
package model

import (
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

// All are the models to migrate, in an order that allows foreign keys.
func All() []any {
	return []any{
		&Tenant{}, &apikey.Key{}, &idempotency.Record{},
		&Member{}, &Project{}, &Label{}, &Task{}, &Comment{}, &Attachment{},
	}
}

// Audits are the models whose changes are recorded.
func Audits() []rls.Audit {
	return []rls.Audit{
		{Model: &Project{}}, {Model: &Label{}}, {Model: &Task{}}, {Model: &Comment{}}, {Model: &Attachment{}},
		{Model: &apikey.Key{}, Omit: []string{"last_used_at"}, Mask: []string{"hash"}},
	}
}

// Tenant is a customer. Its id is a short name that never changes, such as "acme".
type Tenant struct {
	ID        string    `json:"id" gorm:"primaryKey"`
	Name      string    `json:"name" gorm:"not null"`
	CreatedAt time.Time `json:"created_at" gorm:"not null"`
}

// TenantOwnRows says that a tenant sees its own row only.
func (Tenant) TenantOwnRows() {}

// Row is what the rows of tenants have in common. Lists are sorted by the index page.
type Row struct {
	ID        string         `json:"id" format:"uuid" gorm:"primaryKey;type:uuid;default:gen_random_uuid();index:,composite:page,priority:3"`
	TenantID  string         `json:"-" gorm:"not null;index:,composite:page,priority:1"`
	CreatedAt time.Time      `json:"created_at" gorm:"not null;index:,composite:page,priority:2"`
	UpdatedAt time.Time      `json:"updated_at" gorm:"not null"`
	DeletedAt gorm.DeletedAt `json:"-" gorm:"index"`
	// Deletion is shared by all rows that one request has deleted, so that they are restored together. Nil while the row lives.
	Deletion *string `json:"-" gorm:"type:uuid;index"`
	// Version grows with each change.
	Version int64 `json:"version" gorm:"not null;default:1" doc:"Grows with each change; the ETag of the row"`
}

// ETag is the version of the row, for If-Match (https://www.rfc-editor.org/rfc/rfc9110#name-if-match).
func (r Row) ETag() string { return fmt.Sprintf(`"%d"`, r.Version) }
