package lifecycle_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Customer is a person.
type Customer struct {
	ID       int64
	TenantID string
	Email    string `gorm:"uniqueIndex"`
	Name     string
}

// Receipt must be kept, by law.
type Receipt struct {
	ID         int64
	TenantID   string
	CustomerID int64
	Customer   Customer
}

// Visit is deleted.
type Visit struct {
	ID         int64
	TenantID   string
	CustomerID int64
	Customer   Customer
	Address    string
}

// A person asks for what a shop has of them, and to be forgotten.
func ExampleSubjects() {
	ctx := context.Background()
	database, owner, end := shop(ctx)
	defer end()

	subjects := lifecycle.Subjects{
		Tenants: lifecycle.Tenants{DB: owner, Actor: "alice@example.com", Logger: testdb.Quiet},
		Request: "DSR-17",
		Holdings: []lifecycle.Holding{
			{Model: &Customer{}, Link: lifecycle.Key("email"), Erasure: lifecycle.Anonymise(map[string]lifecycle.Value{
				"email": lifecycle.Unique(func(id string) string { return id + "@erased.invalid" }),
				"name":  lifecycle.Fixed("erased"),
			})},
			{Model: &Receipt{}, Link: lifecycle.Reference("customer_id"), Erasure: lifecycle.Retain("tax law, ten years", time.Time{})},
			{Model: &Visit{}, Link: lifecycle.Reference("customer_id"), Erasure: lifecycle.Delete()},
		},
	}
	var file bytes.Buffer
	manifest, err := subjects.Export(ctx, "acme", "bob@example.com", &file)
	check(err)
	for _, t := range manifest.Tables {
		fmt.Println("exported", t.Name, t.Rows)
	}
	report, err := subjects.Erase(ctx, "acme", "bob@example.com")
	check(err) // a second call goes on
	for _, h := range report.Holdings {
		fmt.Printf("%s %s %d %q\n", h.Erasure, h.Table, h.Rows, h.Basis)
	}
	fmt.Println("another tenant's customer:", name(ctx, database, "globex"))
	// Output:
	// exported public.receipts 1
	// exported public.visits 2
	// exported public.customers 1
	// retain public.receipts 1 "tax law, ten years"
	// delete public.visits 2 ""
	// anonymise public.customers 1 ""
	// another tenant's customer: Bob
}

// shop makes a database in which two tenants know the same person.
func shop(ctx context.Context) (_ *pgserver.Database, _ *sql.DB, end func()) {
	server, err := pgserver.Start(ctx)
	check(err)
	database, err := server.NewDatabase(ctx)
	check(err)
	owner, err := sql.Open("pgx", database.Owner.DSN)
	check(err)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: owner}), &gorm.Config{Logger: logger.Discard})
	check(err)
	isolation := rls.Isolation{AppRole: database.App.Role, AdminRole: database.Admin.Role}
	_, err = isolation.Migrate(ctx, db, &Customer{}, &Receipt{}, &Visit{})
	check(err)
	for _, tenant := range []string{"acme", "globex"} {
		err := db.Transaction(func(tx *gorm.DB) error {
			bob := Customer{TenantID: tenant, Email: "bob@example.com", Name: "Bob"}
			if err := tx.Exec("SELECT set_config('app.tenant_id', ?, true)", tenant).Error; err != nil {
				return err
			}
			if err := tx.Create(&bob).Error; err != nil {
				return err
			}
			if err := tx.Create(&Receipt{TenantID: tenant, CustomerID: bob.ID}).Error; err != nil {
				return err
			}
			return tx.Create([]*Visit{{TenantID: tenant, CustomerID: bob.ID}, {TenantID: tenant, CustomerID: bob.ID}}).Error
		})
		check(err)
	}
	return database, owner, func() { _, _ = owner.Close(), server.Close() }
}

func name(ctx context.Context, database *pgserver.Database, tenant string) (name string) {
	admin, err := sql.Open("pgx", database.Admin.DSN)
	check(err)
	defer func() { _ = admin.Close() }()
	check(admin.QueryRowContext(ctx, "SELECT name FROM customers WHERE tenant_id = $1", tenant).Scan(&name))
	return name
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
