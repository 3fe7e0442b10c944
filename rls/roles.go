package rls

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"
)

// checkRoles refuses roles that do not exist, and an application role that PostgreSQL would not apply the tenant's policy
// to.
func (i Isolation) checkRoles(ctx context.Context, conn gorm.ConnPool) error {
	for _, role := range i.roles() {
		var exists bool
		const query = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)"
		if err := conn.QueryRowContext(ctx, query, role).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			return fmt.Errorf("role %q does not exist: create it first: %s", role, i.createRole(role))
		}
	}
	if i.AppRole == "" {
		return nil
	}
	var (
		superuser, bypasses bool
		inherits            sql.NullBool // NULL without an admin role
	)
	const query = `SELECT rolsuper, rolbypassrls, pg_has_role(oid, (SELECT oid FROM pg_roles WHERE rolname = $2), 'USAGE')
		FROM pg_roles WHERE rolname = $1`
	err := conn.QueryRowContext(ctx, query, i.AppRole, i.AdminRole).Scan(&superuser, &bypasses, &inherits)
	switch role := ident(i.AppRole); {
	case err != nil:
		return err
	case superuser:
		return fmt.Errorf("role %q is a superuser, to whom no policy applies: ALTER ROLE %s NOSUPERUSER", i.AppRole, role)
	case bypasses:
		return fmt.Errorf("role %q has BYPASSRLS, so no policy applies to it: ALTER ROLE %s NOBYPASSRLS", i.AppRole, role)
	case inherits.Bool:
		admin := ident(i.AdminRole)
		return fmt.Errorf("role %q inherits the rights of %q and would see every tenant's rows: "+
			"REVOKE %[4]s FROM %[3]s; ALTER ROLE %[3]s NOINHERIT; GRANT %[4]s TO %[3]s", i.AppRole, i.AdminRole, role, admin)
	}
	return nil
}

// createRole is the statement that makes a missing role.
func (i Isolation) createRole(role string) string {
	if role == i.AdminRole {
		return "CREATE ROLE " + ident(role) + " NOLOGIN"
	}
	return "CREATE ROLE " + ident(role) + " LOGIN NOINHERIT"
}
