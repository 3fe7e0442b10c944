// Audit: who has changed which rows of a tenant, as the tenant reads it.
//
//	go run ./examples/audit
//
// It starts a PostgreSQL by itself, or uses the server that TENANCY_DSN names.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// Invoice belongs to a tenant, and is audited.
type Invoice struct {
	ID       int64
	TenantID string
	Total    int64
	Card     string
}

func main() {
	ctx := context.Background()
	server, err := pgserver.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	database, err := server.NewDatabase(ctx)
	if err == nil {
		err = run(ctx, database, os.Stdout)
	}
	if closing := server.Close(); err == nil {
		err = closing
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run changes rows in four ways, and prints what each tenant reads of it.
func run(ctx context.Context, database *pgserver.Database, out io.Writer) error {
	if err := migrate(ctx, database); err != nil {
		return err
	}
	db, err := gorm.Open(postgres.Open(database.App.DSN), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	defer func() { _ = demo.Disconnect(db) }()
	if err := db.Use(tenancy.New(tenancy.Config{AdminRole: database.Admin.Role})); err != nil {
		return err
	}
	acme := tenancy.WithTenant(ctx, "acme")
	ann := tenancy.WithRequestID(tenancy.WithActor(acme, "ann"), "req-1")
	invoices := []Invoice{{ID: 1, Total: 100, Card: "4111"}, {ID: 2, Total: 200, Card: "4222"}}
	if err := db.WithContext(ann).Create(&invoices).Error; err != nil {
		return err
	}
	bob := tenancy.WithActor(acme, "bob")
	if err := db.WithContext(bob).Model(&Invoice{}).Where("total > ?", 0).Update("total", gorm.Expr("total + 1")).Error; err != nil {
		return err
	}
	if err := db.WithContext(bob).Exec("UPDATE invoices SET card = '4333' WHERE id = 1").Error; err != nil {
		return err
	}
	if err := tenancy.Bypass(db, "remove paid invoices").WithContext(ctx).Where("id = ?", 2).Delete(&Invoice{}).Error; err != nil {
		return err
	}
	for _, tenant := range []string{"acme", "globex"} {
		if err := show(tenancy.WithTenant(ctx, tenant), db, tenant, out); err != nil {
			return err
		}
	}
	return nil
}

// migrate has the changes of invoices recorded, without the numbers of cards.
func migrate(ctx context.Context, database *pgserver.Database) error {
	owner, err := gorm.Open(postgres.Open(database.Owner.DSN), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	defer func() { _ = demo.Disconnect(owner) }()
	isolation := rls.Isolation{
		AppRole: database.App.Role, AdminRole: database.Admin.Role,
		Audits: []rls.Audit{{Model: &Invoice{}, Mask: []string{"card"}}},
	}
	if _, err := isolation.Migrate(ctx, owner, &Invoice{}); err != nil {
		return err
	}
	_, err = isolation.MaintainAudit(ctx, owner, rls.Retention{Keep: 24})
	return err
}

func show(ctx context.Context, db *gorm.DB, tenant string, out io.Writer) error {
	var records []rls.AuditRecord
	if err := db.WithContext(ctx).Order("id").Find(&records).Error; err != nil {
		return err
	}
	fmt.Fprintf(out, "%s reads %d records\n", tenant, len(records))
	for _, r := range records {
		fmt.Fprintf(out, "  %s %s %s: %s -> %s, by %s\n", r.Operation, r.Table, r.Key,
			or(string(r.Before)), or(string(r.After)), cmp.Or(text(r.Actor), text(r.Reason)))
	}
	return nil
}

func or(row string) string { return cmp.Or(row, "nothing") }

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
