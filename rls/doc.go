// Package rls is the database's side of tenant isolation: it makes PostgreSQL's row-level security from GORM models,
// and checks any database for holes in it.
//
//	iso := rls.Isolation{AppRole: "app", AdminRole: "app_admin"}
//	changes, err := iso.Migrate(ctx, ownerDB, &Patient{}, &Invoice{})
//
// SQL writes the same as a script, for who migrates with goose, golang-migrate or Atlas. Tables that have many rows already
// need not be locked while they get their indexes: see ConcurrentIndexes, and IndexSQL for the script.
//
// A table is a tenant's when its model, or the table itself, has the tenant column. A model that has the column and is
// shared by all tenants nevertheless says so with a method TenantShared(). A join table belongs to a tenant as soon as one of
// the models it joins does.
//
// What is unique in a tenant's table is unique within each tenant, and foreign keys between tenants' tables have the tenant
// column on both sides. So an upsert must name this column. The plugin of package tenancy adds it where a tag of the model makes
// the columns of clause.OnConflict unique; in raw SQL, and without the plugin, it is yours to write:
//
//	INSERT INTO patients (email, name) VALUES ($1, $2) ON CONFLICT (tenant_id, email) DO UPDATE SET name = excluded.name
//
// The policies compare the tenant column with a PostgreSQL setting, and hide every row while that setting is empty. The
// application sets it in each transaction: package tenancy does so for GORM.
//
// Check proves it of a database that is there already, whoever made it: it finds the holes in the live catalog, and says
// what SQL mends each.
//
//	report, err := iso.Check(ctx, db)
//	fmt.Print(report.SQL())
package rls
