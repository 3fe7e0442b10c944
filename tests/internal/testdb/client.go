package testdb

import (
	"database/sql"
	"io"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
)

// Quiet is a log that is enabled, so that what is logged is also composed, and that is not read.
var Quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// Option changes how GORM is opened: by default from the DSN, with the default configuration, and without a log.
type Option func(*setup)

type setup struct {
	postgres postgres.Config
	dialect  gorm.Dialector // in place of postgres
	gorm     gorm.Config
	fromPool bool
	changes  []func(*pgx.ConnConfig)
	breaks   bool
}

// GORM changes GORM's configuration.
func GORM(change func(*gorm.Config)) Option { return func(s *setup) { change(&s.gorm) } }

// Configured gives GORM a configuration; without a log.
func Configured(config gorm.Config) Option {
	config.Logger = logger.Discard
	return func(s *setup) { s.gorm = config }
}

// PrepareStmt has GORM prepare all statements.
func PrepareStmt(s *setup) { s.gorm.PrepareStmt = true }

// Prepared is PrepareStmt where on is true.
func Prepared(on bool) Option { return func(s *setup) { s.gorm.PrepareStmt = on } }

// Mode is the execution mode of pgx, for a client that is opened from a DSN.
func Mode(mode pgx.QueryExecMode) Option {
	return func(s *setup) { s.postgres.DSN = WithParam(s.postgres.DSN, "default_query_exec_mode", ModeName(mode)) }
}

// Postgres changes the configuration of GORM's driver.
func Postgres(change func(*postgres.Config)) Option { return func(s *setup) { change(&s.postgres) } }

// Pool gives GORM a pool, which is closed with the client, in place of the DSN.
func Pool(pool *sql.DB) Option { return func(s *setup) { s.postgres.Conn = pool } }

// FromPool opens a pool of pgx from the DSN, after these changes to its configuration, and gives GORM the pool.
func FromPool(changes ...func(*pgx.ConnConfig)) Option {
	return func(s *setup) { s.fromPool, s.changes = true, changes }
}

// Dialect gives GORM a dialect in place of its driver's and the DSN.
func Dialect(dialect gorm.Dialector) Option { return func(s *setup) { s.dialect = dialect } }

// Breaks says that the test breaks connections: closing the pool may return an error.
func Breaks(s *setup) { s.breaks = true }

// Open opens GORM as the application, with the plugin. A Config without a Logger has Quiet, and without a key the one that policies demand.
func (d *Database) Open(t testing.TB, cfg tenancy.Config, opts ...Option) *gorm.DB {
	t.Helper()
	if d.signed != nil && cfg.SigningKeys == nil {
		cfg.SigningKeys = d.Config().SigningKeys
	}
	db, err := OpenGuarded(t, d.App.DSN, cfg, opts...)
	require.NoError(t, err)
	return db
}

// OpenGuarded opens GORM with any login, and returns the error of installing the plugin.
func OpenGuarded(t testing.TB, dsn string, cfg tenancy.Config, opts ...Option) (*gorm.DB, error) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = Quiet
	}
	db := OpenPlain(t, dsn, opts...)
	return db, db.Use(tenancy.New(cfg))
}

// OpenPlain opens GORM without the plugin.
func OpenPlain(t testing.TB, dsn string, opts ...Option) *gorm.DB {
	t.Helper()
	s := setup{postgres: postgres.Config{DSN: dsn}, gorm: gorm.Config{Logger: logger.Discard}}
	for _, opt := range opts {
		opt(&s)
	}
	if s.fromPool {
		config, err := pgx.ParseConfig(s.postgres.DSN)
		require.NoError(t, err)
		for _, change := range s.changes {
			change(config)
		}
		s.postgres.Conn = stdlib.OpenDB(*config)
	}
	if s.dialect == nil {
		s.dialect = postgres.New(s.postgres)
	}
	db, err := gorm.Open(s.dialect, &s.gorm)
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		if err := pool.Close(); !s.breaks {
			require.NoError(t, err)
		}
	})
	return db
}

// Close closes GORM's pool, as an application does. What this package opens may be closed twice.
func Close(t require.TestingT, db *gorm.DB) {
	pool, err := db.DB()
	require.NoError(t, err)
	require.NoError(t, pool.Close())
}

// OpenSQL opens a pool of pgx without GORM.
func OpenSQL(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	pool, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}
