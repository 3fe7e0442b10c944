// Schools: wizarding schools in one database, each at its own subdomain.
//
//	go run ./examples/schools
package main

import (
	"context"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// School is a tenant. The table is shared, as it has no tenant column, and the application only reads it.
type School struct {
	ID   int64
	Slug string `gorm:"not null;uniqueIndex"` // its subdomain
	Name string `gorm:"not null"`
}

// Student belongs to a school: the table has the column tenant_id, here with a foreign key to schools.
type Student struct {
	ID       int64   `json:"id"`
	TenantID int64   `json:"-" gorm:"not null"`
	School   *School `json:"-" gorm:"foreignKey:TenantID"`
	Name     string  `json:"name" gorm:"not null"`
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
	return demo.App{Handler: handler(db), Close: func() error { return demo.Disconnect(db) }, Try: try}, nil
}

// migrate creates tables, policies and schools as the owner. Migrate lets the application only read the schools.
func migrate(ctx context.Context, database *pgserver.Database) error {
	db, err := demo.Connect(database.Owner.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = demo.Disconnect(db) }()
	isolation := rls.Isolation{AppRole: database.App.Role}
	if _, err := isolation.Migrate(ctx, db, &School{}, &Student{}); err != nil {
		return err
	}
	return db.WithContext(ctx).Create([]School{
		{Slug: "hogwarts", Name: "Hogwarts School of Witchcraft and Wizardry"},
		{Slug: "castelobruxo", Name: "Castelobruxo"},
		{Slug: "beauxbatons", Name: "Académie de Magie Beauxbâtons"},
	}).Error
}

const try = `
Try, in another terminal:

  curl -s http://hogwarts.localhost:PORT/students -d '{"name":"Harry Potter"}'
  curl -s http://castelobruxo.localhost:PORT/students -d '{"name":"Yara Souza"}'
  curl -s http://hogwarts.localhost:PORT/students
  curl -s http://castelobruxo.localhost:PORT/students
  curl -s http://durmstrang.localhost:PORT/students
`
