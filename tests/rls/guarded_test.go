package rls_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMigrateOnAGuardedConnection(t *testing.T) {
	for name, decide := range map[string]func(context.Context) context.Context{
		"undecided":      func(ctx context.Context) context.Context { return ctx },
		"without tenant": guard.WithoutTenant,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			inner, err := d.OwnerDB.DB()
			require.NoError(t, err)
			guarded := guard.Borrow(inner, guard.Config{Setting: "app.tenant_id"})
			t.Cleanup(func() { require.NoError(t, guarded.Close()) })
			db, err := gorm.Open(postgres.New(postgres.Config{Conn: guarded}),
				&gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
			require.NoError(t, err)

			result, err := d.Isolation().Migrate(decide(t.Context()), db, models...)
			changes := result.Changes
			require.NoError(t, err)
			require.NotEmpty(t, changes)
			before := d.snapshot(t)
			result, err = d.Isolation().Migrate(decide(t.Context()), db, models...)
			changes = result.Changes
			require.NoError(t, err)
			require.Empty(t, changes)
			require.Equal(t, before, d.snapshot(t))

			d.as(t, "acme", "INSERT INTO notes (body) VALUES ('of acme')")
			require.Equal(t, []string{"of acme"}, d.sees(t, "acme", bodies))
			require.Empty(t, d.sees(t, "globex", bodies))
		})
	}
}

func TestMigrateWithThePlugin(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(models...), "tables of the time before the plugin")
	db := testdb.OpenPlain(t, d.Owner.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))

	result, err := d.Isolation().Migrate(t.Context(), db, models...)
	changes := result.Changes
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	before := d.snapshot(t)
	result, err = d.Isolation().Migrate(t.Context(), db, models...)
	changes = result.Changes
	require.NoError(t, err)
	require.Empty(t, changes)
	require.Equal(t, before, d.snapshot(t))
}
