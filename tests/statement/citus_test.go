package statement_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// newCitus is a side on a cluster of Citus, in which tenants have the same ids.
func newCitus(t *testing.T) *side {
	t.Helper()
	c := testdb.NewCluster(t, models, usual(logger.Discard))
	_, err := c.Isolation.Migrate(t.Context(), c.OwnerDB, models...)
	require.NoError(t, err)
	require.NoError(t, c.OwnerDB.Exec("GRANT SELECT, INSERT, UPDATE, DELETE ON countries TO "+c.Isolation.AppRole).Error)
	s := &side{name: "citus", super: connect(t, c.DSN), shared: true, log: &sqlLog{Interface: logger.Discard}}
	db, err := testdb.OpenGuarded(t, c.AppDSN, tenancy.Config{Engine: tenancy.Citus, AdminRole: c.Isolation.AdminRole}, usual(s.log))
	require.NoError(t, err)
	s.db = db.WithContext(as(acme))
	return s
}

// refusedByCitus are errors of operations in whose SQL the application has written tables without their tenant.
var refusedByCitus = map[string]string{"a right join": "complex joins are only supported"}

// ofShard finds what names of indexes have more in a shard.
var ofShard = regexp.MustCompile(`(_pkey)_[0-9]+"`)
