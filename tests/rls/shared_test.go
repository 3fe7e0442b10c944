package rls_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// membership has the tenant column, and is read before the tenant is known.
type membership struct {
	ID       int64
	TenantID string
	Email    string
}

func (*membership) TenantShared() {}

// bareNote is note without its tenant.
type bareNote struct {
	ID   int64
	Body string
}

func (bareNote) TableName() string { return "notes" }

// sharedNote says that notes are shared.
type sharedNote struct {
	ID       int64
	TenantID string
}

func (sharedNote) TableName() string { return "notes" }
func (sharedNote) TenantShared()     {}

func TestMigrateSharedTables(t *testing.T) {
	d := newDatabase(t)
	for _, change := range d.migrate(t, &membership{}, &country{}) {
		require.Contains(t, change, "grant")
	}
	require.Empty(t, d.migrate(t, &membership{}, &country{}), "a second run")
	for _, statement := range []string{
		"INSERT INTO memberships (tenant_id, email) VALUES ('acme', 'ann')", "INSERT INTO countries (name) VALUES ('Chile')",
	} {
		requireCode(t, d.fails(t, "acme", statement), insufficientPrivilege)
		d.AsOwner(t, statement)
	}
	require.Equal(t, []string{"ann"}, d.sees(t, "globex", "SELECT email FROM memberships"))
	require.Equal(t, []string{"Chile"}, d.sees(t, "globex", "SELECT name FROM countries"))
}

func TestMigrateIsolatesATableWithTheColumnWhateverTheModel(t *testing.T) {
	t.Run("model without the column", func(t *testing.T) {
		d := newDatabase(t)
		require.NoError(t, d.OwnerDB.AutoMigrate(&note{}))
		require.Contains(t, d.migrate(t, &bareNote{}), "public.notes: create policy tenant_isolation")
		require.Empty(t, d.migrate(t, &bareNote{}), "a second run")
	})
	t.Run("two models", func(t *testing.T) {
		d := newDatabase(t)
		require.NoError(t, d.OwnerDB.AutoMigrate(&note{}))
		require.Contains(t, d.migrate(t, &note{}, &bareNote{}), "public.notes: create policy tenant_isolation")
		require.Empty(t, d.migrate(t, &bareNote{}, &note{}), "a second run")
	})
	t.Run("models that disagree", func(t *testing.T) {
		for _, models := range [][]any{{&note{}, &sharedNote{}}, {&sharedNote{}, &note{}}} {
			d := newDatabase(t)
			require.Contains(t, d.migrate(t, models...), "public.notes: create policy tenant_isolation")
		}
	})
}
