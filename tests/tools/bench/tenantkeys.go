package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// Record is a row of the table whose primary keys are compared. It has no index but those that Migrate makes.
type Record struct {
	ID       int64
	TenantID string
	Name     string
	Age      int
}

// tenantKeysOperations are run by a tenant with so many rows, the keys of which begin at first.
var tenantKeysOperations = []struct {
	name string
	run  func(db *gorm.DB, first int64, round int) error
}{
	{"First by key", func(db *gorm.DB, first int64, round int) error {
		return db.First(&Record{}, first+int64(round%50)).Error
	}},
	{"Find of a page of 20", func(db *gorm.DB, first int64, round int) error {
		var found []Record
		if err := db.Where("id > ?", first+int64(round%20)).Order("id").Limit(20).Find(&found).Error; err != nil {
			return err
		}
		return want(len(found), 20)
	}},
	{"Create", func(db *gorm.DB, _ int64, round int) error {
		return db.Create(&Record{Name: fmt.Sprint("new ", round)}).Error
	}},
}

// recordsOfTenant is how many rows each tenant has, one after the other.
const recordsOfTenant = 100

// measureTenantKeys compares primary keys (id) with primary keys (tenant_id, id), in rounds of the same operations, and writes tables of
// times and sizes.
func measureTenantKeys(ctx context.Context, out io.Writer, s settings) error {
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	rounds, tenants := 400, 10_000
	if s.quick {
		rounds, tenants = 40, 100
	}
	if s.samples > 0 {
		rounds = s.samples
	}
	var keyed [2]*keyedDatabase // (id), and (tenant_id, id)
	for n := range keyed {
		if keyed[n], err = newKeyedDatabase(ctx, server, n == 1, tenants); err != nil {
			return err
		}
		defer keyed[n].close()
	}
	fmt.Fprintf(out, "| operation | (id) | (tenant_id, id) | difference |\n|---|---|---|---|\n")
	for _, operation := range tenantKeysOperations {
		times, differences, err := tenantKeysRounds(ctx, keyed, operation.run, rounds, tenants)
		if err != nil {
			return fmt.Errorf("%s: %w", operation.name, err)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %.1f µs (%.1f to %.1f) |\n", operation.name, micros(median(times[0])).Round(time.Microsecond),
			micros(median(times[1])).Round(time.Microsecond), median(differences), quantile(differences, 0.25), quantile(differences, 0.75))
	}
	fmt.Fprintf(out, "\n| keys | rows | table | indexes | names |\n|---|---|---|---|---|\n")
	for n, name := range []string{"(id)", "(tenant_id, id)"} {
		if err := keyed[n].sizes(ctx, out, name); err != nil {
			return err
		}
	}
	return nil
}

// tenantKeysRounds returns the times of both databases, and their differences, in µs.
func tenantKeysRounds(
	ctx context.Context, keyed [2]*keyedDatabase, run func(*gorm.DB, int64, int) error, rounds, tenants int,
) (times [2][]float64, differences []float64, err error) {
	const warmUp = 10
	tenant := tenants / 2
	first := int64(1 + tenant*recordsOfTenant)
	ctx = tenancy.WithTenant(ctx, fmt.Sprint("tenant-", tenant))
	for round := range warmUp + rounds {
		var took [2]float64
		for i := range keyed {
			which := (i + round) % len(keyed) // neither is always the first
			started := time.Now()
			if err := run(keyed[which].app.WithContext(ctx), first, round); err != nil {
				return times, nil, err
			}
			took[which] = float64(time.Since(started).Nanoseconds()) / 1000
		}
		if round < warmUp {
			continue
		}
		times[0], times[1] = append(times[0], took[0]), append(times[1], took[1])
		differences = append(differences, took[1]-took[0])
	}
	return times, differences, nil
}

// keyedDatabase is a database with the table of records.
type keyedDatabase struct{ owner, app *gorm.DB }

func newKeyedDatabase(ctx context.Context, server *pgserver.Server, tenantKeys bool, tenants int) (d *keyedDatabase, err error) {
	inner, err := server.NewDatabase(ctx)
	if err != nil {
		return nil, err
	}
	d = &keyedDatabase{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.owner, err = gorm.Open(postgres.Open(inner.Owner.DSN), &gorm.Config{Logger: logger.Discard}); err != nil {
		return d, err
	}
	isolation := rls.Isolation{AppRole: inner.App.Role, AdminRole: inner.Admin.Role, TenantKeys: tenantKeys}
	if _, err = isolation.Migrate(ctx, d.owner, &Record{}); err != nil {
		return d, err
	}
	err = execute(ctx, d.owner, "ALTER TABLE records NO FORCE ROW LEVEL SECURITY",
		fmt.Sprintf("INSERT INTO records (tenant_id, name, age) SELECT 'tenant-' || n / %d, 'Record ' || n, n %% 100 FROM generate_series(0, %d) n",
			recordsOfTenant, tenants*recordsOfTenant-1),
		"ALTER TABLE records FORCE ROW LEVEL SECURITY", "VACUUM ANALYZE records", "ALTER TABLE records SET (autovacuum_enabled = off)")
	if err != nil {
		return d, err
	}
	if d.app, err = gorm.Open(postgres.Open(inner.App.DSN), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true}); err != nil {
		return d, err
	}
	return d, d.app.Use(tenancy.New(tenancy.Config{}))
}

func (d *keyedDatabase) close() {
	for _, db := range []*gorm.DB{d.owner, d.app} {
		if db == nil {
			continue
		}
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
	}
}

// sizes writes what the table and its indexes take.
func (d *keyedDatabase) sizes(ctx context.Context, out io.Writer, name string) error {
	var size struct {
		Rows                  int64
		Table, Indexes, Names string
	}
	err := d.owner.WithContext(ctx).Raw(`SELECT reltuples::bigint AS rows, pg_size_pretty(pg_table_size(oid)) AS table, pg_size_pretty(pg_indexes_size(oid)) AS indexes,
		(SELECT string_agg(indexrelid::regclass::text, ', ' ORDER BY indexrelid) FROM pg_index WHERE indrelid = c.oid) AS names
		FROM pg_class c WHERE oid = 'records'::regclass`).Scan(&size).Error
	if err == nil {
		fmt.Fprintf(out, "| %s | %d | %s | %s | %s |\n", name, size.Rows, size.Table, size.Indexes, size.Names)
	}
	return err
}
