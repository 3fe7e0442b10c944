package privacy

import (
	"context"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/webhooks"
	"github.com/gormtenancy/tenancy/tenanthttp/idempotency"
)

// emptyMessages empties the bodies of webhooks that name a person, and deletes such answers that idempotency remembers: both are copies of rows, as text,
// which no column leads to. It returns how many there are. A delivery that is under way, or is asked for again, sends the empty body.
func (s *Service) emptyMessages(ctx context.Context, person model.Member, dryRun bool) (n int64, err error) {
	names := []string{person.Email, person.ID}
	if person.Subject != nil {
		names = append(names, *person.Subject)
	}
	err = s.DB.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		for _, name := range names {
			bodies := tx.Model(&webhooks.Event{}).Where("position(? IN body) > 0", name)
			answers := tx.Model(&idempotency.Record{}).Where("position(convert_to(?, 'UTF8') IN body) > 0", name)
			if dryRun {
				var events, records int64
				if err := bodies.Count(&events).Error; err != nil {
					return err
				}
				if err := answers.Count(&records).Error; err != nil {
					return err
				}
				n += events + records
				continue
			}
			result := bodies.Update("body", "{}")
			if result.Error != nil {
				return result.Error
			}
			n += result.RowsAffected
			if result = answers.Delete(&idempotency.Record{}); result.Error != nil {
				return result.Error
			}
			n += result.RowsAffected
		}
		return nil
	})
	return n, err
}
