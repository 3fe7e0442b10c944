// Package tenancy is a GORM plugin that isolates tenants with PostgreSQL's row-level security.
//
// Every statement that GORM sends runs in a PostgreSQL transaction in which the setting app.tenant_id names the tenant
// of the statement's context, or it does not run. Policies on the tables decide what is visible. It adds no network
// round trip: the setting and the statement travel together.
//
//	db, err := gorm.Open(postgres.Open(dsn)) // as the application's role
//	err = db.Use(tenancy.New(tenancy.Config{}))
//
//	ctx = tenancy.WithTenant(ctx, "acme")
//	db.WithContext(ctx).Create(&Patient{Name: "Ann"}) // tenant_id is filled in
//	db.WithContext(ctx).Find(&patients)               // acme's rows only
//
// Package rls makes the policies, with rls.Isolation.Migrate. Package rls/check finds holes in a database, with rls.Isolation.Check.
//
// # Models
//
// A model belongs to a tenant when it has the tenant column, which is tenant_id unless Config.Column gives it another
// name. The plugin fills the column in when rows are created, and accepts no other value than the context's tenant.
// The table of a model without the column that refers to such a table belongs to the same tenant: Migrate gives it the column, and the
// model stays as it is. All other models are shared by all tenants, and so are those that say so: a [SharedModel], an [OwnRowsModel] or
// a [WritableModel].
//
// The first time a table is used the plugin asks PostgreSQL whether its policies apply to the role in use, and refuses
// the table if not: [ErrNotIsolated] says why. It does not ask about a table that only raw SQL or a subquery names;
// [Config].Check looks at all tables.
//
// # Contexts
//
// A statement needs a context that [WithTenant] or [WithoutTenant] has made. Otherwise it returns [ErrNoTenant], and
// nothing is sent. A transaction belongs to the tenant it was begun for, or else to the first tenant that a statement in
// it names. From then on a context may leave the tenant out, and another tenant's context is [ErrTenantMismatch].
//
// # Work across tenants
//
// [ForEachTenant] works for one tenant after the other, without any privilege. [Bypass] returns a client that sees the
// rows of all tenants, under a role of its own; each of its statements is reported.
package tenancy
