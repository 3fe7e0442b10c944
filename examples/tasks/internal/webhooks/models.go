package webhooks

import (
	"time"

	"gorm.io/gorm"
)

// Models are the models of the package, in an order that allows foreign keys. All are tenant tables.
func Models() []any {
	return []any{&Endpoint{}, &Secret{}, &Breaker{}, &Event{}, &Delivery{}, &Attempt{}}
}

// Endpoint is where a tenant wants its events sent. A deleted one keeps its row, for the log of its deliveries, but no secret.
type Endpoint struct {
	ID             string     `gorm:"type:uuid;primaryKey"`
	TenantID       string     `gorm:"not null"`
	URL            string     `gorm:"not null"`
	Description    string     `gorm:"not null"`
	Types          []string   `gorm:"type:jsonb;serializer:json;not null"` // the types of events that it subscribes to; AllTypes for all
	DisabledAt     *time.Time // nil: it is sent events
	DisabledReason string     `gorm:"not null"` // why, if DisabledAt is not nil: one of the constants Disabled…
	Version        int64      `gorm:"not null;default:1"`
	CreatedAt      time.Time
	DeletedAt      gorm.DeletedAt `gorm:"index"`
}

// TableName is the table of endpoints.
func (Endpoint) TableName() string { return "webhook_endpoints" }

// AllTypes subscribes to all types of events.
const AllTypes = "*"

// Why an endpoint is disabled.
const (
	DisabledByTenant = "disabled by the tenant"
	DisabledFailing  = "it has failed for too long"
	DisabledGone     = "it has answered 410 Gone"
)

// Secret is a key that the messages to an endpoint are signed with. An endpoint has several while its secret is being rotated.
type Secret struct {
	ID         string     `gorm:"type:uuid;primaryKey"`
	TenantID   string     `gorm:"not null"`
	EndpointID string     `gorm:"type:uuid;not null;index"`
	Endpoint   *Endpoint  `json:"-"`
	Sealed     []byte     `gorm:"not null" json:"-"` // see keyring
	ExpiresAt  *time.Time // nil: the current one
	CreatedAt  time.Time
}

// TableName is the table of secrets.
func (Secret) TableName() string { return "webhook_secrets" }

// Breaker counts the failures of an endpoint, for all workers.
type Breaker struct {
	EndpointID   string     `gorm:"type:uuid;primaryKey"`
	TenantID     string     `gorm:"not null"`
	Endpoint     *Endpoint  `json:"-"`
	Failures     int        `gorm:"not null"` // since the last success
	FailingSince *time.Time // the first of them; nil: the last attempt was a success
	OpenUntil    *time.Time // nil: closed. Later than now: open. Else half-open
	ProbeUntil   *time.Time // while half-open: the time that an attempt has, which decides
}

// TableName is the table of breakers.
func (Breaker) TableName() string { return "webhook_breakers" }

// Event is something that has happened to a tenant: the outbox. Body is what is sent, byte by byte, because it is signed.
type Event struct {
	ID        string    `gorm:"type:uuid;primaryKey"`
	TenantID  string    `gorm:"not null"`
	Type      string    `gorm:"not null"`
	Body      string    `gorm:"not null"`
	CreatedAt time.Time `gorm:"not null;index"`
}

// TableName is the table of events.
func (Event) TableName() string { return "webhook_events" }

// Delivery is an event for an endpoint.
type Delivery struct {
	ID            string     `gorm:"type:uuid;primaryKey"`
	TenantID      string     `gorm:"not null"`
	EventID       string     `gorm:"type:uuid;not null;uniqueIndex:uni_webhook_deliveries_once"`
	Event         *Event     `json:"-"`
	EndpointID    string     `gorm:"type:uuid;not null;uniqueIndex:uni_webhook_deliveries_once;index"`
	Endpoint      *Endpoint  `json:"-"`
	Status        string     `gorm:"not null;check:status IN ('pending', 'delivered', 'dead')"`
	Reason        string     `gorm:"not null"` // why it is dead
	Round         int        `gorm:"not null"` // how often it was asked to be delivered again; jobs of older rounds do nothing
	Attempts      int        `gorm:"not null"` // in this round
	NextAttemptAt time.Time  `gorm:"not null"`
	ClaimedUntil  *time.Time // a worker is sending it, or was killed
	DeliveredAt   *time.Time
	CreatedAt     time.Time `gorm:"not null"`
}

// TableName is the table of deliveries.
func (Delivery) TableName() string { return "webhook_deliveries" }

// The status of a delivery. Dead ones are the dead letters: they are not tried again unless somebody asks for it.
const (
	Pending   = "pending"
	Delivered = "delivered"
	Dead      = "dead"
)

// Attempt is one request of a delivery, with a snapshot of where it went.
type Attempt struct {
	ID              string    `gorm:"type:uuid;primaryKey"`
	TenantID        string    `gorm:"not null"`
	DeliveryID      string    `gorm:"type:uuid;not null;index"`
	Delivery        *Delivery `json:"-"`
	Round           int       `gorm:"not null"`
	Number          int       `gorm:"not null"` // within the round, from 1
	URL             string    `gorm:"not null"` // of the endpoint at that time
	EndpointVersion int64     `gorm:"not null"`
	Status          int       `gorm:"not null"` // of the answer; 0: none
	Error           string    `gorm:"not null"` // why it failed; empty: delivered
	LatencyMS       int64     `gorm:"not null"`
	Excerpt         string    `gorm:"not null"` // the beginning of the answer's body, without secrets
	CreatedAt       time.Time `gorm:"not null"`
}

// TableName is the table of attempts.
func (Attempt) TableName() string { return "webhook_attempts" }
