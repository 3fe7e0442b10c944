package main

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/meter"
	"github.com/gormtenancy/tenancy/examples/internal/passwords"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// connect opens a pool that counts round trips, for the log.
func connect(dsn string) (*gorm.DB, error) {
	pool, err := meter.Open(dsn)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(10)
	pool.SetMaxIdleConns(10)
	return gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{
		Logger:         logger.Discard, // it would log values
		TranslateError: true,
	})
}

// openDatabase makes the schema as the owner, and returns the application's connection.
func openDatabase(ctx context.Context, database *pgserver.Database, p *passwords.Hasher) (*gorm.DB, error) {
	owner, err := connect(database.Owner.DSN)
	if err != nil {
		return nil, err
	}
	defer func() { _ = demo.Disconnect(owner) }()
	owner = owner.WithContext(ctx)
	if err := migrate(ctx, owner, database); err != nil {
		return nil, err
	}
	db, err := connect(database.App.DSN)
	if err != nil {
		return nil, err
	}
	if err := db.Use(tenancy.New(tenancy.Config{LookupRole: database.Lookup.Role})); err != nil {
		return nil, err
	}
	return db, seed(ctx, owner, db, p)
}

// isolation lets the lookup role find the tenant of a request: by subdomain, by domain, by API key, and the memberships of a user.
// It reads these columns only, for example no hash of a key. Tenants see their own rows only.
func isolation(database *pgserver.Database) rls.Isolation {
	return rls.Isolation{
		AppRole:    database.App.Role,
		LookupRole: database.Lookup.Role,
		Lookups: []rls.Lookup{
			{Model: &Tenant{}, Columns: []string{"id", "slug"}},
			{Model: &Domain{}, Columns: []string{"name", "tenant_id"}},
			apikey.Lookup(),
			{Model: &Membership{}, Columns: []string{"user_id", "tenant_id", "role"}},
		},
	}
}

// models are the models to migrate, in an order that allows foreign keys.
func models() []any {
	return []any{&Tenant{}, &User{}, &Membership{}, &DomainClaim{}, &Domain{}, &APIKey{}, &Project{}, &Task{}}
}

func migrate(ctx context.Context, owner *gorm.DB, database *pgserver.Database) error {
	if _, err := isolation(database).Migrate(ctx, owner, models()...); err != nil {
		return err
	}
	app := database.App.Role
	for _, sql := range []string{
		"REVOKE INSERT, UPDATE, DELETE ON tenants FROM " + app,
		"REVOKE INSERT, UPDATE ON memberships FROM " + app,
		"REVOKE UPDATE, DELETE ON domains FROM " + app,
		// A verified domain belongs to the tenant that has claimed it, and is deleted with the claim.
		`ALTER TABLE domains ADD FOREIGN KEY (tenant_id, claim_id)
			REFERENCES domain_claims (tenant_id, id) ON DELETE CASCADE`,
	} {
		if err := owner.Exec(sql).Error; err != nil {
			return err
		}
	}
	return nil
}

// members are the members of the tenants that seed makes. Zoe works for both.
var members = []struct{ email, slug, role string }{
	{"ann@acme.example", "acme", "admin"},
	{"bob@acme.example", "acme", "member"},
	{"eve@globex.example", "globex", "admin"},
	{"zoe@example.com", "acme", "member"},
	{"zoe@example.com", "globex", "member"},
}

// ownerAs runs f as the owner, for a tenant: policies bind the owner as well, and the application may not write all tables.
func ownerAs(owner *gorm.DB, tenant string, f func(tx *gorm.DB) error) error {
	return owner.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("SELECT set_config('app.tenant_id', ?, true)", tenant).Error; err != nil {
			return err
		}
		return f(tx)
	})
}

// seed makes two tenants and their users as the owner, and the projects as each tenant.
func seed(ctx context.Context, owner, db *gorm.DB, p *passwords.Hasher) error {
	tenants, users := map[string]string{}, map[string]string{}
	for _, slug := range []string{"acme", "globex"} {
		tenant := Tenant{Slug: slug}
		if err := owner.Raw("SELECT gen_random_uuid()").Scan(&tenant.ID).Error; err != nil {
			return err
		}
		if err := ownerAs(owner, tenant.ID, func(tx *gorm.DB) error { return tx.Create(&tenant).Error }); err != nil {
			return err
		}
		tenants[slug] = tenant.ID
		projects := make([]Project, 5)
		for i := range projects {
			projects[i].Name = fmt.Sprintf("%s project %d", strings.ToUpper(slug[:1])+slug[1:], i+1)
			projects[i].Tasks = []Task{{Title: "Begin"}, {Title: "Go on"}, {Title: "Finish"}}
		}
		if err := db.WithContext(tenancy.WithTenant(ctx, tenant.ID)).Create(projects).Error; err != nil {
			return err
		}
	}
	for _, m := range members {
		if users[m.email] == "" {
			user := User{Email: m.email, PasswordHash: p.Hash("open sesame")}
			if err := owner.Create(&user).Error; err != nil {
				return err
			}
			users[m.email] = user.ID
		}
		membership := Membership{UserID: users[m.email], TenantID: tenants[m.slug], Role: m.role}
		err := ownerAs(owner, membership.TenantID, func(tx *gorm.DB) error { return tx.Create(&membership).Error })
		if err != nil {
			return err
		}
	}
	return nil
}
