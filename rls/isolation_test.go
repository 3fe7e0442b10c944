package rls

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/utils/tests"
)

func TestDefaults(t *testing.T) {
	i, err := Isolation{}.complete()
	require.NoError(t, err)
	require.Equal(t, Isolation{Setting: "app.tenant_id", Column: "tenant_id"}, i)
	require.Empty(t, i.roles())
}

func TestExpressions(t *testing.T) {
	i := Isolation{Setting: "app.tenant_id", Column: "tenant_id"}
	require.Equal(t, `"tenant_id" = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid)`, i.predicate("uuid"))
	require.Equal(t, `NULLIF(current_setting('app.tenant_id', true), '')::uuid`, i.current("uuid"))
}

func TestInvalidIsolation(t *testing.T) {
	for name, test := range map[string]struct {
		isolation Isolation
		says      string
	}{
		"no dot":          {Isolation{Setting: "tenant"}, `setting "tenant" is not a name that PostgreSQL accepts`},
		"trailing dot":    {Isolation{Setting: "app."}, "two parts joined by a dot"},
		"quote":           {Isolation{Setting: "app.ten'ant"}, "two parts joined by a dot"},
		"hyphen":          {Isolation{Setting: "my-app.tenant"}, "two parts joined by a dot"},
		"digit first":     {Isolation{Setting: "app.1"}, "two parts joined by a dot"},
		"column too long": {Isolation{Column: strings.Repeat("é", 32)}, "longer than the 63 bytes"},
		"one role":        {Isolation{AppRole: "app", AdminRole: "app"}, "can't be both AppRole and AdminRole"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.isolation.complete()
			require.ErrorContains(t, err, test.says)
			_, err = test.isolation.Migrate(t.Context(), nil)
			require.ErrorContains(t, err, test.says)
		})
	}
	for _, setting := range []string{"app.tenant_id", "_a.b$.c", "App.Tenant9"} {
		_, err := Isolation{Setting: setting}.complete()
		require.NoError(t, err)
	}
}

func TestUnusableDatabase(t *testing.T) {
	_, err := Isolation{}.Migrate(t.Context(), nil)
	require.ErrorContains(t, err, "rls: no database: pass the *gorm.DB of the role that owns the tables")
	_, err = Isolation{}.Migrate(t.Context(), &gorm.DB{})
	require.ErrorContains(t, err, "no database")

	dummy, err := gorm.Open(tests.DummyDialector{}, &gorm.Config{})
	require.NoError(t, err)
	_, err = Isolation{}.Migrate(t.Context(), dummy)
	require.ErrorContains(t, err, `dialect "dummy" is not supported`)
}
