package tenancy

import (
	"context"
	"fmt"

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

// checkDatabase looks for holes in the database, as Config.Check says. The catalog is read in one transaction, for no
// tenant, under the role of every statement.
func (p *Plugin) checkDatabase(db *gorm.DB) error {
	if p.config.Check == CheckOff {
		return nil
	}
	ctx := guard.InTenantRole(db.Statement.Context)
	isolation := rls.Isolation{
		Setting: p.config.Setting, Column: p.config.Column, AppRole: p.config.AppRole, AdminRole: p.config.AdminRole,
		ReadOnlyRole: p.config.ReadOnlyRole, LookupRole: p.config.LookupRole,
		Signed: p.signer != nil, DangerouslyAcceptUnsigned: p.config.DangerouslyAcceptUnsigned,
	}
	report, err := isolation.Check(ctx, db, append([]check.Option{check.Login("")}, p.config.CheckOptions...)...)
	switch {
	case err != nil && p.config.Check == CheckRefuse:
		return fmt.Errorf("tenancy: check the database: %w", err)
	case err != nil:
		p.config.Logger.WarnContext(ctx, "tenancy: the database could not be checked", "error", err)
		return nil
	}
	p.warn(ctx, report)
	if p.config.Check == CheckRefuse && !report.OK() {
		return fmt.Errorf("%w: %w", ErrUnsafeDatabase, report.Err())
	}
	return nil
}

// warn writes a record for each finding, and for what was not looked at.
func (p *Plugin) warn(ctx context.Context, report check.Report) {
	for _, f := range report.Findings {
		p.config.Logger.WarnContext(ctx, "tenancy: hole in the isolation of the database",
			"code", string(f.Code), "severity", f.Severity.String(), "object", f.Object, "problem", f.Problem)
	}
	for _, unseen := range report.NotChecked {
		p.config.Logger.WarnContext(ctx, "tenancy: part of the database could not be checked", "problem", unseen)
	}
	if report.Tables == 0 {
		p.config.Logger.WarnContext(ctx, "tenancy: no table has the tenant column, so nothing was checked",
			"column", p.config.Column)
	}
}
