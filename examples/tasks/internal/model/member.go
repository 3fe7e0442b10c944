package model

import "time"

// Member is a person of a tenant. A key that is theirs makes them the author of what it writes.
type Member struct {
	ID       string  `json:"id" format:"uuid" gorm:"primaryKey;type:uuid;default:gen_random_uuid()"`
	TenantID string  `json:"-" gorm:"not null"`
	Email    string  `json:"email" format:"email" gorm:"not null;uniqueIndex:members_email"`
	Name     string  `json:"name" gorm:"not null"`
	KeyID    *string `json:"key_id,omitempty" format:"uuid" gorm:"type:uuid;uniqueIndex:members_key"`
	// Subject is the caller whose key it is, "key:<id>", as other rows name it. Nil without a key.
	Subject   *string   `json:"-"`
	CreatedAt time.Time `json:"created_at" gorm:"not null"`
}
