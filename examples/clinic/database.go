package main

import (
	"log/slog"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/meter"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls/check"
)

// open connects as the application, with at most conns connections. The plugin isolates the clinics: the rest of this program
// does nothing for it. It refuses to start if the check finds a hole in the database.
func open(database *pgserver.Database, conns int) (*gorm.DB, error) {
	db, err := openPlain(database.App.DSN, conns)
	if err != nil {
		return nil, err
	}
	return db, db.Use(tenancy.New(tenancy.Config{
		AdminRole:  database.Admin.Role,
		LookupRole: database.Lookup.Role,
		OnBypass:   record,
		Check:      tenancy.CheckRefuse, CheckOptions: []check.Option{check.Models(models()...)},
		Logger: slog.New(slog.DiscardHandler), // bypasses are in the audit trail
	}))
}

// openPlain connects without the plugin, with a pool that counts statements and round trips.
func openPlain(dsn string, conns int) (*gorm.DB, error) {
	pool, err := meter.Open(dsn)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	// GORM's logger would write statements with their values.
	return gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
}
