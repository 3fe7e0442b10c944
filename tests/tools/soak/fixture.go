package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// Note and Account are a tenant's. Nobody changes the notes that are there from the beginning, and the balances of a
// tenant's accounts always add up to nothing.
type (
	Note struct {
		ID       int64
		TenantID string
		Text     string
	}

	Account struct {
		ID       int64
		TenantID string
		Balance  int
	}
)

const (
	tenants      = 40
	notesEach    = 25
	accountsEach = 4
	seed         = "seed"
)

func tenant(n int) string { return "tenant-" + strconv.Itoa(n) }

// fixture is a server, a database with the tenants' rows, a proxy that cuts connections, and clients that go through it.
type fixture struct {
	server  *pgserver.Server
	app     string // the role
	proxy   *wire.Proxy
	super   *sql.DB
	admin   *gorm.DB
	clients []*client
	closers []func() error
}

// client is GORM with the plugin, over a pool that it shares with several goroutines.
type client struct {
	name    string
	db      *gorm.DB
	inner   *sql.DB
	maxOpen int
}

// capacity is how many prepared statements a connection may keep, on purpose fewer than there are different ones.
const capacity = 40

func newFixture(ctx context.Context) (f *fixture, err error) {
	f = &fixture{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.server, err = pgserver.Start(ctx); err != nil {
		return f, err
	}
	f.closers = append(f.closers, f.server.Close)
	d, err := f.server.NewDatabase(ctx)
	if err != nil {
		return f, err
	}
	f.app = d.App.Role
	if f.super, err = sql.Open("pgx", f.server.DSN()); err != nil {
		return f, err
	}
	f.closers = append(f.closers, f.super.Close)
	if err := f.migrate(ctx, d); err != nil {
		return f, err
	}
	target, err := wire.Target(d.App.DSN)
	if err != nil {
		return f, err
	}
	if f.proxy, err = wire.New(target); err != nil {
		return f, err
	}
	f.closers = append(f.closers, f.proxy.Close)
	through, err := f.proxy.DSN(d.App.DSN)
	if err != nil {
		return f, err
	}
	for _, c := range []struct {
		mode    string
		prepare bool
		maxOpen int
	}{
		{"cache_statement", false, 4},
		// GORM lets a transaction wait for another client to prepare a statement, who may wait for its connection: here
		// everybody can have one.
		{"cache_statement", true, 64},
		{"cache_describe", false, 4},
		{"simple_protocol", false, 4},
	} {
		if err := f.open(d, through, c.mode, c.prepare, c.maxOpen); err != nil {
			return f, err
		}
	}
	return f, nil
}

// migrate makes the tables and their rows.
func (f *fixture) migrate(ctx context.Context, d *pgserver.Database) error {
	owner, err := f.plain(d.Owner.DSN)
	if err != nil {
		return err
	}
	if _, err := (rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}).Migrate(ctx, owner, &Note{}, &Account{}); err != nil {
		return err
	}
	if f.admin, err = f.plain(d.Admin.DSN); err != nil {
		return err
	}
	for n := range tenants {
		notes, accounts := make([]Note, notesEach), make([]Account, accountsEach)
		for i := range notes {
			notes[i] = Note{TenantID: tenant(n), Text: seed}
		}
		for i := range accounts {
			accounts[i] = Account{TenantID: tenant(n)}
		}
		if err := errors.Join(f.admin.Create(&notes).Error, f.admin.Create(&accounts).Error); err != nil {
			return err
		}
	}
	return nil
}

// plain is GORM without the plugin.
func (f *fixture) plain(dsn string) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	f.closers = append(f.closers, pool.Close)
	return db, err
}

func (f *fixture) open(d *pgserver.Database, dsn, mode string, prepare bool, maxOpen int) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("default_query_exec_mode", mode)
	q.Set("statement_cache_capacity", strconv.Itoa(capacity))
	q.Set("description_cache_capacity", strconv.Itoa(capacity))
	u.RawQuery = q.Encode()
	db, err := gorm.Open(postgres.Open(u.String()), &gorm.Config{
		Logger:             logger.Discard,
		PrepareStmt:        prepare,
		PrepareStmtMaxSize: 2 * capacity,
	})
	if err != nil {
		return err
	}
	if err := db.Use(tenancy.New(tenancy.Config{AdminRole: d.Admin.Role, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})); err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	f.closers = append(f.closers, pool.Close)
	c := &client{name: mode, db: db, maxOpen: maxOpen}
	if prepare {
		c.name += ", PrepareStmt"
	}
	if c.inner, err = tenancy.UnguardedPool(db); err != nil {
		return err
	}
	c.inner.SetMaxOpenConns(maxOpen)
	c.inner.SetMaxIdleConns(4)
	f.clients = append(f.clients, c)
	return nil
}

// close ends all, the last first.
func (f *fixture) close() (err error) {
	for i := len(f.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, f.closers[i]())
	}
	return err
}

// checkRows compares what is in the tables with what must be.
func (f *fixture) checkRows(ctx context.Context, r *report) error {
	var bad []string
	err := f.admin.WithContext(ctx).Raw(`
		SELECT tenant_id || ' has ' || count(*) FILTER (WHERE text = ?) || ' notes of the beginning' FROM notes GROUP BY tenant_id
			HAVING count(*) FILTER (WHERE text = ?) <> ? OR count(*) FILTER (WHERE text = 'foreign') > 0
		UNION ALL SELECT tenant_id || ' has accounts that add up to ' || sum(balance) FROM accounts GROUP BY tenant_id
			HAVING sum(balance) <> 0 OR count(*) <> ?`, seed, seed, notesEach, accountsEach).Scan(&bad).Error
	for _, b := range bad {
		r.foreign(fmt.Errorf("%w: %s", errRows, b))
	}
	return err
}
