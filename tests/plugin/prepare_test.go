package plugin_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// TestPreparingTakesNoConnection: what sends nothing waits for no connection, and an empty transaction holds none.
func TestPreparingTakesNoConnection(t *testing.T) {
	db := newDatabase(t).open(t, tenancy.Config{})
	inner, err := tenancy.Pool(db)
	require.NoError(t, err)
	guarded, err := db.DB()
	require.NoError(t, err)
	inner.SetMaxOpenConns(1)
	held, err := inner.Conn(t.Context())
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(as(acme), 50*time.Millisecond)
	defer cancel()
	stmt, err := guarded.PrepareContext(ctx, "SELECT count(*) FROM patients")
	require.NoError(t, err)
	defer stmt.Close()
	tx, err := guarded.BeginTx(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	var n int
	require.ErrorIs(t, stmt.QueryRowContext(ctx).Scan(&n), context.DeadlineExceeded, "a statement does wait")

	require.NoError(t, held.Close())
	require.NoError(t, stmt.QueryRowContext(as(acme)).Scan(&n))
	require.Equal(t, 1, n)
	require.Zero(t, inner.Stats().InUse)
}

// TestPreparedStatementsDoNotWaitForEachOther: plain GORM prepares a statement once for all, and whoever needs it meanwhile
// waits. If that is a transaction with the last connection, and preparing waits for one too, both wait for ever.
func TestPreparedStatementsDoNotWaitForEachOther(t *testing.T) {
	db := newDatabase(t).open(t, tenancy.Config{}, prepareStmt)
	inner, err := tenancy.Pool(db)
	require.NoError(t, err)
	inner.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(as(acme), 30*time.Second)
	defer cancel()
	require.NoError(t, db.WithContext(ctx).Take(&Patient{}).Error) // so that the table is known to be isolated
	find := func(db *gorm.DB) error { return db.Where("name <> ?", "nobody").First(&Patient{}).Error }

	other := make(chan error, 1)
	require.NoError(t, db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.First(&Doctor{}).Error; err != nil { // takes the connection
			return err
		}
		waited := inner.Stats().WaitCount
		go func() { other <- find(db.WithContext(ctx)) }()
		require.Eventually(t, func() bool { return inner.Stats().WaitCount > waited }, 20*time.Second, time.Millisecond)
		return find(tx)
	}))
	require.NoError(t, <-other)
}
