package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/policy"
)

func TestConfigDefaults(t *testing.T) {
	c := policy.Config{}.WithDefaults()
	require.NoError(t, c.Validate())
	require.Equal(t, policy.Config{Setting: "app.tenant_id", Column: "tenant_id"}, c)
	require.Empty(t, c.Roles())
	require.Equal(t, []string{"tenant_isolation"}, c.Names())
}

func TestConfigValidate(t *testing.T) {
	for name, test := range map[string]struct {
		config policy.Config
		says   string
	}{
		"no dot":           {policy.Config{Setting: "tenant"}, `Setting "tenant" is not a name that PostgreSQL accepts`},
		"trailing dot":     {policy.Config{Setting: "app."}, "two parts joined by a dot"},
		"quote":            {policy.Config{Setting: "app.ten'ant"}, "two parts joined by a dot"},
		"hyphen":           {policy.Config{Setting: "my-app.tenant"}, "two parts joined by a dot"},
		"digit first":      {policy.Config{Setting: "app.1"}, "two parts joined by a dot"},
		"setting too long": {policy.Config{Setting: "app." + strings.Repeat("x", 64)}, "Setting"},
		"column too long":  {policy.Config{Column: strings.Repeat("é", 32)}, "Column must be 1 to 63 bytes"},
		"NUL":              {policy.Config{AdminRole: "a\x00b"}, "AdminRole must be 1 to 63 bytes"},
		"reserved":         {policy.Config{AppRole: "NONE"}, `AppRole cannot be "NONE"`},
		"one role":         {policy.Config{AppRole: "app", AdminRole: "app"}, `AdminRole and AppRole cannot both be "app"`},
		"reader is admin":  {policy.Config{AdminRole: "admin", ReadOnlyRole: "admin"}, `ReadOnlyRole cannot be "admin"`},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, test.config.WithDefaults().Validate(), test.says) })
	}
	for _, setting := range []string{"app.tenant_id", "_a.b$.c", "App.Tenant9"} {
		require.NoError(t, policy.Config{Setting: setting}.WithDefaults().Validate())
	}
}

func TestPredicate(t *testing.T) {
	c := policy.Config{Setting: "app.tenant_id", Column: "tenant_id"}
	require.Equal(t, `"tenant_id" = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid)`, c.Predicate("uuid"))
	require.Equal(t, `NULLIF(current_setting('app.tenant_id', true), '')::uuid`, c.Current("uuid"))
}
