// Package once accepts each token of a [tenanthttp.Propagator] once, whichever process receives it: used tokens are rows of their tenants.
//
// Migrate [Token] with your models, and give the store to the propagator of the receiver:
//
//	propagator, err := tenanthttp.NewPropagator(tenanthttp.PropagatorConfig{Keys: keys, Once: once.NewStore(db)})
//
// In the consumer of a queue, extract in the transaction of the rows. The token is used if and only if they are committed, so that a message
// that is delivered again after a crash is worked, and one that was worked is not:
//
//	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
//		ctx, err := propagator.ExtractMessage(once.In(ctx, tx), carrier, message)
//		if err != nil {
//			return err
//		}
//		return tx.WithContext(ctx).Create(&order).Error
//	})
package once

import (
	"context"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// Token is a token that was used. It is a model of GORM: migrate it with your own, or embed it in one whose tenant column has the type that
// your other tables have.
//
//	type UsedToken struct {
//		once.Token
//		TenantID string `gorm:"primaryKey;type:uuid"`
//	}
//
// No table refers to it, and it holds no secret.
type Token struct {
	TenantID  string    `gorm:"primaryKey"`
	ID        string    `gorm:"primaryKey;type:varchar(64)"`
	ExpiresAt time.Time `gorm:"not null;index"`
}

// TableName is the name of the table.
func (Token) TableName() string { return "used_tokens" }

const (
	// keep is how long a used token is remembered after it has expired, for receivers whose clocks differ.
	keep = time.Hour
	// Every sweepEvery-th use deletes up to sweepMost old tokens of its tenant, which are more than have come since.
	sweepEvery, sweepMost = 50, 100
)

// NewStore returns a store in the table of [Token]. The *gorm.DB has the plugin. An error of PostgreSQL refuses the token.
//
// It deletes old tokens of the tenants whose tokens are used. For those of other tenants call [Cleanup].
func NewStore(db *gorm.DB) tenanthttp.OnceStore { return &store{db: db} }

type store struct {
	db   *gorm.DB
	uses atomic.Int64
}

// Use implements tenanthttp.OnceStore. Where another transaction has used the token, it waits for its end.
func (s *store) Use(ctx context.Context, id string, expires time.Time) error {
	db := s.db
	if tx, ok := ctx.Value(txKey{}).(*gorm.DB); ok {
		db = tx
	}
	db = db.WithContext(ctx)
	result := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&Token{ID: id, ExpiresAt: expires})
	switch {
	case result.Error != nil:
		return result.Error
	case result.RowsAffected == 0:
		return tenanthttp.ErrReplayed
	}
	if s.uses.Add(1)%sweepEvery != 0 {
		return nil
	}
	old := db.Model(&Token{}).Select("id").Where("expires_at <= ?", time.Now().Add(-keep)).Limit(sweepMost).
		Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked})
	return db.Where("id IN (?)", old).Delete(&Token{}).Error
}

// Cleanup deletes tokens that expired an hour ago or earlier, and returns their number: those of the context's tenant, or of all tenants with
// a client of tenancy.Bypass. It only saves space.
func Cleanup(ctx context.Context, db *gorm.DB) (int64, error) {
	result := db.WithContext(ctx).Where("expires_at <= ?", time.Now().Add(-keep)).Delete(&Token{})
	return result.RowsAffected, result.Error
}

type txKey struct{}

// In returns a context for Extract and ExtractMessage, with which a token is used in this transaction. Begin it with a context that has
// no tenant: it becomes the transaction of the token's tenant. After an error, roll it back.
func In(ctx context.Context, tx *gorm.DB) context.Context { return context.WithValue(ctx, txKey{}, tx) }
