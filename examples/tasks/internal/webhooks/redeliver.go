package webhooks

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// maxRedeliveries is how many deliveries RedeliverSince begins at a time.
const maxRedeliveries = 500

func forUpdate(tx *gorm.DB) *gorm.DB { return tx.Clauses(clause.Locking{Strength: "UPDATE"}) }

// again begins the next round of the deliveries that tx selects, unless they are under way.
func (s *Service) again(tx *gorm.DB) ([]Delivery, error) {
	var rows []Delivery
	now := time.Now().UTC()
	err := tx.Model(&rows).Clauses(clause.Returning{}).Where("status <> ?", Pending).Updates(map[string]any{
		"status": Pending, "reason": "", "round": gorm.Expr("round + 1"), "attempts": 0, "next_attempt_at": now,
		"claimed_until": nil, "delivered_at": nil,
	}).Error
	return rows, err
}

// insertJobs inserts the jobs of deliveries.
func (s *Service) insertJobs(tx *gorm.DB, rows []Delivery) error {
	if len(rows) == 0 {
		return nil
	}
	sqlTx, ok := pool(tx).(*sql.Tx)
	if !ok {
		return fmt.Errorf("webhooks: insert jobs: %w", gorm.ErrInvalidTransaction)
	}
	params := make([]river.InsertManyParams, len(rows))
	for i, row := range rows {
		params[i].Args = deliverArgs{Delivery: row.ID, Round: row.Round}
	}
	_, err := s.jobs.InsertManyTx(tx.Statement.Context, sqlTx, params)
	return err
}

// Redeliver delivers a delivery again that is delivered or dead, with a new round of attempts and the same webhook-id.
func (s *Service) Redeliver(tx *gorm.DB, id string) (delivery Delivery, err error) {
	err = tx.Transaction(func(tx *gorm.DB) error {
		if err := tx.Take(&delivery, "id = ?", id).Error; err != nil {
			return err
		}
		if _, err := enabled(tx, delivery.EndpointID); err != nil {
			return err
		}
		rows, err := s.again(tx.Where("id = ?", id))
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return ErrPending
		}
		delivery = rows[0]
		return s.insertJobs(tx, rows)
	})
	return delivery, err
}

// RedeliverSince delivers to an endpoint what it has missed since a time: its dead deliveries, and the events of its types that were not
// sent because it was disabled. It returns how many deliveries it has begun, of at most 500: call it again until that is 0.
func (s *Service) RedeliverSince(tx *gorm.DB, id string, since time.Time) (begun int, err error) {
	err = tx.Transaction(func(tx *gorm.DB) error {
		endpoint, err := enabled(tx, id)
		if err != nil {
			return err
		}
		dead := tx.Model(&Delivery{}).Select("id").Where("endpoint_id = ? AND status = ? AND created_at >= ?", id, Dead, since).
			Order("id").Limit(maxRedeliveries)
		rows, err := s.again(tx.Where("id IN (?)", dead))
		if err != nil {
			return err
		}
		missed, err := s.missed(tx, endpoint, since, maxRedeliveries-len(rows))
		if err != nil {
			return err
		}
		begun = len(rows) + missed
		return s.insertJobs(tx, rows)
	})
	return begun, err
}

// missed makes deliveries, with their jobs, for events of an endpoint's types that have none, and returns how many.
func (s *Service) missed(tx *gorm.DB, endpoint Endpoint, since time.Time, limit int) (begun int, err error) {
	if since.Before(endpoint.CreatedAt) {
		since = endpoint.CreatedAt // what happened before was never meant for it
	}
	var events []Event
	query := tx.Select("id").Where("created_at >= ? AND type <> ?", since, TypeTest).
		Where("NOT EXISTS (?)", tx.Model(&Delivery{}).Select("1").Where("event_id = webhook_events.id AND endpoint_id = ?", endpoint.ID)).
		Order("created_at, id").Limit(max(limit, 0))
	if !endpoint.subscribes(AllTypes) {
		query = query.Where("type IN ?", endpoint.Types)
	}
	if err := query.Find(&events).Error; err != nil {
		return 0, err
	}
	for _, event := range events {
		_, made, err := s.schedule(tx, event, endpoint)
		if err != nil {
			return 0, err
		}
		if made {
			begun++
		}
	}
	return begun, nil
}
