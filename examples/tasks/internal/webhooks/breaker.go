package webhooks

import (
	"time"

	"gorm.io/gorm"
)

// The breaker of an endpoint is a row, because several workers share it, and because tenants read its state. (sony/gobreaker keeps a
// shared state too, but as one opaque value under a lock that is held while the request runs.)

// lockBreaker reads an endpoint's breaker, and locks it until the transaction ends.
func lockBreaker(tx *gorm.DB, endpoint string) (b Breaker, err error) {
	err = forUpdate(tx).Take(&b, "endpoint_id = ?", endpoint).Error
	return b, err
}

// admit reports how long an attempt has to wait; 0 means that it may begin. Where it is the one that decides, ProbeUntil is set.
func (b *Breaker) admit(now time.Time, lease time.Duration) time.Duration {
	switch {
	case b.OpenUntil == nil:
		return 0
	case now.Before(*b.OpenUntil):
		return b.OpenUntil.Sub(now)
	case b.ProbeUntil != nil && now.Before(*b.ProbeUntil):
		return b.ProbeUntil.Sub(now)
	}
	until := now.Add(lease)
	b.ProbeUntil = &until
	return 0
}

// succeeded closes the breaker.
func (b *Breaker) succeeded() {
	b.Failures, b.FailingSince, b.OpenUntil, b.ProbeUntil = 0, nil, nil, nil
}

// failed counts a failure, and opens the breaker if it is one too many, or was the attempt that decides.
func (b *Breaker) failed(now time.Time, c Config) {
	b.Failures++
	if b.FailingSince == nil {
		b.FailingSince = &now
	}
	if b.Failures >= c.BreakAfter || b.OpenUntil != nil {
		until := now.Add(c.BreakFor)
		b.OpenUntil, b.ProbeUntil = &until, nil
	}
}

// State is "closed", "open", or "half-open" at a time.
func (b Breaker) State(now time.Time) string {
	switch {
	case b.OpenUntil == nil:
		return "closed"
	case now.Before(*b.OpenUntil):
		return "open"
	}
	return "half-open"
}

// save writes all columns of a breaker.
func (b *Breaker) save(tx *gorm.DB) error {
	return tx.Model(b).Select("Failures", "FailingSince", "OpenUntil", "ProbeUntil").Updates(b).Error
}

// breakersOf returns the breakers of some endpoints, by their ids.
func breakersOf(db *gorm.DB, endpoints []string) (map[string]Breaker, error) {
	var rows []Breaker
	err := db.Find(&rows, "endpoint_id IN ?", endpoints).Error
	byEndpoint := make(map[string]Breaker, len(rows))
	for _, row := range rows {
		byEndpoint[row.EndpointID] = row
	}
	return byEndpoint, err
}
