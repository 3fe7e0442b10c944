package policy_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/policy"
)

var tests = []struct {
	expression string
	matches    bool
}{
	{`(tenant_id = ( SELECT NULLIF(current_setting('app.tenant_id'::text, true), ''::text) AS "nullif"))`, true},
	{`(tenant_id = ( SELECT (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid AS "nullif"))`, true},
	{`((tenant_id)::text = (( SELECT (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::character varying AS "nullif"))::text)`, true},
	{`(tenant_id = current_setting('app.tenant_id'::text))`, true},
	{`(tenant_id = (current_setting('App.TENANT_id'::text, true))::bigint)`, true},
	{`((tenant_id)::text = current_setting('app.tenant_id'::text, true))`, true},
	{`(current_setting('app.tenant_id'::text, true) = tenant_id)`, true},
	{`(tenant_id = ( SELECT current_setting('app.tenant_id'::text, true) AS current_setting))`, true},
	{`(tenant_id OPERATOR(pg_catalog.=) pg_catalog.current_setting('app.tenant_id'::text))`, true},
	{`((tenant_id = current_setting('app.tenant_id'::text)) AND (deleted_at IS NULL))`, true},
	{"((tenant_id = current_setting('app.tenant_id'::text)) AND (name = 'a\nb'::text))", true},
	{`false`, true},

	{``, false},
	{`true`, false},
	{`(true)`, false},
	{`(tenant_id = current_setting('app.tenant_id2'::text))`, false},
	{`(tenant_id = current_setting('appXtenant_id'::text))`, false},
	{`(other_id = current_setting('app.tenant_id'::text))`, false},
	{`(lower(tenant_id) = current_setting('app.tenant_id'::text))`, false},
	{`((tenant_id = current_setting('app.tenant_id'::text)) OR true)`, false},
	{`(((tenant_id = current_setting('app.tenant_id'::text)) AND a) OR b)`, false},
	{`(b OR (a AND (tenant_id = current_setting('app.tenant_id'::text))))`, false},
	{`((tenant_id = current_setting('app.tenant_id'::text)) = b)`, false},
	{`(((current_setting('app.tenant_id'::text) = tenant_id) AND a) OR b)`, false},
	{`(((tenant_id)::text = current_setting('app.tenant_id'::text)) AND a)`, true},
	{`((((tenant_id)::text = current_setting('app.tenant_id'::text)) AND a) OR b)`, false},
	{`((a AND (tenant_id = current_setting('app.tenant_id'::text))) OR b)`, false},
	{`(NOT (a AND (tenant_id = current_setting('app.tenant_id'::text))))`, false},
	{`(a = 'b AND (tenant_id = current_setting(''app.tenant_id''::text))'::text)`, false},
	{`(tenant_id <> current_setting('app.tenant_id'::text))`, false},
	{`(tenant_id >= current_setting('app.tenant_id'::text))`, false},
	{`(tenant_id = (current_setting('app.tenant_id'::text))::name)`, false},
	{`(tenant_id = (current_setting('app.tenant_id'::text))::citext)`, false},
	{`(tenant_id = (current_setting('app.tenant_id'::text))::boolean)`, false},
	{`(tenant_id = (current_setting('app.tenant_id'::text))::bpchar)`, false},
	{`(tenant_id = (current_setting('app.tenant_id'::text))::character varying(3))`, false},
	{`((tenant_id)::character varying(3) = current_setting('app.tenant_id'::text))`, false},
	{`(tenant_id = "left"(current_setting('app.tenant_id'::text), 3))`, false},
	{`(tenant_id OPERATOR(evil.=) current_setting('app.tenant_id'::text))`, false},
	{`(tenant_id = COALESCE(current_setting('app.tenant_id'::text), tenant_id))`, false},
	{`(tenant_id = ( SELECT current_setting('app.tenant_id'::text) AS current_setting FROM t))`, false},
	{`(tenant_id = current_setting('app.tenant_id'::text, NULL::boolean))`, false},
}

func TestPattern(t *testing.T) {
	pattern := regexp.MustCompile(policy.Config{}.WithDefaults().Pattern())
	for _, tt := range tests {
		require.Equal(t, tt.matches, pattern.MatchString(tt.expression), tt.expression)
	}
}

// TestPatternOfForms: the functions that verify are recognised where the form asks for them, and the setting where it does not.
func TestPatternOfForms(t *testing.T) {
	const (
		plain  = `(tenant_id = ( SELECT NULLIF(current_setting('app.tenant_id'::text, true), ''::text) AS "nullif"))`
		signed = `(tenant_id = ( SELECT tenancy_signed.tenant('app.tenant_id'::text) AS tenant))`
		either = `(tenant_id = ( SELECT (tenancy_signed.tenant_or_unsigned('app.tenant_id'::text))::uuid AS tenant_or_unsigned))`
	)
	for form, want := range map[policy.Form][3]bool{
		policy.Unsigned: {true, false, true}, policy.Signed: {false, true, false}, policy.Either: {true, true, true},
	} {
		pattern := regexp.MustCompile(policy.Config{Form: form}.WithDefaults().Pattern())
		for n, expression := range []string{plain, signed, either} {
			require.Equal(t, want[n], pattern.MatchString(expression), expression)
		}
		for _, other := range []string{
			`(tenant_id = ( SELECT tenancy_signed.tenant('app.other_id'::text) AS tenant))`, `(tenant_id = ( SELECT tenant('app.tenant_id'::text) AS tenant))`,
			`(tenant_id = ( SELECT other.tenant('app.tenant_id'::text) AS tenant))`, `(tenant_id = ( SELECT tenancy_signed.tenantx('app.tenant_id'::text) AS tenantx))`,
			`(tenant_id = ( SELECT tenancy_signed.lookup('app.tenant_id'::text) AS lookup))`, `(` + signed + ` OR true)`,
		} {
			require.False(t, pattern.MatchString(other), other)
		}
	}
}

func TestPatternOfNames(t *testing.T) {
	for column, written := range map[string]string{
		`Org "x"`: `"Org ""x"""`, `user`: `"user"`, `tenant`: `tenant`, `a.b*`: `"a.b*"`, `größe`: `"größe"`,
	} {
		pattern := regexp.MustCompile(policy.Config{Setting: "my.id$1", Column: column}.Pattern())
		require.True(t, pattern.MatchString(`(`+written+` = current_setting('my.ID$1'::text))`), column)
		require.False(t, pattern.MatchString(`(`+written+`2 = current_setting('my.id$1'::text))`), column)
	}
	require.False(t, regexp.MustCompile(policy.Config{Setting: "a.b", Column: "Id"}.Pattern()).MatchString(`(id = current_setting('a.b'::text))`))
}
