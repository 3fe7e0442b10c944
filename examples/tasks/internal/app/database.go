package app

import (
	"context"
	"slices"
	"time"

	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/privacy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/webhooks"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenancyriver"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// models are those of all packages.
func models() []any {
	return slices.Concat(model.All(), featureModels(), webhooks.Models(), privacy.Models())
}

// isolation keeps the tenants apart. The lookup role finds whose an API key is, and reads nothing else.
func isolation(cfg Config) rls.Isolation {
	return rls.Isolation{
		AppRole: cfg.App.Role, AdminRole: cfg.Admin, LookupRole: cfg.Lookup,
		Lookups: []rls.Lookup{apikey.Lookup()},
		Audits:  slices.Concat(model.Audits(), privacy.Audits()),
	}
}

// jobIsolation keeps the jobs of tenants apart.
func jobIsolation(cfg Config) tenancyriver.Isolation {
	return tenancyriver.Isolation{AppRole: cfg.App.Role, WorkerRole: cfg.Worker.Role, AdminRole: cfg.Admin}
}

// migrate makes the tables, as their owner. A second time changes nothing.
func migrate(ctx context.Context, cfg Config) error {
	owner, err := connect(cfg.Owner.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = disconnect(owner) }()
	owner = owner.WithContext(ctx)
	if _, err := isolation(cfg).Migrate(ctx, owner, models()...); err != nil {
		return err
	}
	// A tenant makes its row when it signs up, and neither changes nor deletes it.
	if err := owner.Exec("REVOKE UPDATE, DELETE ON tenants FROM " + cfg.App.Role).Error; err != nil {
		return err
	}
	if _, err := isolation(cfg).MaintainAudit(ctx, owner, rls.Retention{Keep: 24}); err != nil {
		return err
	}
	pool, err := owner.DB()
	if err != nil {
		return err
	}
	river, err := rivermigrate.New(riverdatabasesql.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	return jobIsolation(cfg).Migrate(ctx, pool)
}

// plugin says how the plugin isolates.
func plugin(cfg Config) tenancy.Config {
	return tenancy.Config{
		AdminRole: cfg.Admin, LookupRole: cfg.Lookup, Logger: cfg.Log,
		OnBypass: cfg.telemetry.OnBypass, OnRefuse: cfg.telemetry.OnRefuse,
	}
}

// open connects as the application, with the plugin.
func open(ctx context.Context, cfg Config) (*gorm.DB, error) {
	db, err := connect(cfg.App.DSN)
	if err != nil {
		return nil, err
	}
	if err := db.WithContext(ctx).Use(tenancy.New(plugin(cfg))); err != nil {
		return db, err
	}
	return db, db.Use(cfg.telemetry.GORM())
}

// connect opens a pool. It logs nothing, because GORM's logger writes statements with their values.
func connect(dsn string) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{
		Logger:                   logger.Discard,
		TranslateError:           true,
		NowFunc:                  func() time.Time { return time.Now().Truncate(time.Microsecond) }, // as PostgreSQL keeps it
		DisableNestedTransaction: true,                                                              // API.Tx joins the transaction of a request with an Idempotency-Key
	})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(10)
	pool.SetMaxIdleConns(10)
	return db, nil
}

func disconnect(db *gorm.DB) error {
	if db == nil {
		return nil
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}
