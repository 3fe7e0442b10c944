// Casbin: each tenant has its own permissions, in one table that the adapter of casbin reads and writes.
//
//	go run ./examples/casbin
package main

import (
	"context"
	"slices"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// Rule is the adapter's table with a tenant column. Migrate adds the tenant to its unique index. The index has the name that
// the adapter expects, so that the adapter does not create another one.
type Rule struct {
	ID       uint   `gorm:"primaryKey;autoIncrement"`
	TenantID string `gorm:"not null"`
	Ptype    string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V0       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V1       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V2       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V3       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V4       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
	V5       string `gorm:"size:100;uniqueIndex:idx_casbin_rule"`
}

// TableName returns the name of the adapter's table.
func (Rule) TableName() string { return "casbin_rule" }

// companies are the tenants. A real application has a table of them.
type companies []string

func (c companies) Tenant(_ context.Context, name string) (string, error) {
	if !slices.Contains(c, name) {
		return "", tenanthttp.ErrUnknownTenant
	}
	return name, nil
}

func main() { demo.Main(open) }

func open(ctx context.Context, database *pgserver.Database) (demo.App, error) {
	if err := migrate(ctx, database); err != nil {
		return demo.App{}, err
	}
	db, err := demo.Connect(database.App.DSN)
	if err != nil {
		return demo.App{}, err
	}
	if err := db.Use(tenancy.New(tenancy.Config{})); err != nil {
		return demo.App{}, err
	}
	app := handler(&enforcers{db: db}, companies{"acme", "globex"})
	return demo.App{Handler: app, Close: func() error { return demo.Disconnect(db) }, Try: try}, nil
}

func migrate(ctx context.Context, database *pgserver.Database) error {
	db, err := demo.Connect(database.Owner.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = demo.Disconnect(db) }()
	_, err = rls.Isolation{AppRole: database.App.Role}.Migrate(ctx, db, &Rule{})
	return err
}

const try = `
Try, in another terminal:

  curl -s http://acme.localhost:PORT/rules -d '{"user":"ann","object":"invoices","action":"read"}'
  curl -s 'http://acme.localhost:PORT/allowed?user=ann&object=invoices&action=read'
  curl -s 'http://globex.localhost:PORT/allowed?user=ann&object=invoices&action=read'
`
