package main

import (
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// Tenant is a customer. The tables of Tenant, User, Membership, Domain and APIKey are read before a request has a tenant, by the
// lookup role: see isolation.
type Tenant struct {
	ID   string `gorm:"type:uuid;primaryKey;default:gen_random_uuid()"`
	Slug string `gorm:"not null;uniqueIndex"` // its subdomain
}

// TenantOwnRows says that a tenant sees its own row only.
func (Tenant) TenantOwnRows() {}

// User logs in. The same user may work for several tenants. The table is shared, and the application only reads it.
type User struct {
	ID           string `gorm:"type:uuid;primaryKey;default:gen_random_uuid()"`
	Email        string `gorm:"not null;uniqueIndex"` // in lower case
	PasswordHash string `gorm:"not null"`
}

// Membership lets a user act for a tenant.
type Membership struct {
	UserID   string `gorm:"type:uuid;primaryKey"`
	TenantID string `gorm:"type:uuid;primaryKey"`
	Role     string `gorm:"not null"` // admin, or member
	User     *User
	Tenant   *Tenant `gorm:"foreignKey:TenantID"`
}

// TenantOwnRows says that the table is read before the tenant is known, and that a tenant sees and writes its own rows only.
func (Membership) TenantOwnRows() {}

// Domain is a domain name that a tenant has shown to be its own. A name can belong to one tenant only. The row is deleted
// with its claim: see migrate.
type Domain struct {
	Name     string `gorm:"primaryKey"`
	TenantID string `gorm:"type:uuid;not null"`
	ClaimID  int64  `gorm:"not null"`
}

// TenantOwnRows says that the table is read before the tenant is known, and that a tenant sees and writes its own rows only.
func (Domain) TenantOwnRows() {}

// APIKey lets a program act for a tenant. The tenant column has the type that it has in the other tables.
type APIKey struct {
	apikey.Key
	TenantID string `gorm:"type:uuid;not null"`
}

// DomainClaim says that a tenant wants to use a domain name. Any tenant can claim any name: a claim alone has no effect.
type DomainClaim struct {
	ID         int64
	TenantID   string     `gorm:"type:uuid;not null"`
	Name       string     `gorm:"not null;uniqueIndex"` // within the tenant: rls adds the tenant to the index
	Challenge  string     `gorm:"not null"`             // the value that DNS must hold
	VerifiedAt *time.Time // nil until then
}

// Project belongs to a tenant. A deleted project keeps its row.
type Project struct {
	ID        int64          `json:"id"`
	TenantID  string         `json:"-" gorm:"type:uuid;not null"`
	Tenant    *Tenant        `json:"-" gorm:"foreignKey:TenantID"`
	Name      string         `json:"name" gorm:"not null"`
	Version   int64          `json:"version" gorm:"not null;default:1"` // grows with each change
	DeletedAt gorm.DeletedAt `json:"-"`
	Tasks     []Task         `json:"-"`
}

// Task belongs to a tenant. Its foreign key includes the tenant, so that it cannot be in another tenant's project.
type Task struct {
	ID        int64  `json:"id"`
	TenantID  string `json:"-" gorm:"type:uuid;not null"`
	ProjectID int64  `json:"project_id" gorm:"not null;index"`
	Title     string `json:"title" gorm:"not null"`
}
