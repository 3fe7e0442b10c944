package tenancy

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
)

// lookupRoleSQL asks about the lookup role $1, and whether it has the rights of the roles $2 and $3, which no tenant's policy
// binds: see rolesSQL.
var lookupRoleSQL = `
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, current_user::pg_catalog.text, session_user::pg_catalog.text,
       r.oid IS NOT NULL, coalesce(r.rolsuper, false), coalesce(r.rolbypassrls, false),
       coalesce(pg_catalog.pg_has_role(current_user, r.oid, 'USAGE'), false),
       (SELECT pg_catalog.min(exempt.rolname::pg_catalog.text) FROM pg_catalog.pg_roles exempt
        WHERE exempt.rolname OPERATOR(pg_catalog.=) ANY (ARRAY[$2::pg_catalog.name, $3::pg_catalog.name]) AND pg_catalog.pg_has_role(r.oid, exempt.oid, 'USAGE')),
       ` + policy.CanTake("session_user", "r.oid") + `
FROM (SELECT) one LEFT JOIN pg_catalog.pg_roles r ON r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name`

// askLookupRole refuses a lookup role that is missing, exempt from policies, that statements of tenants inherit from, or that
// the login cannot take.
func (p *Plugin) askLookupRole(ctx context.Context, through gorm.ConnPool) error {
	if p.config.LookupRole == "" {
		return nil
	}
	var (
		version                int
		role, login            string
		lookup                 = policy.Role{Name: p.config.LookupRole}
		exists, inherited, set bool
		exempt                 *string
	)
	err := through.QueryRowContext(guard.Own(ctx, lookupRoleSQL), lookupRoleSQL,
		lookup.Name, p.config.AdminRole, p.config.ReadOnlyRole).Scan(
		&version, &role, &login, &exists, &lookup.Superuser, &lookup.BypassRLS, &inherited, &exempt, &set)
	if err != nil {
		return fmt.Errorf("tenancy: ask PostgreSQL about LookupRole: %w", err)
	}
	if exempt != nil {
		lookup.Inherits = []string{*exempt}
	}
	dangers := lookup.Dangers(version)
	switch {
	case !exists:
		return wrapf(ErrSetRole, "LookupRole %s does not exist: run CREATE ROLE %[1]s NOLOGIN; %s",
			quote(lookup.Name), policy.GrantRole(version, lookup.Name, login))
	case len(dangers) > 0:
		return wrapf(ErrUnsafeRole, "LookupRole %s %s: use another role, or run %s", quote(lookup.Name), dangers[0].Problem, dangers[0].SQL())
	case inherited:
		return inherits(version, role, lookup.Name, "every tenant would read what it may look up")
	case !set:
		return wrapf(ErrSetRole, "%s cannot take the role %s: run %s",
			quote(login), quote(lookup.Name), policy.GrantRole(version, lookup.Name, login))
	}
	return nil
}

// looksUp reports whether the statement runs under WithoutTenant.
func (s *statement) looksUp() bool {
	id, err := s.scope()
	return err == nil && id == "" && s.bypass == nil
}
