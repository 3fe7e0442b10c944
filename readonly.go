package tenancy

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/internal/policy"
)

// adminPool returns the guarded pool of admin clients that may write, or of those that may not.
func (p *pool) adminPool(readOnly bool) (*sql.DB, error) {
	if readOnly {
		return p.reader()
	}
	return p.admin()
}

// openReader makes the guarded pool of read-only admin clients, which is that of the others without a role of its own.
func (p *Plugin) openReader(below *pool) (*sql.DB, error) {
	if p.config.ReadOnlyRole == "" {
		return below.admin()
	}
	return p.openAdmin(below, p.config.ReadOnlyRole)
}

// readOnlyRoleSQL asks about the role $1: see rolesSQL.
var readOnlyRoleSQL = `
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, current_user::pg_catalog.text, session_user::pg_catalog.text,
       r.oid IS NOT NULL,
       coalesce(pg_catalog.pg_has_role(current_user, r.oid, 'USAGE'), false),
       ` + policy.CanTake("session_user", "r.oid") + `
FROM (SELECT) one LEFT JOIN pg_catalog.pg_roles r ON r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name`

// askReadOnlyRole refuses a read-only role that is missing, that statements of tenants inherit from, or that read-only clients
// cannot take: with the login of through, or with that of AdminDB.
func (p *Plugin) askReadOnlyRole(ctx context.Context, s *server, through gorm.ConnPool) error {
	if p.config.ReadOnlyRole == "" {
		return nil
	}
	var (
		version                int
		role, login            string
		exists, inherited, set bool
	)
	ask := func(ctx context.Context, through gorm.ConnPool, inherited *bool) error {
		err := through.QueryRowContext(ctx, readOnlyRoleSQL, p.config.ReadOnlyRole).Scan(&version, &role, &login, &exists, inherited, &set)
		if err != nil {
			return fmt.Errorf("tenancy: ask PostgreSQL about ReadOnlyRole: %w", err)
		}
		return nil
	}
	if err := ask(guard.Own(ctx, readOnlyRoleSQL), through, &inherited); err != nil {
		return err
	}
	reader := p.config.ReadOnlyRole
	if exists && inherited {
		return inherits(version, role, reader, "every statement would read all rows")
	}
	admin := p.config.AdminDB
	if s.admin != nil {
		admin = s.admin.DB
	}
	if admin != nil {
		if err := ask(ctx, admin, new(bool)); err != nil {
			return err
		}
	}
	switch {
	case !exists:
		return noRole(version, reader, login)
	case !set:
		return cannotTake(version, reader, login)
	}
	return nil
}
