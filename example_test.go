package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// One line of set-up, and each request works for its tenant.
func Example() {
	db, err := gorm.Open(postgres.Open(os.Getenv("DATABASE_URL")), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Use(tenancy.New(tenancy.Config{AdminRole: "app_admin"})); err != nil {
		log.Fatal(err)
	}

	ctx := tenancy.WithTenant(context.Background(), "acme")
	if err := db.WithContext(ctx).Create(&Patient{Name: "Ann"}).Error; err != nil {
		log.Fatal(err)
	}
	patients, err := gorm.G[Patient](db).Where("name LIKE ?", "A%").Find(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(patients), "of acme's patients")
}

// COPY is not part of database/sql. It needs pgx's connection, in place of a type assertion to *stdlib.Conn.
func ExampleWithPgxConn() {
	var db *gorm.DB // with the plugin

	load := func(ctx context.Context, rows [][]any) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		conn, err := pool.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		return tenancy.WithPgxConn(ctx, conn, func(c *pgx.Conn) error {
			_, err := c.CopyFrom(ctx, pgx.Identifier{"countries"}, []string{"code", "name"}, pgx.CopyFromRows(rows))
			return err
		})
	}
	err := load(tenancy.WithoutTenant(context.Background()), [][]any{{"NO", "Norway"}}) // a shared table
	if err != nil {
		log.Fatal(err)
	}
}

// The admin client sees the rows of all tenants. Each of its statements is reported with the reason.
func ExampleBypass() {
	var db *gorm.DB // with the plugin, and Config.AdminRole

	admin := tenancy.Bypass(db, "nightly invoicing", tenancy.BypassReadOnly())
	var perTenant []struct {
		TenantID string
		Patients int64
	}
	err := admin.Model(&Patient{}).Select("tenant_id, count(*) AS patients").Group("tenant_id").Find(&perTenant).Error
	if errors.Is(err, tenancy.ErrNoAdminRole) {
		log.Fatal(err) // it says which GRANT is missing
	}
}

// Each tenant gets a transaction of its own. What fails for one is rolled back, and harms no other.
func ExampleForEachTenant() {
	var db *gorm.DB // with the plugin
	ctx := context.Background()

	err := tenancy.ForEachTenant(ctx, db, []string{"acme", "globex"}, func(ctx context.Context, tx *gorm.DB) error {
		return tx.Where("created_at < ?", time.Now().AddDate(-10, 0, 0)).Delete(&Note{}).Error
	}, tenancy.Concurrency(4))

	var failed *tenancy.TenantError
	if errors.As(err, &failed) {
		log.Printf("%v", failed) // tells the index in the list; the id is failed.Tenant
	}
}

// A library that takes no context gets a client that names the tenant for it: an instance of the library for each tenant.
func ExampleDangerouslyBind() {
	var db *gorm.DB // with the plugin

	newStore := func(db *gorm.DB) func(key string) error { // a library's
		return func(key string) error {
			return db.WithContext(context.Background()).Delete(&Note{}, "text = ?", key).Error
		}
	}
	ctx := tenancy.WithTenant(context.Background(), "acme")
	acme := newStore(tenancy.DangerouslyBind(ctx, db))
	if err := acme("old"); err != nil {
		log.Fatal(err)
	}
}

// The id can be text, a number or a UUID. What is unset is no tenant.
func ExampleWithTenant() {
	ctx := tenancy.WithTenant(context.Background(), 42)
	fmt.Println(tenancy.TenantFromContext(ctx))

	ctx = tenancy.WithTenant(ctx, UUID{0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30, 0xc8})
	fmt.Println(tenancy.TenantFromContext(ctx))

	ctx = tenancy.WithTenant(ctx, "")
	fmt.Println(tenancy.TenantFromContext(ctx))
	// Output:
	// 42 true
	// 6ba7b810-9dad-11d1-80b4-00c04fd430c8 true
	//  false
}

// Shared tables, such as one of countries, are read without a tenant.
func ExampleWithoutTenant() {
	var db *gorm.DB // with the plugin

	ctx := tenancy.WithoutTenant(context.Background())
	countries, err := gorm.G[Country](db).Find(ctx)
	fmt.Println(countries, err)
}

// Region is read by all tenants, although it has the tenant column, and written by none.
type Region struct {
	ID       int64
	TenantID string // of the tenant that has suggested it
}

// TenantShared says so.
func (Region) TenantShared() {}

// A model that has the tenant column and is read by all tenants says so with a method.
func ExampleSharedModel() {
	var _ tenancy.SharedModel = Region{}
}
