package plugin_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestPreparedStatementsDoNotWaitForEachOther: plain GORM prepares a statement once for all, and a client that needs it meanwhile
// waits. If that is a transaction with the last connection, and preparing waits for one too, both wait for ever.
func TestPreparedStatementsDoNotWaitForEachOther(t *testing.T) {
	db := newDatabase(t).Open(t, tenancy.Config{}, testdb.PrepareStmt)
	pool, err := db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(as(acme), 30*time.Second)
	defer cancel()
	require.NoError(t, db.WithContext(ctx).Take(&Patient{}).Error) // so that the table is known to be isolated
	find := func(db *gorm.DB) error { return db.Where("name <> ?", "nobody").First(&Patient{}).Error }

	other := make(chan error, 1)
	require.NoError(t, db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.First(&Doctor{}).Error; err != nil { // takes the connection
			return err
		}
		waited := pool.Stats().WaitCount
		go func() { other <- find(db.WithContext(ctx)) }()
		require.Eventually(t, func() bool { return pool.Stats().WaitCount > waited }, 20*time.Second, time.Millisecond)
		return find(tx)
	}))
	require.NoError(t, <-other)
}
