package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

func TestDangersOfARole(t *testing.T) {
	require.Empty(t, policy.Role{Name: "app"}.Dangers(sqltext.PostgreSQL16))
	r := policy.Role{Name: "app", Superuser: true, BypassRLS: true, Inherits: []string{"a", "b"}}
	fixes := func(version int) (list []string) {
		for _, d := range r.Dangers(version) {
			list = append(list, d.SQL())
		}
		return list
	}
	require.Equal(t, []string{
		`ALTER ROLE "app" NOSUPERUSER`,
		`ALTER ROLE "app" NOBYPASSRLS`,
		`ALTER ROLE "app" NOINHERIT`,
	}, fixes(sqltext.PostgreSQL15))
	require.Equal(t, `GRANT "a" TO "app" WITH INHERIT FALSE; GRANT "b" TO "app" WITH INHERIT FALSE`, fixes(sqltext.PostgreSQL16)[2])
	require.Equal(t, `inherits from "a", "b"`, r.Dangers(sqltext.PostgreSQL16)[2].Problem)
}

func TestGrantRole(t *testing.T) {
	require.Equal(t, `GRANT "admin" TO "app"; ALTER ROLE "app" NOINHERIT`, policy.GrantRole(sqltext.PostgreSQL15, "admin", "app"))
	require.Equal(t, `GRANT "admin" TO "app" WITH INHERIT FALSE, SET TRUE`, policy.GrantRole(sqltext.PostgreSQL16, "admin", "app"))
}
