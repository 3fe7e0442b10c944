package tenancy

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// rolesSQL asks about the role that statements run under, the login, and the admin role, $1; about settings of the login,
// see settingsSQL; and about Citus. Each name and operator is qualified, because the login may have been given a search_path in which
// another schema comes before pg_catalog. USAGE means that a role has the other's privileges without SET ROLE
// (https://www.postgresql.org/docs/current/functions-info.html, pg_has_role).
var rolesSQL = `
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
       me.rolname::pg_catalog.text, me.rolsuper, me.rolbypassrls,
       login.rolname::pg_catalog.text, login.rolsuper, login.rolbypassrls,
       pg_catalog.current_database()::pg_catalog.text,
       EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'citus'),
       (SELECT NOT s.reset_val::pg_catalog.bool FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) 'row_security'),` + settingsSQL + `,
       admin.oid IS NOT NULL,
       coalesce(pg_catalog.pg_has_role(me.oid, admin.oid, 'USAGE'), false),
       ` + policy.CanTake("session_user", "admin.oid") + `
FROM pg_catalog.pg_roles me
JOIN pg_catalog.pg_roles login ON login.rolname OPERATOR(pg_catalog.=) session_user
LEFT JOIN pg_catalog.pg_roles admin ON admin.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name
WHERE me.rolname OPERATOR(pg_catalog.=) current_user`

// verifyRoles asks about the roles of a pool that is seen for the first time: one of dbresolver's, with a login of its own,
// that was not initialized.
func (p *Plugin) verifyRoles(ctx context.Context, pool *pool, through gorm.ConnPool) error {
	if pool.home.safe.Load() {
		return nil
	}
	err := p.askAll(ctx, pool, pool.home, through)
	pool.home.safe.Store(err == nil)
	return err
}

// askAll asks a server about every role, and about what signatures need and whether its other pools lead
// to the same database.
func (p *Plugin) askAll(ctx context.Context, pool *pool, s *server, through gorm.ConnPool) error {
	err := p.askRoles(ctx, through)
	if err == nil {
		err = p.askReadOnlyRole(ctx, s, through)
	}
	if err == nil {
		err = p.askLookupRole(ctx, through)
	}
	if err == nil {
		err = p.checkSigning(ctx, pool, s, through)
	}
	if err == nil {
		err = p.checkPools(ctx, s)
	}
	return err
}

// checkRoles refuses roles and logins that no policy applies to or whose settings undo isolation, and an admin role that
// Bypass cannot take.
func (p *Plugin) checkRoles(ctx context.Context, pool *pool) error {
	pool.home.safe.Store(false)
	return p.verifyRoles(guard.InTenantRole(ctx), pool, pool.guarded)
}

// askRoles puts the question to PostgreSQL, in one query under the very role of every statement.
func (p *Plugin) askRoles(ctx context.Context, through gorm.ConnPool) error {
	var (
		version                               int
		role, login                           policy.Role
		database                              string
		citus, rowSecurityOff                 bool
		settings                              *string
		adminExists, adminInherited, adminSet bool
	)
	err := through.QueryRowContext(guard.Own(ctx, rolesSQL), rolesSQL, p.config.AdminRole, p.config.Setting, p.config.AppRole).Scan(
		&version, &role.Name, &role.Superuser, &role.BypassRLS, &login.Name, &login.Superuser, &login.BypassRLS,
		&database, &citus, &rowSecurityOff, &settings, &adminExists, &adminInherited, &adminSet)
	if err != nil {
		return fmt.Errorf("tenancy: ask PostgreSQL about the roles: %w", err)
	}
	if version < sqltext.PostgreSQL14 {
		return fmt.Errorf("tenancy: needs PostgreSQL 14 or later; server_version_num is %d", version)
	}
	if err := p.checkEngine(citus); err != nil {
		return err
	}
	if d := role.Dangers(version); len(d) > 0 {
		return wrapf(ErrUnsafeRole, "no policy applies to %s, which %s: use another role, or run %s", quote(role.Name), d[0].Problem, d[0].SQL())
	}
	if d := login.Dangers(version); len(d) > 0 {
		return wrapf(ErrUnsafeRole, "%s %s %s: connect as another login, or run %s",
			leavesRole(role.Name), quote(login.Name), d[0].Problem, d[0].SQL())
	}
	if err := p.checkSettings(ctx, login.Name, database, settings, rowSecurityOff); err != nil {
		return err
	}

	admin := p.config.AdminRole
	switch {
	case admin == "":
		return nil
	case !adminExists:
		return noRole(version, admin, login.Name)
	case adminInherited:
		return inherits(version, role.Name, admin, "every statement would bypass")
	case !adminSet:
		return cannotTake(version, admin, login.Name)
	}
	return nil
}

// leavesRole says why a login matters though statements run under another role.
func leavesRole(role string) string {
	return fmt.Sprintf("raw SQL can leave the role %s, by RESET ROLE or by a procedure that commits, and no policy applies to "+
		"the login then:", quote(role))
}

// noRole refuses an admin role, or a read-only role, that does not exist.
func noRole(version int, role, login string) error {
	return wrapf(ErrNoAdminRole, "%s does not exist: run CREATE ROLE %[1]s NOLOGIN; %s", quote(role), policy.GrantRole(version, role, login))
}

// cannotTake refuses an admin role, or a read-only role, that the login cannot take.
func cannotTake(version int, role, login string) error {
	return wrapf(ErrNoAdminRole, "%s cannot take the role %s: run %s", quote(login), quote(role), policy.GrantRole(version, role, login))
}

// inherits refuses a role of tenants that has the rights of another without taking it.
func inherits(version int, role, of, consequence string) error {
	danger := policy.Role{Name: role, Inherits: []string{of}}.Dangers(version)[0]
	return wrapf(ErrUnsafeRole, "%s %s, so that %s: run %s", quote(role), danger.Problem, consequence, danger.SQL())
}

func quote(name string) string { return sqltext.Ident(name) }
