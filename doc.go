// Package tenancy is a plugin for GORM that isolates tenants with PostgreSQL's row-level security.
//
// Every statement that GORM sends runs in a PostgreSQL transaction in which the setting app.tenant_id names the tenant
// of the statement's context, or it does not run. Policies on the tables decide what is visible. It costs no network
// round trip: setting and statement travel together.
//
//	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{})
//	err = db.Use(tenancy.New(tenancy.Config{AdminRole: "app_admin"}))
//
//	ctx = tenancy.WithTenant(ctx, "acme")
//	db.WithContext(ctx).Create(&Patient{Name: "Ann"}) // tenant_id is filled in
//	db.WithContext(ctx).Find(&patients)               // acme's rows only
//
// # Models
//
// A model is a tenant's when it has the tenant column, tenant_id unless Config.Column says otherwise. The column is
// filled in when rows are created, and can be set to nothing but the context's tenant. Other models are shared by all
// tenants, and so are those that have the column and are a [SharedModel].
//
// The policies are made by rls.Isolation, or by hand. The first time a table is used the plugin asks PostgreSQL whether
// they apply to the role in use, and refuses the table if not: [ErrNotIsolated] says why. A table that only raw SQL or a
// subquery names is not asked about; [Config].Check looks at all.
//
// # Contexts
//
// A statement needs a context that [WithTenant] or [WithoutTenant] has made; else the answer is [ErrNoTenant], and
// nothing is sent. A transaction belongs to the tenant it was begun for, or else to the first that a statement in it names: from
// then on a context may leave the tenant out, and another tenant's is [ErrTenantMismatch].
//
// # Work across tenants
//
// [ForEachTenant] works on one tenant after the other, without any privilege. [Bypass] gives a client that sees
// everything, in a role of its own; each of its statements is reported.
package tenancy
