package main

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
)

// migrate creates the schema as the owner of the tables: GORM's tables, PostgreSQL's policies on the tenant tables, and an
// audit trail that the application cannot change.
func migrate(ctx context.Context, owner *gorm.DB, appRole, adminRole string) error {
	isolation := rls.Isolation{AppRole: appRole, AdminRole: adminRole}
	if _, err := isolation.Migrate(ctx, owner, models()...); err != nil {
		return err
	}
	for _, role := range []string{appRole, adminRole} {
		revoke := fmt.Sprintf("REVOKE UPDATE, DELETE ON audit_entries FROM %s", owner.Statement.Quote(role))
		if err := owner.WithContext(ctx).Exec(revoke).Error; err != nil {
			return err
		}
	}
	return nil
}
