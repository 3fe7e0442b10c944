package rls

import (
	"context"
	"encoding/json"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// checkRoles refuses roles that do not exist, and an application role that PostgreSQL would not apply the tenant's policy
// to.
func (m migration) checkRoles(ctx context.Context, conn gorm.ConnPool) error {
	for _, role := range m.Roles() {
		var exists bool
		const query = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)"
		if err := conn.QueryRowContext(ctx, query, role).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			return fmt.Errorf("role %q does not exist: create it first: %s", role, m.createRole(role))
		}
	}
	if m.AppRole == "" {
		return nil
	}
	var (
		version   int
		role      = policy.Role{Name: m.AppRole}
		inherited []byte
	)
	err := conn.QueryRowContext(ctx, appRoleQuery, m.AppRole, []string{m.AdminRole, m.ReadOnlyRole}).Scan(
		&version, &role.Superuser, &role.BypassRLS, &inherited)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(inherited, &role.Inherits); err != nil {
		return err
	}
	if dangers := role.Dangers(version); len(dangers) > 0 {
		consequence := "no policy applies to it"
		if dangers[0].Kind == policy.InheritsExempt {
			consequence = "it would see the rows of all tenants"
		}
		return fmt.Errorf("role %q %s, so that %s: %s", m.AppRole, dangers[0].Problem, consequence, dangers[0].SQL())
	}
	return nil
}

// appRoleQuery asks about the role $1, and whether it has the rights of the roles $2.
var appRoleQuery = `SELECT current_setting('server_version_num')::int, rolsuper, rolbypassrls,
		coalesce(` + policy.InheritsFrom("app.oid", "$2::text[]") + `, '[]')::text
	FROM pg_roles app WHERE rolname = $1`

// createRole is the statement that makes a missing role.
func (m migration) createRole(role string) string {
	if role == m.AdminRole || role == m.ReadOnlyRole {
		return "CREATE ROLE " + sqltext.Ident(role) + " NOLOGIN"
	}
	return "CREATE ROLE " + sqltext.Ident(role) + " LOGIN NOINHERIT"
}
