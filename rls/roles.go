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
		inherited           sql.NullString // NULL if from neither
	)
	const query = `SELECT rolsuper, rolbypassrls, (SELECT rolname FROM pg_roles r
			WHERE rolname = ANY ($2::text[]) AND pg_has_role(app.oid, r.oid, 'USAGE') ORDER BY rolname LIMIT 1)
		FROM pg_roles app WHERE rolname = $1`
	err := conn.QueryRowContext(ctx, query, i.AppRole, []string{i.AdminRole, i.ReadOnlyRole}).Scan(&superuser, &bypasses, &inherited)
	switch role := ident(i.AppRole); {
	case err != nil:
		return err
	case superuser:
		return fmt.Errorf("role %q is a superuser, to whom no policy applies: ALTER ROLE %s NOSUPERUSER", i.AppRole, role)
	case bypasses:
		return fmt.Errorf("role %q has BYPASSRLS, so no policy applies to it: ALTER ROLE %s NOBYPASSRLS", i.AppRole, role)
	case inherited.Valid:
		admin := ident(inherited.String)
		return fmt.Errorf("role %q inherits the rights of %q and would see every tenant's rows: "+
			"REVOKE %[4]s FROM %[3]s; ALTER ROLE %[3]s NOINHERIT; GRANT %[4]s TO %[3]s", i.AppRole, inherited.String, role, admin)
	}
	return nil
}

// createRole is the statement that makes a missing role.
func (i Isolation) createRole(role string) string {
	if role == i.AdminRole || role == i.ReadOnlyRole {
		return "CREATE ROLE " + ident(role) + " NOLOGIN"
	}
	return "CREATE ROLE " + ident(role) + " LOGIN NOINHERIT"
}
