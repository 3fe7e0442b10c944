package statement_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// TestJoinIsPlannedForItsTenant: PostgreSQL keeps no plan of a SELECT with joins, which would be one for a tenant of average size,
// and one of every other.
func TestJoinIsPlannedForItsTenant(t *testing.T) {
	s := newGuarded(t, "plans", tenancy.Config{})
	s.reset(t)
	pool, err := s.db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	for _, prepare := range []bool{false, true} {
		db := s.db.Session(&gorm.Session{PrepareStmt: prepare})
		for range 3 {
			for _, tenant := range []string{acme, globex} {
				var authors []Author
				require.NoError(t, db.WithContext(as(tenant)).Joins("Company").Where("authors.age > ?", 1).Find(&authors).Error)
				require.Len(t, authors, 4)
				require.NoError(t, db.WithContext(as(tenant)).Joins("JOIN books ON books.author_id = authors.id").Where("age > ?", 1).Find(&authors).Error)
				require.NoError(t, db.WithContext(as(tenant)).Where("age > ?", 1).Find(&authors).Error)
			}
		}
	}
	prepared := func(like string) (n int) {
		require.NoError(t, s.db.WithContext(tenancy.WithoutTenant(t.Context())).
			Raw(`SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE ?`, like).Scan(&n).Error)
		return n
	}
	require.Zero(t, prepared(`%"authors" %JOIN %`))
	require.Equal(t, 1, prepared(`SELECT * FROM "authors" WHERE "authors"."tenant_id" = $1 AND age > $2`))
}
