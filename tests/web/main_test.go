// Package web tests the packages below tenanthttp against PostgreSQL.
package web

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

const (
	acme   = "acme"
	globex = "globex"
)

// migrated is a database with the models and the lookup role, and the application's client of it.
func migrated(t *testing.T, lookups []rls.Lookup, models ...any) (*testdb.Database, *gorm.DB) {
	t.Helper()
	d := testdb.New(t)
	isolation := d.Isolation()
	isolation.LookupRole, isolation.Lookups = d.Lookup.Role, lookups
	result, err := isolation.Migrate(t.Context(), d.OwnerDB, models...)
	require.NoError(t, err)
	require.Empty(t, result.Findings, "the tables are as isolated as the application's own")
	config := d.Config()
	config.LookupRole = d.Lookup.Role
	db := d.Open(t, config)
	require.NoError(t, err)
	return d, db
}
