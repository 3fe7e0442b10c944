package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// opener is a way to give GORM its pool.
type opener struct {
	name    string
	dialect func(t testing.TB, dsn string) gorm.Dialector
}

var openers = []opener{
	{"a DSN", func(_ testing.TB, dsn string) gorm.Dialector {
		return postgres.Open(dsn)
	}},
	{"a DSN with PreferSimpleProtocol", func(_ testing.TB, dsn string) gorm.Dialector {
		return postgres.New(postgres.Config{DSN: dsn, PreferSimpleProtocol: true})
	}},
	{"a DSN with the driver's name", func(_ testing.TB, dsn string) gorm.Dialector {
		return postgres.New(postgres.Config{DSN: dsn, DriverName: "pgx"})
	}},
	{"stdlib.OpenDB", func(t testing.TB, dsn string) gorm.Dialector {
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		return postgres.New(postgres.Config{Conn: stdlib.OpenDB(*cfg)})
	}},
	{"sql.Open", func(t testing.TB, dsn string) gorm.Dialector {
		pool, err := sql.Open("pgx", dsn)
		require.NoError(t, err)
		return postgres.New(postgres.Config{Conn: pool})
	}},
	{"stdlib.OpenDBFromPool", func(t testing.TB, dsn string) gorm.Dialector {
		pool, err := pgxpool.New(context.Background(), dsn)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return postgres.New(postgres.Config{Conn: stdlib.OpenDBFromPool(pool)})
	}},
}

// configs are what an application may set in gorm.Config.
var configs = []struct {
	name   string
	config gorm.Config
}{
	{"defaults", gorm.Config{}},
	{"PrepareStmt", gorm.Config{PrepareStmt: true}},
	{"TranslateError", gorm.Config{TranslateError: true}},
	{"DefaultContextTimeout", gorm.Config{DefaultContextTimeout: time.Minute}},
	{"all of them", gorm.Config{PrepareStmt: true, TranslateError: true, DefaultContextTimeout: time.Minute, SkipDefaultTransaction: true}},
}

// open opens GORM with a configuration that has no log.
func open(t testing.TB, dialect gorm.Dialector, config gorm.Config) *gorm.DB {
	t.Helper()
	return testdb.OpenPlain(t, "", testdb.Dialect(dialect), testdb.Configured(config))
}

func TestPoolsAreGuarded(t *testing.T) { testdb.InBothForms(t, testPoolsAreGuarded) }

func testPoolsAreGuarded(t *testing.T) {
	d := newDatabase(t)
	for _, o := range openers {
		for _, c := range configs {
			t.Run(fmt.Sprintf("%s, %s", o.name, c.name), func(t *testing.T) {
				db := open(t, o.dialect(t, d.dsn), c.config)
				if d.Signed() && strings.Contains(o.name, "PreferSimpleProtocol") {
					require.ErrorContains(t, db.Use(tenancy.New(d.Config())), "simple_protocol", "a proof would be a part of the text")
					return
				}
				require.NoError(t, db.Use(tenancy.New(d.Config())))
				requireGuarded(t, d, db, nothing)

				// What the configuration is for still works.
				two := d.newPair(t)
				err := db.WithContext(two.ctx()).Create(&Note{ID: two.mine[0].ID}).Error
				require.Error(t, err)
				require.Equal(t, c.config.TranslateError, errors.Is(err, gorm.ErrDuplicatedKey))
			})
		}
	}
}

// TestDefaultContextTimeoutHolds is GORM's own deadline, which holds for a statement that comes without one.
func TestDefaultContextTimeoutHolds(t *testing.T) {
	d := newDatabase(t)
	two := d.newPair(t)
	db := open(t, postgres.Open(d.dsn), gorm.Config{DefaultContextTimeout: 100 * time.Millisecond})
	require.NoError(t, db.Use(tenancy.New(d.Config())))
	require.ErrorIs(t, db.WithContext(two.ctx()).Exec("SELECT pg_sleep(20)").Error, context.DeadlineExceeded)

	ctx, cancel := context.WithTimeout(two.ctx(), time.Minute)
	defer cancel()
	var n int64
	require.NoError(t, db.WithContext(ctx).Model(&Order{}).Count(&n).Error, "the next statement")
	require.EqualValues(t, 1, n)
}
