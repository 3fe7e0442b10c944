package roundtrip

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// database is a migrated database with the rows of two tenants, behind a proxy that counts.
type database struct {
	*testdb.Database
	proxy *wire.Proxy
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	return newDatabaseOf(t, testdb.New(t, models...))
}

func newDatabaseOf(t testing.TB, migrated *testdb.Database) *database {
	t.Helper()
	d := &database{Database: migrated}
	d.proxy, _ = wire.Start(t, d.App.DSN)
	require.NoError(t, d.AdminDB.Create(&Country{Code: "NO", Name: "Norway"}).Error)
	for _, name := range []string{tenant, "other"} {
		require.NoError(t, seed(d.AdminDB, name))
	}
	return d
}

// counted is how many round trips do takes.
func (d *database) counted(t testing.TB, do func() error) int {
	t.Helper()
	before := d.proxy.RoundTrips()
	require.NoError(t, do())
	return int(d.proxy.RoundTrips() - before)
}

// config has the admin's role or, with a key, a pool of the admin through the proxy.
func (d *database) config(t testing.TB, mode pgx.QueryExecMode) tenancy.Config {
	t.Helper()
	config := d.Config()
	if d.Signed() {
		config.AdminDB = d.pool(t, d.Admin.DSN, mode)
	}
	return config
}

// connector connects through the proxy. Stock pgx pings a connection that has been idle for a second, guarded or not;
// on a slow machine that would be a round trip too many.
func (d *database) connector(t testing.TB, dsn string, mode pgx.QueryExecMode) (*pgx.ConnConfig, stdlib.OptionOpenDB) {
	t.Helper()
	dsn, err := d.proxy.DSN(dsn)
	require.NoError(t, err)
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = mode
	return cfg, stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false })
}

// pool has one connection, so that there is no second one to hide a round trip on, or to be cold.
func (d *database) pool(t testing.TB, dsn string, mode pgx.QueryExecMode) *sql.DB {
	t.Helper()
	cfg, quiet := d.connector(t, dsn, mode)
	pool := stdlib.OpenDB(*cfg, quiet)
	pool.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

// options are those of GORM that change how many round trips a statement takes.
type options struct {
	prepare bool // gorm.Config.PrepareStmt
	begin   bool // writes begin a transaction, as by default: not gorm.Config.SkipDefaultTransaction
}

func (o options) String() string {
	switch {
	case o.prepare && o.begin:
		return "default transaction, prepared"
	case o.prepare:
		return "prepared"
	case o.begin:
		return "default transaction"
	}
	return "skip default transaction"
}

// gorm is GORM's configuration.
func (o options) gorm(c *gorm.Config) {
	c.PrepareStmt, c.SkipDefaultTransaction = o.prepare, !o.begin
}

// opener is one of the clients that are compared.
type opener struct {
	name string
	open func(t testing.TB, d *database, mode pgx.QueryExecMode, o options) *gorm.DB
}

// plain is GORM alone, in a role that no policy holds back.
var plain = opener{"plain", func(t testing.TB, d *database, mode pgx.QueryExecMode, o options) *gorm.DB {
	return testdb.OpenPlain(t, "", testdb.Pool(d.pool(t, d.Admin.DSN, mode)), testdb.GORM(o.gorm))
}}

// guarded are the two ways to come by a guarded pool, and one whose tenants have settings.
var guarded = []opener{
	{"borrowed", func(t testing.TB, d *database, mode pgx.QueryExecMode, o options) *gorm.DB {
		return d.Open(t, d.config(t, mode), testdb.Pool(d.pool(t, d.App.DSN, mode)), testdb.GORM(o.gorm))
	}},
	{"with settings", func(t testing.TB, d *database, mode pgx.QueryExecMode, o options) *gorm.DB {
		cfg := d.config(t, mode)
		cfg.Settings = func(context.Context, string) map[string]string {
			return map[string]string{"work_mem": "17MB", "statement_timeout": "1min"}
		}
		return d.Open(t, cfg, testdb.Pool(d.pool(t, d.App.DSN, mode)), testdb.GORM(o.gorm))
	}},
	{"direct", func(t testing.TB, d *database, mode pgx.QueryExecMode, o options) *gorm.DB {
		cfg, quiet := d.connector(t, d.App.DSN, mode)
		config := d.Config()
		config.AdminRole, config.AdminDB = "", d.pool(t, d.Admin.DSN, mode)
		pool := tenancy.OpenDB(stdlib.GetConnector(*cfg, quiet), config)
		pool.SetMaxOpenConns(1)
		return d.Open(t, config, testdb.Pool(pool), testdb.GORM(o.gorm))
	}},
}

// neverIdle makes every statement and every transaction open a connection.
func neverIdle(t testing.TB, db *gorm.DB) {
	t.Helper()
	for _, client := range []*gorm.DB{db, tenancy.Bypass(db, "to find the pool")} {
		if pool, err := tenancy.UnguardedPool(client); err == nil {
			pool.SetMaxIdleConns(-1)
		}
	}
}

// forTenant, forOther and forNone are the contexts of statements.
func forTenant() context.Context { return testdb.As(tenant) }
func forOther() context.Context  { return testdb.As("other") }
func forNone() context.Context   { return tenancy.WithoutTenant(context.Background()) }

// rows checks how many there are: a statement that reached nothing would be cheap.
func rows(tx *gorm.DB, want int64) error {
	if tx.Error == nil && tx.RowsAffected != want {
		return fmt.Errorf("%d rows, want %d", tx.RowsAffected, want)
	}
	return tx.Error
}
