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
	for _, role := range []struct {
		name   string
		exempt []string
	}{
		{m.AppRole, []string{m.AdminRole, m.ReadOnlyRole, m.LookupRole, m.OldRole}}, {m.LookupRole, []string{m.AdminRole, m.ReadOnlyRole, m.OldRole}},
	} {
		if role.name != "" {
			if err := m.checkRole(ctx, conn, role.name, role.exempt); err != nil {
				return err
			}
		}
	}
	if m.Form != policy.Unsigned {
		if err := m.checkSigner(ctx, conn); err != nil {
			return err
		}
	}
	return m.checkBackupRole(ctx, conn)
}

// checkSigner refuses a role for the keys that is missing, that logs in, or that a role of statements can become or has the rights of.
func (m migration) checkSigner(ctx context.Context, conn gorm.ConnPool) error {
	var (
		exists, logsIn bool
		taken          *string
		signer         = sqltext.Ident(m.Signer)
	)
	const query = `SELECT r.oid IS NOT NULL, coalesce(r.rolcanlogin, false), (
			SELECT min(member.rolname::text) FROM pg_roles member
			WHERE member.rolname = ANY ($2::text[]) AND pg_has_role(member.oid, r.oid, 'MEMBER'))
		FROM (SELECT) one LEFT JOIN pg_roles r ON r.rolname = $1`
	if err := conn.QueryRowContext(ctx, query, m.Signer, m.Roles()).Scan(&exists, &logsIn, &taken); err != nil {
		return err
	}
	switch {
	case !exists:
		return fmt.Errorf("SignerRole %q does not exist: CREATE ROLE %s NOLOGIN, and grant it to the role that migrates", m.Signer, signer)
	case logsIn:
		return fmt.Errorf("SignerRole %q can log in, and would read the keys: ALTER ROLE %s NOLOGIN", m.Signer, signer)
	case taken != nil:
		return fmt.Errorf("role %q is a member of SignerRole %q, and would read the keys: REVOKE %s FROM %s, or what leads to it",
			*taken, m.Signer, signer, sqltext.Ident(*taken))
	}
	return nil
}

// checkSetup refuses a role that may not make the keys and the functions that verify, where they are still to be made.
func (m migration) checkSetup(ctx context.Context, conn gorm.ConnPool) error {
	planner := m.Planner
	if err := planner.LookForSetup(ctx, conn); err != nil || planner.Form == policy.Unsigned || planner.SetUp {
		return err
	}
	var (
		member, creates bool
		user, database  string
	)
	query := `SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'), ` + policy.CanTake("current_user", "r.oid") +
		` FROM pg_roles r WHERE r.rolname = $1`
	if err := conn.QueryRowContext(ctx, query, m.Signer).Scan(&user, &database, &creates, &member); err != nil {
		return err
	}
	switch {
	case !member:
		return fmt.Errorf("role %q is to make the signing keys, and cannot take SignerRole %q, which owns them: GRANT %s TO %s",
			user, m.Signer, sqltext.Ident(m.Signer), sqltext.Ident(user))
	case !creates:
		return fmt.Errorf("role %q is to make the schema of the signing keys, and may make none in the database: GRANT CREATE ON DATABASE %s TO %s",
			user, sqltext.Ident(database), sqltext.Ident(user))
	}
	return nil
}

// checkBackupRole refuses a backup role whose dumps would lack rows, and one that the application can become.
func (m migration) checkBackupRole(ctx context.Context, conn gorm.ConnPool) error {
	if m.BackupRole == "" {
		return nil
	}
	var bypasses, taken bool
	const query = `SELECT rolbypassrls, EXISTS (SELECT FROM pg_roles app WHERE app.rolname = $2 AND pg_has_role(app.oid, r.oid, 'MEMBER'))
		FROM pg_roles r WHERE rolname = $1`
	if err := conn.QueryRowContext(ctx, query, m.BackupRole, m.AppRole).Scan(&bypasses, &taken); err != nil {
		return err
	}
	role, app := sqltext.Ident(m.BackupRole), sqltext.Ident(m.AppRole)
	switch {
	case !bypasses:
		return fmt.Errorf("role %q lacks BYPASSRLS, so that its backups would fail or lack rows: ALTER ROLE %s BYPASSRLS; where the server "+
			"refuses that, back up as ReadOnlyRole", m.BackupRole, role)
	case taken:
		return fmt.Errorf("role %q is a member of the backup role %q, which no policy binds: REVOKE %s FROM %s, or what leads to it",
			m.AppRole, m.BackupRole, role, app)
	}
	return nil
}

// checkRole refuses a role that no policy of tenants applies to, or that inherits from a role to which others apply.
func (m migration) checkRole(ctx context.Context, conn gorm.ConnPool, name string, exempt []string) error {
	var (
		version   int
		role      = policy.Role{Name: name}
		inherited []byte
	)
	err := conn.QueryRowContext(ctx, roleQuery, name, exempt).Scan(
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
		return fmt.Errorf("role %q %s, so that %s: %s", name, dangers[0].Problem, consequence, dangers[0].SQL())
	}
	return nil
}

// roleQuery asks about the role $1, and whether it has the rights of the roles $2.
var roleQuery = `SELECT current_setting('server_version_num')::int, rolsuper, rolbypassrls,
		coalesce(` + policy.InheritsFrom("app.oid", "$2::text[]") + `, '[]')::text
	FROM pg_roles app WHERE rolname = $1`

// createRole is the statement that makes a missing role.
func (m migration) createRole(role string) string {
	if role == m.BackupRole {
		return "CREATE ROLE " + sqltext.Ident(role) + " LOGIN BYPASSRLS"
	}
	if role == m.AdminRole || role == m.ReadOnlyRole || role == m.LookupRole {
		return "CREATE ROLE " + sqltext.Ident(role) + " NOLOGIN"
	}
	return "CREATE ROLE " + sqltext.Ident(role) + " LOGIN NOINHERIT"
}
