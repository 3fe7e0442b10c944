// Package app tests package rls with the models of a realistic application, and attacks it through the plugin.
package app

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// database is a migrated database, open as its owner, as the admin, and as the application under the plugin.
type database struct {
	*pgserver.Database
	owner, admin, app *gorm.DB
}

func newDatabase(t *testing.T) database {
	t.Helper()
	d := database{Database: pgserver.New(t)}
	d.owner, d.admin, d.app = open(t, d.Owner.DSN), open(t, d.Admin.DSN), open(t, d.App.DSN)
	for _, db := range []*gorm.DB{d.owner, d.admin, d.app} {
		require.NoError(t, db.SetupJoinTable(&Person{}, "Teams", &Membership{}))
		require.NoError(t, db.SetupJoinTable(&Team{}, "Members", &Membership{}))
	}
	_, err := d.isolation().Migrate(t.Context(), d.owner, models...)
	require.NoError(t, err)
	require.NoError(t, d.app.Use(tenancy.New(tenancy.Config{AdminRole: d.Admin.Role})))
	return d
}

func (d database) isolation() rls.Isolation {
	return rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}
}

// as is the application's session of a tenant.
func (d database) as(tenant string) *gorm.DB {
	return d.app.WithContext(tenancy.WithTenant(context.Background(), tenant))
}

func open(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

// rows are all rows of a query as the admin sees them.
func (d database) rows(t *testing.T, query string) []string {
	t.Helper()
	found := []string{}
	require.NoError(t, d.admin.Raw(query).Scan(&found).Error)
	return found
}
