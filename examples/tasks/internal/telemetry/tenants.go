package telemetry

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
)

// tenantID is the attribute of spans and metrics, the same as package tenancyotel's.
const tenantID = attribute.Key("tenant.id")

// other stands for the tenants beyond the bound, none for requests without one. No id has a space.
const (
	other = "(other tenants)"
	none  = "(no tenant)"
)

// tenants are those whose ids metrics may show.
type tenants struct {
	max int

	mu    sync.Mutex
	known map[string]struct{}
}

// label is the attribute of a metric.
func (t *tenants) label(id string) attribute.KeyValue {
	if id == "" {
		return tenantID.String(none)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.known[id]; !ok {
		if len(t.known) >= t.max {
			return tenantID.String(other)
		}
		t.known[id] = struct{}{}
	}
	return tenantID.String(id)
}
