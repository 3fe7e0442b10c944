package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/rls"
)

// keyedByTenant makes a database with the tables of skew, whose primary keys hold the tenant, with so many partitions, or without any.
func (b *bench) keyedByTenant(ctx context.Context, rows, tenants, partitions int) (*skewDatabase, error) {
	inner, err := b.server.NewDatabase(ctx)
	if err != nil {
		return nil, err
	}
	d := &skewDatabase{rows: rows, count: tenants, app: inner.App.DSN, inner: inner}
	if d.super, err = withDSN(b.server.DSN(), func(u *url.URL) { u.Path = inner.Name }); err != nil {
		return nil, err
	}
	isolation := rls.Isolation{AppRole: inner.App.Role, TenantKeys: true}
	if partitions > 0 {
		isolation.Partition = []rls.Partitioned{{Model: &Note{}, Hash: partitions}, {Model: &Comment{}, Hash: partitions}}
	}
	fmt.Fprintf(os.Stderr, "bench:        %d partitions: %s rows of each table\n", partitions, number(float64(rows)))
	err = onDatabase(inner.Owner.DSN, func(owner *gorm.DB) error {
		_, err := isolation.Migrate(ctx, owner, &Note{}, &Comment{})
		return err
	})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "bench:        filled in %v\n", time.Since(began).Round(time.Second))
	return d, onDatabase(d.super, func(super *gorm.DB) error { return d.find(ctx, super) })
}

// load inserts the rows as a superuser, which no policy binds, and whose references hold without being verified.
func (d *skewDatabase) load(ctx context.Context) error {
	errs := make(chan error, len(skewInserts))
	for n, insert := range skewInserts {
		table := []string{"notes", "comments"}[n]
		go func() {
			errs <- onDatabase(d.super, func(super *gorm.DB) error {
				return super.WithContext(ctx).Connection(func(db *gorm.DB) error {
					return execute(ctx, db, "SET session_replication_role = replica",
						fmt.Sprintf(`DO $$ DECLARE leaf regclass; BEGIN
							FOR leaf IN SELECT relid FROM pg_partition_tree('%s') WHERE isleaf LOOP
								EXECUTE format('ALTER TABLE %%s SET (autovacuum_enabled = off)', leaf);
							END LOOP;
						END $$`, table),
						fmt.Sprintf(insert, d.rows, d.count),
						fmt.Sprintf("SELECT setval('%s_id_seq', %d)", table, d.rows),
						"VACUUM ANALYZE "+table)
				})
			})
		}()
	}
	return errors.Join(<-errs, <-errs)
}

// onDatabase runs f with GORM, on a pool of its own.
func onDatabase(dsn string, f func(db *gorm.DB) error) (err error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	return f(db)
}
