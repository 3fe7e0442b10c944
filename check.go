package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// CheckMode says what Initialize does about holes in the isolation of the database.
type CheckMode uint8

const (
	// CheckOff does not look for holes.
	CheckOff CheckMode = iota

	// CheckWarn writes a warning to Config.Logger for each hole, and one if the database cannot be checked.
	CheckWarn

	// CheckRefuse returns ErrUnsafeDatabase if there is a hole of any severity, and the reason if the database cannot be
	// checked. It only warns of what the role may not see in the catalog, and of a database without any tenant table,
	// which the application may be about to make.
	CheckRefuse
)

// checkDatabases looks for holes in the database of db, and in those of the other servers, as Config.Check says.
func (p *Plugin) checkDatabases(db *gorm.DB, pool *pool) error {
	if p.config.Check == CheckOff {
		return nil
	}
	ctx := guard.InTenantRole(db.Statement.Context)
	name, admin := "", p.config.AdminDB
	if s := p.known.servers[pool.inner]; s != nil {
		name, admin = s.Name, s.AdminDB
	}
	errs := []error{p.checkDatabase(ctx, db, name, admin)}
	for _, s := range p.config.Servers {
		if s.DB != pool.inner && !pool.reads {
			errs = append(errs, p.checkDatabase(OnServer(ctx, s.DB), db, s.Name, s.AdminDB))
		}
	}
	return errors.Join(errs...)
}

// checkDatabase looks for holes in one database. The catalog is read in one transaction, for no tenant, under the role of every statement.
func (p *Plugin) checkDatabase(ctx context.Context, db *gorm.DB, server string, admin *sql.DB) error {
	log, on := p.config.Logger, ""
	if server != "" {
		log, on = log.With("server", server), fmt.Sprintf(" on the server %q", server)
	}
	isolation := rls.Isolation{
		Setting: p.config.Setting, Column: p.config.Column, AppRole: p.config.AppRole, AdminRole: p.config.AdminRole,
		ReadOnlyRole: p.config.ReadOnlyRole, LookupRole: p.config.LookupRole,
		Signed: p.signer != nil, DangerouslyAcceptUnsigned: p.config.DangerouslyAcceptUnsigned,
	}
	options, err := adminLogin(ctx, admin)
	var report check.Report
	if err == nil {
		options = append(append(options, check.Login("")), p.config.CheckOptions...)
		report, err = isolation.Check(ctx, db, options...)
	}
	switch {
	case err != nil && p.config.Check == CheckRefuse:
		return fmt.Errorf("tenancy: check the database%s: %w", on, err)
	case err != nil:
		log.WarnContext(ctx, "tenancy: the database could not be checked", "error", err)
		return nil
	}
	p.warn(ctx, log, report)
	if p.config.Check == CheckRefuse && !report.OK() {
		return fmt.Errorf("%w%s: %w", ErrUnsafeDatabase, on, report.Err())
	}
	return nil
}

// adminRolesSQL asks for the roles that policies exempt, and whose rights the login of clients of Bypass has.
const adminRolesSQL = `
SELECT DISTINCT r.rolname::pg_catalog.text
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) ANY (p.polroles)
WHERE p.polpermissive AND pg_catalog.pg_get_expr(p.polqual, p.polrelid) OPERATOR(pg_catalog.=) 'true'
	AND pg_catalog.pg_has_role(current_user, r.oid, 'USAGE')`

// adminLogin returns the option for a database to which clients of Bypass log in through a pool of their own, and none without one. These
// roles are known there alone: the configuration names a pool.
func adminLogin(ctx context.Context, admin *sql.DB) (options []check.Option, err error) {
	if admin == nil {
		return nil, nil
	}
	rows, err := admin.QueryContext(ctx, adminRolesSQL)
	if err != nil {
		return nil, fmt.Errorf("ask AdminDB about its roles: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var roles []string
	for rows.Next() {
		var role string
		if err := rows.Scan(&role); err != nil {
			return nil, err
		}
		roles = append(roles, role)
	}
	return []check.Option{check.AdminLogin(roles...)}, rows.Err()
}

// warn writes a record for each finding, and for what was not looked at.
func (p *Plugin) warn(ctx context.Context, log *slog.Logger, report check.Report) {
	for _, f := range report.Findings {
		log.WarnContext(ctx, "tenancy: hole in the isolation of the database",
			"code", string(f.Code), "severity", f.Severity.String(), "object", f.Object, "problem", f.Problem)
	}
	for _, unseen := range report.NotChecked {
		log.WarnContext(ctx, "tenancy: part of the database could not be checked", "problem", unseen)
	}
	if report.Tables == 0 {
		log.WarnContext(ctx, "tenancy: no table has the tenant column, so nothing was checked",
			"column", p.config.Column)
	}
}
