package main

import (
	"log/slog"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/meter"
	"github.com/gormtenancy/tenancy/rls/check"
)

// open connects as the application, with at most so many connections. The plugin is all that the rest of this program
// needs for the isolation of clinics; it refuses to start where the database has holes.
func open(dsn, adminRole string, conns int) (*gorm.DB, error) {
	db, err := openPlain(dsn, conns)
	if err != nil {
		return nil, err
	}
	return db, db.Use(tenancy.New(tenancy.Config{
		AdminRole: adminRole,
		OnBypass:  record,
		Check:     tenancy.CheckRefuse, CheckOptions: []check.Option{check.Models(models()...)},
		Logger: slog.New(slog.DiscardHandler), // the audit trail has it all
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
