package rls_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	user struct {
		ID       int64
		TenantID string
		Teams    []team `gorm:"many2many:memberships"`
		Roles    []role `gorm:"many2many:user_roles"`
		Friends  []user `gorm:"many2many:friends"`
	}
	team struct {
		ID       int64
		TenantID string
		Users    []user `gorm:"many2many:memberships"`
	}
	// role is shared by all tenants.
	role struct {
		ID          int64
		Name        string
		Permissions []permission `gorm:"many2many:role_permissions"`
	}
	permission struct {
		ID   int64
		Name string
	}
)

func (role) DangerouslyTenantWritable() {}

func TestMigrateIsolatesJoinTables(t *testing.T) {
	d := newDatabase(t)
	// Only one model is named: GORM finds the others, and makes their tables.
	changes := d.migrate(t, &user{})
	for _, table := range []string{"memberships", "user_roles", "friends"} {
		require.Contains(t, changes, "public."+table+": add column tenant_id")
		require.Contains(t, changes, "public."+table+": require tenant_id")
		require.Contains(t, changes, "public."+table+": create policy tenant_isolation")
		require.Contains(t, changes, "public."+table+": force row level security")
	}
	require.Contains(t, changes, "public.teams: create policy tenant_isolation")
	require.NotContains(t, changes, "public.role_permissions: create policy tenant_isolation")
	require.Empty(t, d.migrate(t, &user{}, &team{}), "a second run")

	db := testdb.OpenPlain(t, d.App.DSN)
	for _, tenant := range []string{"acme", "globex"} {
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Exec("SELECT set_config('app.tenant_id', ?, true)", tenant).Error)
			return tx.Create(&user{
				TenantID: tenant,
				Teams:    []team{{TenantID: tenant}},
				Roles:    []role{{Name: tenant}},
				Friends:  []user{{TenantID: tenant}},
			}).Error
		}))
	}
	for _, table := range []string{"memberships", "user_roles", "friends"} {
		for _, tenant := range []string{"acme", "globex"} {
			require.Equal(t, []string{tenant}, d.sees(t, tenant, "SELECT tenant_id FROM "+table))
		}
		require.Empty(t, d.sees(t, "", "SELECT tenant_id FROM "+table))
	}
	require.Len(t, d.sees(t, "", "SELECT name FROM roles"), 2, "shared by all")
}

func TestMigrateJoinTableOfCompositeKeys(t *testing.T) {
	d := newDatabase(t)
	changes := d.migrate(t, &project{})
	require.Contains(t, changes, "public.project_tags: create policy tenant_isolation")
	require.Empty(t, d.migrate(t, &project{}), "a second run")
}

func TestMigrateGivesJoinTablesTheTypeOfTheirTables(t *testing.T) {
	type label struct{ ID int64 }
	type ticket struct {
		ID       int64
		TenantID string  `gorm:"type:uuid"`
		Labels   []label `gorm:"many2many:ticket_labels"`
	}
	d := newDatabase(t)
	d.migrate(t, &ticket{})
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	require.Equal(t, []string{"uuid"}, collect(t, pool, `SELECT format_type(atttypid, NULL) FROM pg_attribute
		WHERE attrelid = 'ticket_labels'::regclass AND attname = 'tenant_id'`))
}

type (
	account struct {
		ID       int64
		TenantID string
		Servers  []server `gorm:"many2many:account_servers"`
	}
	server struct{ ID int64 }
	// AccountServer is a join model of the user's own.
	AccountServer struct {
		AccountID int64 `gorm:"primaryKey"`
		ServerID  int64 `gorm:"primaryKey"`
		Port      int
	}
	SharedAccountServer struct{ AccountServer }
)

func (AccountServer) TableName() string       { return "account_servers" }
func (SharedAccountServer) TableName() string { return "account_servers" }
func (SharedAccountServer) TenantShared()     {}

func TestMigrateJoinModelOfTheUsersOwn(t *testing.T) {
	const isolated = "public.account_servers: create policy tenant_isolation"
	t.Run("tenant's", func(t *testing.T) {
		d := newDatabase(t)
		require.NoError(t, d.OwnerDB.SetupJoinTable(&account{}, "Servers", &AccountServer{}))
		require.Contains(t, d.migrate(t, &account{}, &AccountServer{}), isolated)
		require.Empty(t, d.migrate(t, &account{}, &AccountServer{}), "a second run")
	})
	t.Run("shared", func(t *testing.T) {
		d := newDatabase(t)
		require.NoError(t, d.OwnerDB.SetupJoinTable(&account{}, "Servers", &SharedAccountServer{}))
		require.NotContains(t, d.migrate(t, &account{}, &SharedAccountServer{}), isolated)
		require.Empty(t, d.migrate(t, &account{}, &SharedAccountServer{}), "a second run")
	})
}

// TestMigrateJoinRowsWithoutTenant: a row of a join table has the tenant of the rows that it joins.
func TestMigrateJoinRowsWithoutTenant(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&user{}))
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	d.AsOwner(t, "INSERT INTO users (id, tenant_id) VALUES (1, 'acme')", "INSERT INTO friends VALUES (1, 1)",
		"SET app.tenant_id = 'globex'") // which must not become the tenant of the old row
	d.migrate(t, &user{})
	require.Len(t, d.sees(t, "acme", "SELECT tenant_id FROM friends"), 1)
}
