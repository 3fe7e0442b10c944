package webhooks

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/riverqueue/river"
	"gorm.io/gorm"
)

// claimed is a delivery that this worker may send now, with what sending it takes.
type claimed struct {
	delivery Delivery
	endpoint Endpoint
	event    Event
	secrets  []Secret
}

// errNothingToDo says that the job of a delivery is done: it was delivered, is dead, or was asked for again by another job.
var errNothingToDo = errors.New("webhooks: nothing to do")

// deliver sends a delivery once, and writes down what became of it. No transaction is open meanwhile: a worker that is killed leaves a claim,
// which ends by itself.
func (s *Service) deliver(ctx context.Context, job *river.Job[deliverArgs]) error {
	work, wait, err := s.claim(ctx, job.Args)
	switch {
	case errors.Is(err, errNothingToDo):
		return nil
	case err != nil:
		return err
	case wait > 0:
		return s.later(wait)
	}
	sent := s.send(ctx, work.endpoint.URL, work.event, work.secrets)
	if ctx.Err() != nil && !sent.ok() {
		return ctx.Err() // the worker is stopping: this says nothing of the endpoint. The claim ends by itself
	}
	return s.record(ctx, job, work, sent)
}

// lease is how long a claim lasts: longer than an attempt.
func (s *Service) lease() time.Duration { return 2 * s.config.Timeout }

// claim takes a delivery, or returns how long it has to wait.
func (s *Service) claim(ctx context.Context, args deliverArgs) (work claimed, wait time.Duration, err error) {
	err = s.transaction(ctx, func(tx *gorm.DB) error {
		d := &work.delivery
		if err := forUpdate(tx).Take(d, "id = ?", args.Delivery).Error; err != nil {
			return noRow(err)
		}
		if d.Status != Pending || d.Round != args.Round {
			return errNothingToDo
		}
		now := time.Now().UTC()
		if wait = max(d.NextAttemptAt.Sub(now), until(d.ClaimedUntil, now)); wait > 0 {
			return nil
		}
		switch err := tx.Take(&work.endpoint, "id = ?", d.EndpointID).Error; {
		case errors.Is(err, gorm.ErrRecordNotFound):
			return d.bury(tx, "the endpoint was deleted")
		case err != nil:
			return err
		case work.endpoint.DisabledAt != nil:
			return d.bury(tx, "the endpoint is disabled: "+work.endpoint.DisabledReason)
		}
		breaker, err := lockBreaker(tx, d.EndpointID)
		if err != nil {
			return err
		}
		if wait = breaker.admit(now, s.lease()); wait > 0 {
			return nil
		}
		if err := breaker.save(tx); err != nil {
			return err
		}
		if err := tx.Take(&work.event, "id = ?", d.EventID).Error; err != nil {
			return err
		}
		if err := tx.Order("id DESC").Find(&work.secrets, "endpoint_id = ?", d.EndpointID).Error; err != nil {
			return err
		}
		return tx.Model(d).Update("claimed_until", now.Add(s.lease())).Error
	})
	if err == nil && work.delivery.Status == Dead {
		err = errNothingToDo
	}
	return work, wait, err
}

func until(at *time.Time, now time.Time) time.Duration {
	if at == nil {
		return 0
	}
	return at.Sub(now)
}

// bury makes a delivery a dead letter.
func (d *Delivery) bury(tx *gorm.DB, reason string) error {
	return tx.Model(d).Select("Status", "Reason", "ClaimedUntil").Updates(Delivery{Status: Dead, Reason: reason}).Error
}

// record writes the attempt, the delivery and the breaker, and ends the job or has it wait.
func (s *Service) record(ctx context.Context, job *river.Job[deliverArgs], work claimed, sent result) error {
	again := time.Duration(-1)
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		var d Delivery
		if err := forUpdate(tx).Take(&d, "id = ?", work.delivery.ID).Error; err != nil {
			return noRow(err)
		}
		now := time.Now().UTC()
		number := work.delivery.Attempts + 1
		attempt := Attempt{
			ID: newID(), DeliveryID: d.ID, Round: job.Args.Round, Number: number, URL: work.endpoint.URL, EndpointVersion: work.endpoint.Version,
			Status: sent.status, Error: sent.problem, LatencyMS: sent.latency.Milliseconds(), Excerpt: sent.excerpt, CreatedAt: now,
		}
		if err := tx.Create(&attempt).Error; err != nil {
			return err
		}
		if err := s.judge(tx, work.endpoint, sent, now); err != nil {
			return err
		}
		if d.Status != Pending || d.Round != job.Args.Round {
			return complete(ctx, tx, job) // it was asked for again meanwhile
		}
		if wait, more := s.config.pause(number); !sent.ok() && more {
			again = max(wait, sent.wait)
			return tx.Model(&d).Select("Attempts", "NextAttemptAt", "ClaimedUntil").
				Updates(Delivery{Attempts: number, NextAttemptAt: now.Add(again)}).Error
		}
		change := Delivery{Status: Delivered, Attempts: number, DeliveredAt: &now}
		if !sent.ok() {
			change = Delivery{Status: Dead, Attempts: number, Reason: sent.problem}
		}
		if err := tx.Model(&d).Select("Status", "Reason", "Attempts", "ClaimedUntil", "DeliveredAt").Updates(change).Error; err != nil {
			return err
		}
		return complete(ctx, tx, job)
	})
	if err == nil && again >= 0 {
		return river.JobSnooze(again)
	}
	return err
}

// judge tells the breaker of an endpoint, and disables an endpoint that is gone or has failed for too long.
func (s *Service) judge(tx *gorm.DB, endpoint Endpoint, sent result, now time.Time) error {
	breaker, err := lockBreaker(tx, endpoint.ID)
	if err != nil {
		return err
	}
	if sent.ok() {
		breaker.succeeded()
		return breaker.save(tx)
	}
	breaker.failed(now, s.config)
	if err := breaker.save(tx); err != nil {
		return err
	}
	switch {
	case sent.status == http.StatusGone:
		return s.disable(tx, endpoint, DisabledGone, now)
	case now.Sub(*breaker.FailingSince) >= s.config.DisableAfter:
		return s.disable(tx, endpoint, DisabledFailing, now)
	}
	return nil
}

// disable disables an endpoint, and tells the tenant's others.
func (s *Service) disable(tx *gorm.DB, endpoint Endpoint, reason string, now time.Time) error {
	result := tx.Model(&Endpoint{}).Where("id = ? AND disabled_at IS NULL", endpoint.ID).
		Updates(map[string]any{"disabled_at": now, "disabled_reason": reason, "version": gorm.Expr("version + 1")})
	if result.Error != nil || result.RowsAffected == 0 {
		return result.Error
	}
	return s.Emit(tx, newEvent(TypeDisabled, map[string]string{"endpoint_id": endpoint.ID, "reason": reason}))
}
