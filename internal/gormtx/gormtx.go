// Package gormtx recognises transactions of GORM.
package gormtx

import "gorm.io/gorm"

// In reports whether statements on this pool, a Statement.ConnPool, run in a transaction.
func In(pool gorm.ConnPool) bool {
	_, ok := pool.(gorm.TxCommitter)
	return ok
}
