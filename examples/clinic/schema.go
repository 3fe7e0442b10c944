package main

import (
	"context"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// isolation lets the lookup role find the clinics, and the clinics of a user, before the request has a tenant. Of the other tenant
// tables it reads nothing.
func isolation(database *pgserver.Database) rls.Isolation {
	return rls.Isolation{
		AppRole:    database.App.Role,
		AdminRole:  database.Admin.Role,
		LookupRole: database.Lookup.Role,
		Lookups: []rls.Lookup{
			{Model: &Clinic{}, Columns: []string{"id", "name", "town"}},
			{Model: &Membership{}, Columns: []string{"user_id", "tenant_id"}},
		},
	}
}

// migrate creates the schema as the owner of the tables: GORM's tables, PostgreSQL's policies on the tenant tables, clinics and
// memberships that only the admin changes, and an audit trail that the admin only adds to.
func migrate(ctx context.Context, owner *gorm.DB, database *pgserver.Database) error {
	if _, err := isolation(database).Migrate(ctx, owner, models()...); err != nil {
		return err
	}
	for _, sql := range []string{
		"REVOKE INSERT, UPDATE, DELETE ON clinics, memberships FROM " + database.App.Role,
		"REVOKE UPDATE, DELETE ON audit_entries FROM " + database.Admin.Role,
	} {
		if err := owner.WithContext(ctx).Exec(sql).Error; err != nil {
			return err
		}
	}
	return nil
}
