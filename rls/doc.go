// Package rls is the database's side of tenant isolation: it makes PostgreSQL's row-level security from GORM models.
//
//	iso := rls.Isolation{AppRole: "app", AdminRole: "app_admin"}
//	result, err := iso.Migrate(ctx, owner, &Patient{}, &Invoice{}) // owner is a *gorm.DB of the role that owns the tables
//
// SQL writes the same as a script, for goose, golang-migrate or Atlas. Tables that have many rows need not be locked
// while their indexes are created: see Migrate, and IndexSQL for the script.
//
// A table belongs to tenants when its model, or the table itself, has the tenant column; and when it refers to such a table, which
// makes it a child table. A join table belongs to tenants as soon as one of the models that it joins does. All other tables are
// shared, and so are those whose models say so by a method:
//
//	func (Plan) TenantShared()             {} // every tenant reads it, none writes it; so is a model without a method
//	func (Membership) TenantOwnRows()      {} // every tenant reads it, and writes rows of its own
//	func (Hit) DangerouslyTenantWritable() {} // every tenant reads and writes it
//
// What is unique in a tenant table is unique within each tenant, and foreign keys between tenant tables have the tenant
// column on both sides. So an upsert must name this column. The plugin of package tenancy adds it where a tag of the model
// makes the columns of clause.OnConflict unique. In raw SQL, and without the plugin, write it yourself:
//
//	INSERT INTO patients (email, name) VALUES ($1, $2) ON CONFLICT (tenant_id, email) DO UPDATE SET name = excluded.name
//
// The policies compare the tenant column with a PostgreSQL setting, and hide every row while that setting is empty. The
// application sets it in each transaction: package tenancy does so for GORM.
//
// Package rls/check looks for holes in the live catalog of a database, however it was made, and says by what SQL to fix each.
package rls
