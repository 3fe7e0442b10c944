package policy_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/policy"
)

func TestPattern(t *testing.T) {
	binds := func(column, predicate string) bool {
		return regexp.MustCompile(policy.Pattern("app.tenant_id", column)).MatchString(predicate) &&
			!regexp.MustCompile(policy.Unsafe).MatchString(predicate)
	}
	for _, p := range []string{
		`(tenant_id = ( SELECT NULLIF(current_setting('app.tenant_id'::text, true), ''::text) AS "nullif"))`,
		`(tenant_id = ( SELECT (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid AS "nullif"))`,
		`((tenant_id)::text = (( SELECT (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::character varying AS "nullif"))::text)`,
		`(tenant_id = current_setting('app.tenant_id'::text))`,
		`(tenant_id = (current_setting('app.tenant_id'::text, true))::bigint)`,
		`((tenant_id)::text = current_setting('app.tenant_id'::text, true))`,
		`(current_setting('app.tenant_id'::text, true) = tenant_id)`,
		`(tenant_id = ( SELECT current_setting('app.tenant_id'::text, true) AS current_setting))`,
	} {
		require.True(t, binds("tenant_id", p), p)
	}
	for _, p := range []string{
		`true`, ``, `(true)`,
		`(tenant_id = current_setting('app.tenant_id2'::text))`, `(tenant_id = current_setting('appXtenant_id'::text))`,
		`(other_id = current_setting('app.tenant_id'::text))`,
		`(lower(tenant_id) = current_setting('app.tenant_id'::text))`,
		`((tenant_id = current_setting('app.tenant_id'::text)) OR true)`,
		`(tenant_id <> current_setting('app.tenant_id'::text))`, `(tenant_id >= current_setting('app.tenant_id'::text))`,
		`(tenant_id = (current_setting('app.tenant_id'::text))::name)`,
		`(tenant_id = (current_setting('app.tenant_id'::text))::citext)`,
		`(tenant_id = (current_setting('app.tenant_id'::text))::character varying(3))`,
		`(tenant_id = "left"(current_setting('app.tenant_id'::text), 3))`,
		`(tenant_id OPERATOR(evil.=) current_setting('app.tenant_id'::text))`,
		`(tenant_id = COALESCE(current_setting('app.tenant_id'::text), tenant_id))`,
	} {
		require.False(t, binds("tenant_id", p), p)
	}
	require.True(t, binds(`Org "x"`, `("Org ""x""" = current_setting('app.tenant_id'::text))`))
	require.True(t, binds(`user`, `("user" = current_setting('app.tenant_id'::text))`))
}
