// Package rls is the database's side of tenant isolation: it makes PostgreSQL's row-level security from GORM models.
//
//	iso := rls.Isolation{AppRole: "app", AdminRole: "app_admin"}
//	changes, err := iso.Migrate(ctx, ownerDB, &Patient{}, &Invoice{})
//
// A table is a tenant's when its model, or the table itself, has the tenant column. A model that has the column and is
// shared by all tenants nevertheless says so with a method TenantShared(). A join table belongs to a tenant as soon as one of
// the models it joins does.
//
// The policies compare the tenant column with a PostgreSQL setting, and hide every row while that setting is empty. The
// application sets it in each transaction: package tenancy does so for GORM.
package rls
