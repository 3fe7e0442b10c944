package apikey

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
)

// ErrNotFound is returned by a [Store] for a key that does not exist, or is another tenant's.
var ErrNotFound = errors.New("apikey: there is no such key")

// A Store keeps keys. Package apikeytest checks one. It must be safe for concurrent use.
type Store interface {
	// Tenant returns whose a key is. The context is one of tenancy.WithoutTenant.
	Tenant(ctx context.Context, id string) (string, error)
	// Key returns a key of the context's tenant.
	Key(ctx context.Context, id string) (Key, error)
	// Create stores a key of the context's tenant.
	Create(ctx context.Context, key *Key) error
	// Revoke stores when a key of the context's tenant was revoked. A second time changes nothing.
	Revoke(ctx context.Context, id string, at time.Time) error
	// Used stores when a key of the context's tenant was used. An earlier time than the stored one changes nothing.
	Used(ctx context.Context, id string, at time.Time) error
}

// Lookup is what the lookup role must be able to read, for rls.Isolation.Lookups.
func Lookup() rls.Lookup {
	return rls.Lookup{Model: &Key{}, Columns: []string{"id", "tenant_id"}}
}

// NewStore returns a store in the table of [Key]. The *gorm.DB has the plugin, with a tenancy.Config.LookupRole that [Lookup] was granted
// to.
func NewStore(db *gorm.DB) Store { return store{db} }

type store struct{ db *gorm.DB }

func (s store) Tenant(ctx context.Context, id string) (string, error) {
	var key Key
	err := s.db.WithContext(ctx).Select("tenant_id").Where("id = ?", id).Limit(1).Find(&key).Error
	if err == nil && key.TenantID == "" {
		err = ErrNotFound
	}
	return key.TenantID, err
}

func (s store) Key(ctx context.Context, id string) (Key, error) {
	var key Key
	err := s.db.WithContext(ctx).Where("id = ?", id).Limit(1).Find(&key).Error
	if err == nil && key.ID == "" {
		err = ErrNotFound
	}
	return key, err
}

func (s store) Create(ctx context.Context, key *Key) error {
	return s.db.WithContext(ctx).Create(key).Error
}

func (s store) Revoke(ctx context.Context, id string, at time.Time) error {
	result := s.db.WithContext(ctx).Model(&Key{}).Where("id = ?", id).Update("revoked_at", gorm.Expr("coalesce(revoked_at, ?)", at))
	if result.Error == nil && result.RowsAffected == 0 {
		return ErrNotFound
	}
	return result.Error
}

func (s store) Used(ctx context.Context, id string, at time.Time) error {
	result := s.db.WithContext(ctx).Model(&Key{}).Where("id = ?", id).Update("last_used_at", gorm.Expr("greatest(last_used_at, ?)", at))
	if result.Error == nil && result.RowsAffected == 0 {
		return ErrNotFound
	}
	return result.Error
}
