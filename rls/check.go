package rls

import (
	"context"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/check"
)

// Check looks for holes in the isolation of a database, however it was made: see check.Run.
//
// It also finds tables of Audits whose changes are not recorded.
func (i Isolation) Check(ctx context.Context, db *gorm.DB, opts ...check.Option) (check.Report, error) {
	for _, a := range i.Audits {
		opts = append(opts, check.Audited(a.Model))
	}
	return check.Run(ctx, db, check.Config{
		Setting: i.Setting, Column: i.Column,
		AppRole: i.AppRole, AdminRole: i.AdminRole, ReadOnlyRole: i.ReadOnlyRole, LookupRole: i.LookupRole, BackupRole: i.BackupRole,
		Signed: i.Signed, DangerouslyAcceptUnsigned: i.DangerouslyAcceptUnsigned,
	}, opts...)
}
