package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// Note is a row of the first table that tenants of very different sizes share.
type Note struct {
	ID        int64
	TenantID  string    `gorm:"type:uuid;not null;index:newest_notes,priority:1"`
	Kind      string    // one in a hundred is rare
	Body      string    // 80 characters
	CreatedAt time.Time `gorm:"index:newest_notes,priority:2"`
}

// Comment is a row of the second: each note has one.
type Comment struct {
	ID        int64
	TenantID  string `gorm:"type:uuid;not null;index:newest_comments,priority:1"`
	NoteID    int64  `gorm:"index"`
	Note      *Note
	Body      string
	CreatedAt time.Time `gorm:"index:newest_comments,priority:2"`
}

// skewBytesPerRow is what a note and its comment take on the server's disk, with their indexes.
const skewBytesPerRow = 2 * 350

// The numbers of the three tenants that are measured. 40 % of the rows are huge's, 1 % are middling's, and all others have as
// many as tiny.
const (
	huge     = 1
	middling = 2
	tiny     = 3
)

// skewTenant is a tenant, and what its queries ask for: rows in the middle of its own.
type skewTenant struct {
	Name string `json:"name"`
	Rows int    `json:"rows"`

	id     string
	middle time.Time
	note   int64 // the id of its first
}

var skewNames = map[int]string{huge: "huge", middling: "middling", tiny: "tiny"}

// skewDatabase has the two tables, with the policies of rls, and two logins: the application's, which the policies apply to, and
// a superuser's, which they do not.
type skewDatabase struct {
	rows, count int    // of each table; tenants
	app, super  string // DSNs
	tenants     []skewTenant
	inner       *pgserver.Database
}

// skewTables are without indexes: those are made when the rows are there.
var skewTables = []string{
	`CREATE UNLOGGED TABLE notes (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, kind text, body text, created_at timestamptz)`,
	`CREATE UNLOGGED TABLE comments (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, note_id bigint, body text, created_at timestamptz)`,
}

// skewRows has the columns that both tables share, of 1,000 days.
const skewRows = `(SELECT n + 1 AS id, n,
		('00000000-0000-4000-8000-' || lpad((CASE WHEN n %% 5 < 2 THEN 1 WHEN n %% 100 = 2 THEN 2
			ELSE 3 + n %% (%[2]d - 2) END)::text, 12, '0'))::uuid AS tenant_id,
		'2023-01-01'::timestamptz + n * (interval '1000 days' / %[1]d) AS created_at
	FROM generate_series(0, %[1]d - 1) n) r`

var skewInserts = []string{
	`INSERT INTO notes (id, tenant_id, kind, body, created_at)
		SELECT id, tenant_id, CASE WHEN hashint4(n) %% 100 = 0 THEN 'rare' ELSE 'usual' END, rpad('Note ' || n, 80, '.'), created_at FROM ` + skewRows,
	`INSERT INTO comments (id, tenant_id, note_id, body, created_at)
		SELECT id, tenant_id, id, rpad('Comment ' || n, 80, '.'), created_at FROM ` + skewRows,
}

// skewed makes the database at the first call. It is nil where the server has no room for it.
func (b *bench) skewed(ctx context.Context) (*skewDatabase, error) {
	if b.skewData != nil {
		return b.skewData, nil
	}
	d := &skewDatabase{rows: 2_000_000, count: 100_000}
	if b.quick {
		d.rows, d.count = 100_000, 5_000
	}
	if room, err := b.room(ctx); err == nil && room < int64(d.rows)*skewBytesPerRow {
		b.skip(fmt.Sprintf("Tenants of very different sizes: the server's disk has %d MB of room for them.", room>>20))
		return nil, nil
	}
	inner, err := b.server.NewDatabase(ctx)
	if err != nil {
		return nil, err
	}
	d.app = inner.App.DSN
	if d.super, err = withDSN(b.server.DSN(), func(u *url.URL) { u.Path = inner.Name }); err != nil {
		return nil, err
	}
	owner, err := withSetting(inner.Owner.DSN, "maintenance_work_mem", "512MB")
	if err != nil {
		return nil, err
	}
	if err := d.fill(ctx, owner, rls.Isolation{AppRole: inner.App.Role}); err != nil {
		return nil, fmt.Errorf("fill the tables: %w", err)
	}
	b.skewData = d
	b.results.Skew = &skewResults{Rows: d.rows, TenantCount: d.count, Tenants: d.tenants}
	return d, nil
}

// fill makes the tables and their rows, and then lets rls make the indexes, the foreign key and the policies.
func (d *skewDatabase) fill(ctx context.Context, dsn string, isolation rls.Isolation) (err error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	defer func(pool *sql.DB) { err = errors.Join(err, pool.Close()) }(pool)

	began := time.Now()
	tell := func(what string) {
		fmt.Fprintf(os.Stderr, "bench:        %-44s %6v gone\n", what, time.Since(began).Round(time.Second))
	}
	tell("skew: " + number(float64(d.rows)) + " rows of each table")
	if err := execute(ctx, db, skewTables...); err != nil {
		return err
	}
	var both sync.WaitGroup
	errs := make(chan error, len(skewInserts))
	for _, insert := range skewInserts {
		both.Go(func() { errs <- execute(ctx, db, fmt.Sprintf(insert, d.rows, d.count)) })
	}
	both.Wait()
	if err := errors.Join(<-errs, <-errs); err != nil {
		return err
	}
	if err := d.find(ctx, db); err != nil {
		return err
	}
	tell("skew: indexes, foreign keys, policies")
	if _, err := isolation.Migrate(ctx, db, &Note{}, &Comment{}); err != nil {
		return err
	}
	tell("skew: vacuum, analyze")
	return execute(ctx, db, "ALTER TABLE notes SET (autovacuum_enabled = off)", "ALTER TABLE comments SET (autovacuum_enabled = off)",
		"VACUUM ANALYZE notes", "VACUUM ANALYZE comments")
}

// find looks the three tenants up.
func (d *skewDatabase) find(ctx context.Context, db *gorm.DB) error {
	for _, n := range []int{huge, middling, tiny} {
		t := skewTenant{Name: skewNames[n], id: fmt.Sprintf("00000000-0000-4000-8000-%012d", n)}
		row := db.WithContext(ctx).Raw(`SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY created_at), min(id)
			FROM notes WHERE tenant_id = ?`, t.id).Row()
		if err := row.Scan(&t.Rows, &t.middle, &t.note); err != nil {
			return err
		}
		d.tenants = append(d.tenants, t)
	}
	return nil
}

// withSetting is a login whose sessions begin with a setting.
func withSetting(dsn, name, value string) (string, error) {
	return withDSN(dsn, func(u *url.URL) {
		query := u.Query()
		query.Set(name, value)
		u.RawQuery = query.Encode()
	})
}

func withDSN(dsn string, change func(u *url.URL)) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	change(u)
	return u.String(), nil
}
