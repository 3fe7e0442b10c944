package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// oldestServer is the oldest supported major version of PostgreSQL.
const oldestServer = sqltext.PostgreSQL14 / sqltext.Major

// The defaults of --setting and --column.
const (
	defaultSetting = "app.tenant_id"
	defaultColumn  = "tenant_id"
)

// connection holds the options that all commands have.
type connection struct {
	dsn, setting, column, appRole string
}

func (c *connection) flags(fs *flag.FlagSet) {
	c.databaseFlag(fs)
	c.nameFlags(fs)
}

func (c *connection) databaseFlag(fs *flag.FlagSet) {
	fs.StringVar(&c.dsn, "dsn", "", "the database, as a `URL` or key=value pairs (default: the environment variable DATABASE_URL). Other users of\n"+
		"        this machine can see the options of a process, but not its environment")
}

func (c *connection) nameFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.setting, "setting", defaultSetting, "the `setting` that holds the current tenant (default app.tenant_id)")
	fs.StringVar(&c.column, "column", defaultColumn, "the `column` that holds the tenant of a row (default tenant_id)")
}

// open connects to the database, and refuses a server that is too old.
func (c *connection) open(ctx context.Context, s streams) (*sql.DB, error) {
	dsn, source := c.dsn, "--dsn"
	if dsn == "" {
		dsn, source = s.env("DATABASE_URL"), "DATABASE_URL"
	}
	if dsn == "" {
		return nil, misused("no database is given: add --dsn or set DATABASE_URL")
	}
	return openDSN(ctx, dsn, source)
}

// openDSN does what open does, with a DSN from a source that errors name.
func openDSN(ctx context.Context, dsn, source string) (*sql.DB, error) {
	config, err := parseDSN(dsn, source)
	if err != nil {
		return nil, err
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(1)
	if err := suitable(ctx, pool); err != nil {
		_ = pool.Close()
		return nil, err
	}
	return pool, nil
}

// suitable connects, and refuses a server that is too old by the version in its greeting.
func suitable(ctx context.Context, pool *sql.DB) error {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driverConn any) error {
		version := driverConn.(*stdlib.Conn).Conn().PgConn().ParameterStatus("server_version")
		digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 0 {
			digits = len(version)
		}
		if major, err := strconv.Atoi(version[:digits]); err == nil && major < oldestServer {
			return fmt.Errorf("the server is PostgreSQL %s, which is too old: %d or later is needed", version, oldestServer)
		}
		return nil
	})
}

// querier is what a pool and a transaction have in common here.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// mustExist refuses a role that does not exist.
func mustExist(ctx context.Context, db querier, option, role string) error {
	if role == "" {
		return nil
	}
	var exists bool
	const query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)"
	if err := db.QueryRowContext(ctx, query, role).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		return fmt.Errorf("%s: role %q does not exist", option, role)
	}
	return nil
}
