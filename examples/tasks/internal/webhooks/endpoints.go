package webhooks

import (
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// Errors of what a tenant asks for. Their texts are for the tenant.
var (
	ErrTooMany  = errors.New("webhooks: there are as many endpoints as a tenant can have: delete one first")
	ErrChanged  = errors.New("webhooks: the endpoint has changed meanwhile")
	ErrDisabled = errors.New("webhooks: the endpoint is disabled: enable it first")
	ErrPending  = errors.New("webhooks: the delivery is under way: wait until it is delivered or dead")
)

// maxSecrets is how many secrets of an endpoint are valid at a time: each makes a signature of every message.
const maxSecrets = 5

// MaxOverlap is the longest time that an old secret stays valid after a rotation.
const MaxOverlap = 7 * 24 * time.Hour

// Settings are what a tenant says of an endpoint.
type Settings struct {
	URL         string
	Description string
	Types       []string
	Disabled    bool
}

// Create registers an endpoint, and returns its secret, which is not shown again. The error is an ErrTarget for a URL that events are not
// sent to, or ErrTooMany.
func (s *Service) Create(tx *gorm.DB, settings Settings) (endpoint Endpoint, secret string, err error) {
	if err := s.target.check(tx.Statement.Context, settings.URL); err != nil {
		return endpoint, "", err
	}
	tenant, ok := tenancy.TenantFromContext(tx.Statement.Context)
	if !ok {
		return endpoint, "", fmt.Errorf("%w: an endpoint cannot be registered", tenancy.ErrNoTenant)
	}
	err = tx.Transaction(func(tx *gorm.DB) error {
		// Two requests at a time would both find room for one more.
		if err := tx.Exec("SELECT pg_advisory_xact_lock(hashtextextended('webhook_endpoints ' || ?, 0))", tenant).Error; err != nil {
			return err
		}
		var count int64
		if err := tx.Model(&Endpoint{}).Count(&count).Error; err != nil {
			return err
		}
		if count >= int64(s.config.MaxEndpoints) {
			return ErrTooMany
		}
		endpoint = Endpoint{
			ID: newID(), URL: settings.URL, Description: settings.Description, Types: settings.Types, Version: 1, CreatedAt: time.Now().UTC(),
		}
		if settings.Disabled {
			endpoint.DisabledAt, endpoint.DisabledReason = &endpoint.CreatedAt, DisabledByTenant
		}
		if err := tx.Create(&endpoint).Error; err != nil {
			return err
		}
		if err := tx.Create(&Breaker{EndpointID: endpoint.ID}).Error; err != nil {
			return err
		}
		secret, err = s.addSecret(tx, endpoint.ID)
		return err
	})
	return endpoint, secret, err
}

// Update changes an endpoint. A version other than 0 must be the endpoint's, else the error is ErrChanged. Enabling an endpoint, or giving it
// another URL, closes its breaker.
func (s *Service) Update(tx *gorm.DB, id string, version int64, settings Settings) (endpoint Endpoint, err error) {
	if err := tx.Take(&endpoint, "id = ?", id).Error; err != nil {
		return endpoint, err
	}
	if endpoint.URL != settings.URL {
		if err := s.target.check(tx.Statement.Context, settings.URL); err != nil {
			return endpoint, err
		}
	}
	seen := endpoint
	if version != 0 {
		seen.Version = version
	}
	now := time.Now().UTC()
	endpoint.URL, endpoint.Description, endpoint.Types, endpoint.Version = settings.URL, settings.Description, settings.Types, seen.Version+1
	switch {
	case !settings.Disabled:
		endpoint.DisabledAt, endpoint.DisabledReason = nil, ""
	case endpoint.DisabledAt == nil:
		endpoint.DisabledAt, endpoint.DisabledReason = &now, DisabledByTenant
	}
	err = tx.Transaction(func(tx *gorm.DB) error {
		result := tx.Model(&endpoint).Where("version = ?", seen.Version).
			Select("URL", "Description", "Types", "DisabledAt", "DisabledReason", "Version").Updates(&endpoint)
		if result.Error == nil && result.RowsAffected == 0 {
			return ErrChanged
		}
		if result.Error != nil || (seen.URL == endpoint.URL && (seen.DisabledAt == nil || endpoint.DisabledAt != nil)) {
			return result.Error
		}
		breaker, err := lockBreaker(tx, id)
		if err != nil {
			return err
		}
		breaker.succeeded()
		return breaker.save(tx)
	})
	return endpoint, err
}

// Delete deletes an endpoint and its secrets. What is still to be delivered to it becomes dead.
func (s *Service) Delete(tx *gorm.DB, id string) error {
	return tx.Transaction(func(tx *gorm.DB) error {
		result := tx.Delete(&Endpoint{}, "id = ?", id)
		if result.Error == nil && result.RowsAffected == 0 {
			return gorm.ErrRecordNotFound
		}
		if result.Error != nil {
			return result.Error
		}
		return tx.Delete(&Secret{}, "endpoint_id = ?", id).Error
	})
}

// Rotate gives an endpoint a new secret, which is not shown again, and until when the old ones stay valid. Until then messages have the
// signatures of all. An overlap of zero ends the old ones at once, which is for a secret that has become known.
func (s *Service) Rotate(tx *gorm.DB, id string, overlap time.Duration) (secret string, until time.Time, err error) {
	now := time.Now().UTC()
	until = now.Add(min(max(overlap, 0), MaxOverlap))
	err = tx.Transaction(func(tx *gorm.DB) error {
		var endpoint Endpoint
		if err := forUpdate(tx).Take(&endpoint, "id = ?", id).Error; err != nil {
			return err
		}
		old := tx.Model(&Secret{}).Where("endpoint_id = ? AND (expires_at IS NULL OR expires_at > ?)", id, until)
		if err := old.Update("expires_at", until).Error; err != nil {
			return err
		}
		keep := tx.Model(&Secret{}).Select("id").Where("endpoint_id = ? AND expires_at > ?", id, now).Order("id DESC").Limit(maxSecrets - 1)
		if err := tx.Delete(&Secret{}, "endpoint_id = ? AND id NOT IN (?)", id, keep).Error; err != nil {
			return err
		}
		secret, err = s.addSecret(tx, id)
		return err
	})
	return secret, until, err
}

// addSecret gives an endpoint a secret that does not expire.
func (s *Service) addSecret(tx *gorm.DB, endpoint string) (string, error) {
	tenant, ok := tenancy.TenantFromContext(tx.Statement.Context)
	if !ok {
		return "", fmt.Errorf("%w: a secret cannot be made", tenancy.ErrNoTenant)
	}
	row, text := s.keys.newSecret(tenant, endpoint)
	return text, tx.Create(&row).Error
}

// Test sends an event of TypeTest to one endpoint, whatever it subscribes to.
func (s *Service) Test(tx *gorm.DB, id string) (delivery Delivery, err error) {
	err = tx.Transaction(func(tx *gorm.DB) error {
		endpoint, err := enabled(tx, id)
		if err != nil {
			return err
		}
		event, err := s.write(tx, newEvent(TypeTest, map[string]string{"endpoint_id": id}))
		if err != nil {
			return err
		}
		delivery, _, err = s.schedule(tx, event, endpoint)
		return err
	})
	return delivery, err
}

// enabled returns an endpoint that is sent events.
func enabled(tx *gorm.DB, id string) (endpoint Endpoint, err error) {
	err = tx.Take(&endpoint, "id = ?", id).Error
	if err == nil && endpoint.DisabledAt != nil {
		err = ErrDisabled
	}
	return endpoint, err
}
