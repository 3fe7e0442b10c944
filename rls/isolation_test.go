package rls

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/utils/tests"
)

func TestInvalidIsolation(t *testing.T) {
	for name, test := range map[string]struct {
		isolation Isolation
		says      string
	}{
		"setting": {Isolation{Setting: "tenant"}, `tenancy: Setting "tenant" is not a name that PostgreSQL accepts`},
		"column":  {Isolation{Column: strings.Repeat("é", 32)}, "tenancy: Column must be 1 to 63 bytes"},
		"roles":   {Isolation{AppRole: "app", AdminRole: "app"}, `tenancy: AdminRole and AppRole cannot both be "app"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.isolation.Migrate(t.Context(), nil)
			require.ErrorContains(t, err, test.says)
			_, _, err = test.isolation.SQL(nil)
			require.ErrorContains(t, err, test.says)
		})
	}
}

func TestChangeString(t *testing.T) {
	change := Change{Table: "public.notes", Description: "create policy tenant_isolation", SQL: "CREATE POLICY …"}
	require.Equal(t, "public.notes: create policy tenant_isolation", change.String())
}

func TestUnusableDatabase(t *testing.T) {
	_, err := Isolation{}.Migrate(t.Context(), nil)
	require.ErrorContains(t, err, "tenancy: no database: pass the *gorm.DB of the role that owns the tables")
	_, err = Isolation{}.Migrate(t.Context(), &gorm.DB{})
	require.ErrorContains(t, err, "no database")

	dummy, err := gorm.Open(tests.DummyDialector{}, &gorm.Config{})
	require.NoError(t, err)
	_, err = Isolation{}.Migrate(t.Context(), dummy)
	require.ErrorContains(t, err, `dialect "dummy" is not supported`)
}
