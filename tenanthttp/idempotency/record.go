package idempotency

import (
	"context"
	"time"

	"gorm.io/gorm"
)

// Record is the answer to a request. It is a model of GORM: migrate it with your own, or embed it in one whose tenant column has the
// type that your other tables have.
//
//	type IdempotencyRecord struct {
//		idempotency.Record
//		TenantID string `gorm:"primaryKey;type:uuid"`
//	}
//
// The body of an answer is stored as it is. The key of the client, and what the request said, are stored as hashes.
type Record struct {
	TenantID    string    `gorm:"primaryKey"`
	Key         string    `gorm:"primaryKey;type:varchar(64)"` // hash of sender and key
	Fingerprint string    `gorm:"not null"`                    // hash of the request
	Status      int       `gorm:"not null"`
	Header      []byte    `gorm:"not null"` // JSON
	Body        []byte    `gorm:"not null"`
	ExpiresAt   time.Time `gorm:"not null;index"`
}

// TableName is the name of the table.
func (Record) TableName() string { return "idempotency_records" }

// Cleanup deletes the records that have expired, and returns their number: those of the context's tenant, or of all tenants with a
// client of tenancy.Bypass. Expired records are not used, so it only saves space: call it every hour.
func Cleanup(ctx context.Context, db *gorm.DB) (int64, error) {
	result := db.WithContext(ctx).Where("expires_at <= ?", time.Now()).Delete(&Record{})
	return result.RowsAffected, result.Error
}

type txKey struct{}

// DB returns the transaction of a request that [Middleware] has begun, and db outside of one, with this context. Use it for all
// statements of a handler.
func DB(ctx context.Context, db *gorm.DB) *gorm.DB {
	if tx, ok := ctx.Value(txKey{}).(*gorm.DB); ok {
		return tx.WithContext(ctx)
	}
	return db.WithContext(ctx)
}
