package webhooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/event"
	"github.com/gormtenancy/tenancy/tenancyriver"
)

// The types of the package's own events.
const (
	// TypeTest is the type of Service.Test.
	TypeTest = "webhook.test"
	// TypeDisabled says that an endpoint was disabled because it has failed. Data has its id and the reason.
	TypeDisabled = "webhook.endpoint.disabled"
)

// ErrTooLarge is the error of an event whose body is larger than Config.MaxBody.
var ErrTooLarge = errors.New("webhooks: the event is too large")

// message is the body of an event, as Standard Webhooks recommends it.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

// Emit implements event.Sink: it writes the event and its job in the transaction, so that the event is delivered if and only if the
// transaction commits. It returns tenancy.ErrNoTenant without a tenant, gorm.ErrInvalidTransaction outside of a transaction, and ErrTooLarge;
// the transaction must end then.
func (s *Service) Emit(tx *gorm.DB, e event.Event) error {
	row, err := s.write(tx, e)
	if err != nil {
		return err
	}
	_, err = tenancyriver.InsertTx(tx, s.jobs, fanOutArgs{Event: row.ID}, nil)
	return err
}

// newEvent is an event of the package.
func newEvent(eventType string, payload any) event.Event {
	return event.Event{ID: newID(), Type: eventType, At: time.Now(), Actor: "webhooks", Payload: payload}
}

// write writes the row of an event. The body does not name the actor, whose key is no matter of the receiver.
func (s *Service) write(tx *gorm.DB, e event.Event) (Event, error) {
	if _, ok := tenancy.TenantFromContext(tx.Statement.Context); !ok {
		return Event{}, fmt.Errorf("%w: an event cannot be published", tenancy.ErrNoTenant)
	}
	body, err := json.Marshal(message{Type: e.Type, Timestamp: e.At.UTC(), Data: e.Payload})
	if err != nil {
		return Event{}, fmt.Errorf("webhooks: the payload of an event of type %q is not JSON", e.Type)
	}
	if len(body) > s.config.MaxBody {
		return Event{}, fmt.Errorf("%w: its body has %d bytes, and %d are allowed", ErrTooLarge, len(body), s.config.MaxBody)
	}
	row := Event{ID: e.ID, Type: e.Type, Body: string(body), CreatedAt: time.Now().UTC()}
	return row, tx.Create(&row).Error
}

// newID returns an id that is later in order than those before, so that lists can be read by id.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
