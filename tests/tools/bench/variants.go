package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
)

// variant is one of the ways to keep tenants apart that are compared.
type variant struct {
	Name  string `json:"name"`
	Title string `json:"title"`

	way     way
	where   bool // statements name the tenant
	prepare bool // gorm.Config.PrepareStmt
	omit    bool // tenancy.Config.OmitTenantCondition

	whereJoined bool // statements with Joins name the tenant of the joined table, too
}

type way int

const (
	byHand   way = iota // by WHERE alone, on a table without policies
	wrapped             // a transaction for each statement
	onLease             // a SET whenever the pool hands out a connection
	borrowed            // the plugin, on the application's pool
	direct              // the plugin, on a pool of tenancy.OpenDB
)

var variants = []variant{
	{Name: "plain", Title: "plain GORM, `WHERE tenant_id = ?`, no policies", way: byHand, where: true},
	{Name: "plain, PrepareStmt", Title: "the same with `PrepareStmt`", way: byHand, where: true, prepare: true},
	{Name: "wrapper", Title: "the usual wrapper: `BEGIN`, `set_config`, the statements, `COMMIT`", way: wrapped},
	{Name: "session", Title: "`set_config` for the session, whenever the pool hands out a connection", way: onLease},
	{Name: "tenancy", Title: "the plugin: `db.Use(tenancy.New(…))`", way: borrowed},
	{Name: "tenancy, PrepareStmt", Title: "the same with `PrepareStmt`", way: borrowed, prepare: true},
	{Name: "tenancy, WHERE", Title: "the plugin, and the `WHERE` beside it", way: borrowed, where: true},
	{Name: "OpenDB", Title: "the plugin, on a pool of `tenancy.OpenDB`", way: direct},
	{Name: "OpenDB, PrepareStmt", Title: "the same with `PrepareStmt`", way: direct, prepare: true},
}

// The variants that everything is measured of, and those of the curves.
var (
	plain   = variants[0]
	essence = pick("plain", "wrapper", "tenancy", "OpenDB")
	curve   = pick("plain", "wrapper", "tenancy")
)

func pick(names ...string) (picked []variant) {
	for _, name := range names {
		for _, v := range variants {
			if v.Name == name {
				picked = append(picked, v)
			}
		}
	}
	return picked
}

// baseline is the variant that v is compared with: plain GORM with the same GORM settings.
func (v variant) baseline() string {
	if v.prepare {
		return "plain, PrepareStmt"
	}
	return "plain"
}

// guarded reports whether the variant is one of the plugin's.
func (v variant) guarded() bool { return v.way == borrowed || v.way == direct }

// client is an application's *gorm.DB, in one of the variants.
type client struct {
	variant
	db   *gorm.DB
	pool *sql.DB // the one that connects
}

// open connects as the application. Writes begin a transaction unless they are to skip it.
func (v variant) open(dsn string, skipTx bool, connections int) (*client, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	c := &client{variant: v}
	switch v.way {
	case direct:
		c.pool = tenancy.OpenDB(stdlib.GetConnector(*cfg), tenancy.Config{OmitTenantCondition: v.omit})
	case onLease:
		c.pool = stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(lease), stdlib.OptionResetSession(lease))
	default:
		c.pool = stdlib.OpenDB(*cfg)
	}
	c.pool.SetMaxOpenConns(connections)
	c.pool.SetMaxIdleConns(connections)
	c.db, err = gorm.Open(postgres.New(postgres.Config{Conn: c.pool}), &gorm.Config{
		Logger:                 logger.Discard,
		SkipDefaultTransaction: skipTx,
		PrepareStmt:            v.prepare,
	})
	if err == nil && v.guarded() {
		err = c.db.Use(tenancy.New(tenancy.Config{OmitTenantCondition: v.omit}))
	}
	if err != nil {
		return nil, errors.Join(err, c.pool.Close())
	}
	return c, nil
}

// close ends the connections, and GORM's store of prepared statements.
func (c *client) close() error {
	pool, err := c.db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}

// leaseKey is under what the context of a request carries the tenant for lease.
type leaseKey struct{}

// lease is the hook of pgx by which an application sets the tenant for as long as it holds a connection. Pools that call
// it without the context of a request, to open connections ahead, get none.
func lease(ctx context.Context, conn *pgx.Conn) error {
	tenant, _ := ctx.Value(leaseKey{}).(string)
	_, err := conn.Exec(ctx, "SELECT set_config('app.tenant_id', $1, false)", tenant)
	return err
}

// session is a client at work for one tenant.
type session struct {
	*client
	tenant string
	ctx    context.Context
}

// as begins to work for a tenant, as an application does once per request.
func (c *client) as(ctx context.Context, tenant string) *session {
	switch c.way {
	case onLease:
		ctx = context.WithValue(ctx, leaseKey{}, tenant)
	case borrowed, direct:
		ctx = tenancy.WithTenant(ctx, tenant)
	}
	return &session{client: c, tenant: tenant, ctx: ctx}
}

// do runs f, in a transaction if the application wants one.
func (s *session) do(tx bool, f func(db *gorm.DB) error) error {
	db := s.db.WithContext(s.ctx)
	switch {
	case s.way == wrapped:
		return db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("SELECT set_config('app.tenant_id', ?, true)", s.tenant).Error; err != nil {
				return err
			}
			return f(tx)
		})
	case tx:
		return db.Transaction(f)
	default:
		return f(db)
	}
}

// mine adds what an application without policies must not forget.
func (s *session) mine(db *gorm.DB) *gorm.DB {
	if s.where {
		return db.Where("tenant_id = ?", s.tenant)
	}
	return db
}

// owner is the tenant in a new row: the application writes it, unless the plugin does.
func (s *session) owner() string {
	if s.guarded() {
		return ""
	}
	return s.tenant
}
