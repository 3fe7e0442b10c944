package tenancy

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// oldestServer is what PostgreSQL 14 reports as server_version_num.
const oldestServer = 140000

// rolesSQL asks about the role that statements run under, the login, and the admin role, $1; about settings of the login,
// see settingsSQL; and about Citus.
//
// Whoever is a superuser or has BYPASSRLS is exempt from policies
// (https://www.postgresql.org/docs/current/ddl-rowsecurity.html). SET ROLE looks at what the login is a member of, and
// since PostgreSQL 16 at the SET option of that membership; USAGE means that the privileges are there without SET ROLE
// (https://www.postgresql.org/docs/current/functions-info.html, pg_has_role).
const rolesSQL = `
SELECT pg_catalog.current_setting('server_version_num')::int,
       me.rolname::pg_catalog.text, me.rolsuper, me.rolbypassrls,
       login.rolname::pg_catalog.text, login.rolsuper, login.rolbypassrls,
       pg_catalog.current_database()::pg_catalog.text,
       EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus'),
       (SELECT NOT s.reset_val::pg_catalog.bool FROM pg_catalog.pg_settings s WHERE s.name = 'row_security'),` + settingsSQL + `,
       admin.oid IS NOT NULL,
       coalesce(pg_catalog.pg_has_role(me.oid, admin.oid, 'USAGE'), false),
       coalesce(pg_catalog.pg_has_role(session_user, admin.oid,
           CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END), false)
FROM pg_catalog.pg_roles me
JOIN pg_catalog.pg_roles login ON login.rolname = session_user
LEFT JOIN pg_catalog.pg_roles admin ON admin.rolname = $1
WHERE me.rolname = current_user`

// verifyRoles asks about the roles of a pool that is seen for the first time: one of dbresolver's, with a login of its own,
// that was not initialized.
func (p *Plugin) verifyRoles(ctx context.Context, pool *pool, through gorm.ConnPool) error {
	if pool.safe.Load() {
		return nil
	}
	err := p.askRoles(ctx, through)
	if err == nil {
		err = p.askReadOnlyRole(ctx, through)
	}
	pool.safe.Store(err == nil)
	return err
}

// checkRoles refuses roles and logins that no policy applies to or whose settings undo isolation, and an admin role that
// Bypass cannot take.
func (p *Plugin) checkRoles(ctx context.Context, pool *pool) error {
	pool.safe.Store(false)
	return p.verifyRoles(guard.WithoutTenant(ctx), pool, pool.guarded)
}

// askRoles puts the question to PostgreSQL, in one query under the very role of every statement.
func (p *Plugin) askRoles(ctx context.Context, through gorm.ConnPool) error {
	var (
		version                               int
		role, login, database                 string
		super, bypassRLS                      bool
		loginSuper, loginBypassRLS            bool
		citus, rowSecurityOff                 bool
		settings                              *string
		adminExists, adminInherited, adminSet bool
	)
	err := through.QueryRowContext(guard.Own(ctx, rolesSQL), rolesSQL, p.config.AdminRole, p.config.Setting, p.config.AppRole).Scan(
		&version, &role, &super, &bypassRLS, &login, &loginSuper, &loginBypassRLS, &database, &citus, &rowSecurityOff,
		&settings, &adminExists, &adminInherited, &adminSet)
	if err != nil {
		return fmt.Errorf("tenancy: ask PostgreSQL about the roles: %w", err)
	}
	switch {
	case version < oldestServer:
		return fmt.Errorf("tenancy: needs PostgreSQL 14 or later; server_version_num is %d", version)
	case citus:
		return wrapf(ErrUnsafeDatabase, "the database has the extension citus, and isolation does not hold there yet: "+
			"the tenant's setting does not reach the workers")
	case super:
		return wrapf(ErrUnsafeRole, "no policy applies to %s, a superuser: use another role, or run ALTER ROLE %[1]s "+
			"NOSUPERUSER", quote(role))
	case bypassRLS:
		return wrapf(ErrUnsafeRole, "no policy applies to %s, which has BYPASSRLS: use another role, or run ALTER ROLE "+
			"%[1]s NOBYPASSRLS", quote(role))
	case loginSuper:
		return wrapf(ErrUnsafeRole, "%s %s is a superuser: connect as another login, or run ALTER ROLE %[2]s NOSUPERUSER",
			leavesRole(role), quote(login))
	case loginBypassRLS:
		return wrapf(ErrUnsafeRole, "%s %s has BYPASSRLS: connect as another login, or run ALTER ROLE %[2]s NOBYPASSRLS",
			leavesRole(role), quote(login))
	}
	if err := p.checkSettings(ctx, login, database, settings, rowSecurityOff); err != nil {
		return err
	}

	admin := quote(p.config.AdminRole)
	switch {
	case p.config.AdminRole == "":
		return nil
	case !adminExists:
		return wrapf(ErrNoAdminRole, "%s does not exist: run CREATE ROLE %[1]s NOLOGIN; %s", admin, grant(version, admin, login))
	case adminInherited:
		return wrapf(ErrUnsafeRole, "%s inherits from %s, so that every statement would bypass: run %s",
			quote(role), admin, noInherit(version, admin, role))
	case !adminSet:
		return wrapf(ErrNoAdminRole, "%s can't take the role %s: run %s", quote(login), admin, grant(version, admin, login))
	}
	return nil
}

// leavesRole says why a login matters though statements run under another role.
func leavesRole(role string) string {
	return fmt.Sprintf("raw SQL can leave the role %s, by RESET ROLE or by a procedure that commits, and no policy applies to "+
		"the login then:", quote(role))
}

// grant is the SQL by which login can take the role admin, and has none of its privileges before.
func grant(version int, admin, login string) string {
	if version >= 160000 {
		return fmt.Sprintf("GRANT %s TO %s WITH INHERIT FALSE, SET TRUE", admin, quote(login))
	}
	return fmt.Sprintf("GRANT %s TO %s; ALTER ROLE %[2]s NOINHERIT", admin, quote(login))
}

func noInherit(version int, admin, role string) string {
	if version >= 160000 {
		return fmt.Sprintf("GRANT %s TO %s WITH INHERIT FALSE", admin, quote(role))
	}
	return fmt.Sprintf("ALTER ROLE %s NOINHERIT", quote(role))
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
