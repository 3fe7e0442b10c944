// Clinic: a web application for six clinics in one database, with sign-in, sessions, and an administrator who sees all.
//
//	go run ./examples/clinic
//
// It starts a PostgreSQL by itself, or uses the one that TENANCY_DSN names, fills it, and prints how to sign in.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/passwords"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

const try = `
Open http://localhost:PORT in a browser, and sign in as

  clinic 3, noor@cove.example, clinic3-user2      a nurse who works for three clinics
  no clinic, admin@daybook.example, head-office   the administrator, who sees all clinics

The sign-in page lists all accounts.`

func main() {
	secure := flag.Bool("secure", false, "send cookies over HTTPS only: for a proxy in front that ends HTTPS")
	conns := flag.Int("conns", 10, "the largest `number` of connections to PostgreSQL")
	demo.Main(func(ctx context.Context, database *pgserver.Database) (demo.App, error) {
		hasher := passwords.New()
		db, err := prepare(ctx, database, *conns, hasher)
		if err != nil {
			return demo.App{}, err
		}
		app, err := newApp(config{DB: db, Secure: *secure, Passwords: hasher, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		if err != nil {
			return demo.App{}, err
		}
		return demo.App{Handler: app, Close: func() error { return demo.Disconnect(db) }, Try: try}, nil
	})
}

// prepare migrates and fills an empty database, and returns the application's client.
func prepare(ctx context.Context, database *pgserver.Database, conns int, hasher *passwords.Hasher) (*gorm.DB, error) {
	owner, err := openPlain(database.Owner.DSN, 1)
	if err != nil {
		return nil, err
	}
	err = migrate(ctx, owner, database)
	if err := demo.Disconnect(owner); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	db, err := open(database, conns)
	if err != nil {
		return nil, err
	}
	return db, seed(ctx, db, time.Now(), hasher)
}
