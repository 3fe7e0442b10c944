package webhooks

import (
	"context"
	"regexp"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/tenancyriver"
)

// fanOut makes a delivery for each endpoint of the tenant that subscribes to the type of an event, with their jobs. It is committed
// with the end of its own job.
func (s *Service) fanOut(ctx context.Context, job *river.Job[fanOutArgs]) error {
	return s.transaction(ctx, func(tx *gorm.DB) error {
		var event Event
		if err := tx.Take(&event, "id = ?", job.Args.Event).Error; err != nil {
			return noRow(err)
		}
		var endpoints []Endpoint
		if err := tx.Order("id").Find(&endpoints, "disabled_at IS NULL").Error; err != nil {
			return err
		}
		for _, endpoint := range endpoints {
			if !endpoint.subscribes(event.Type) {
				continue
			}
			if _, _, err := s.schedule(tx, event, endpoint); err != nil {
				return err
			}
		}
		return complete(ctx, tx, job)
	})
}

// subscribes reports whether an endpoint is sent events of a type.
func (e Endpoint) subscribes(eventType string) bool {
	return slices.Contains(e.Types, eventType) || slices.Contains(e.Types, AllTypes)
}

var eventType = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$`)

// isType reports whether a text can be a type of events.
func isType(text string) bool { return len(text) <= 100 && eventType.MatchString(text) }

// schedule makes the delivery of an event to an endpoint and its job, and reports whether there was none yet.
func (s *Service) schedule(tx *gorm.DB, event Event, endpoint Endpoint) (delivery Delivery, made bool, err error) {
	now := time.Now().UTC()
	delivery = Delivery{
		ID: newID(), EventID: event.ID, EndpointID: endpoint.ID, Status: Pending, NextAttemptAt: now, CreatedAt: now,
	}
	result := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&delivery)
	if result.Error != nil || result.RowsAffected == 0 {
		return delivery, false, result.Error
	}
	_, err = tenancyriver.InsertTx(tx, s.jobs, deliverArgs{Delivery: delivery.ID}, nil)
	return delivery, true, err
}
