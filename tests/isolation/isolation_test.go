// Package isolation sends SQL in every way that GORM has, for two tenants, and looks whether a row crosses.
package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) {
	code := pgserver.Run(m, pgserver.WithStatementLog())
	// GORM never ends the goroutine of its statement cache.
	if err := goleak.Find(goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// denied tells PostgreSQL's refusals: insufficient_privilege, which is also that of a policy, and unique_violation, by
// which an upsert fails on a key that exists and can't be seen.
func denied(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "42501" || pgErr.Code == "23505")
}

// setup is one of the ways to open a guarded *gorm.DB.
type setup struct {
	mode    string
	prepare bool
	skipTx  bool
	direct  bool
}

func (s setup) String() string {
	return fmt.Sprintf("%s/prepare=%t/skipTx=%t/direct=%t", s.mode, s.prepare, s.skipTx, s.direct)
}

func setups() (all []setup) {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		for bits := range 8 {
			all = append(all, setup{mode, bits&1 != 0, bits&2 != 0, bits&4 != 0})
		}
	}
	return all
}

func (s setup) open(t testing.TB, d *database) *gorm.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(d.App.DSN)
	require.NoError(t, err)
	for mode := pgx.QueryExecModeCacheStatement; mode <= pgx.QueryExecModeSimpleProtocol; mode++ {
		if strings.ReplaceAll(mode.String(), " ", "_") == s.mode {
			cfg.DefaultQueryExecMode = mode
		}
	}
	config := tenancy.Config{AdminRole: d.Admin.Role}
	pool := stdlib.OpenDB(*cfg)
	if s.direct {
		require.NoError(t, pool.Close())
		pool = tenancy.OpenDB(stdlib.GetConnector(*cfg), config)
	}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{
		Logger:                 logger.Discard,
		PrepareStmt:            s.prepare,
		SkipDefaultTransaction: s.skipTx,
	})
	require.NoError(t, err)
	require.NoError(t, db.Use(tenancy.New(config)))
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

// TestNoRowCrosses is the guarantee itself, over every way to open a pool and every way to send SQL.
func TestNoRowCrosses(t *testing.T) {
	d := newDatabase(t)
	for _, s := range setups() {
		t.Run(s.String(), func(t *testing.T) {
			db := s.open(t, d)
			for _, way := range append(reads, writes...) {
				t.Run(way.name, func(t *testing.T) {
					w := d.newWorld(t)
					before := d.state(t, w.other)
					ctx := tenancy.WithTenant(context.Background(), w.me)
					require.NoError(t, way.run(db.WithContext(ctx), w))
					require.Equal(t, before, d.state(t, w.other), "the other tenant's rows")
				})
			}
		})
	}
}

// TestWithoutThePlugin runs the same ways without the plugin, on a connection that no policy holds back, so that a way
// that would pass there too is known to prove nothing.
func TestWithoutThePlugin(t *testing.T) {
	d := newDatabase(t)
	for _, way := range append(reads, writes...) {
		t.Run(way.name, func(t *testing.T) {
			w := d.newWorld(t)
			before := d.state(t, w.other)
			err := way.run(d.admin.WithContext(context.Background()), w)
			crossed := !equal(before, d.state(t, w.other))
			require.True(t, err != nil || crossed, "passes without the plugin")
		})
	}
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// TestNoDecision sends nothing in any way when the context says nothing about the tenant.
func TestNoDecision(t *testing.T) {
	d := newDatabase(t)
	w := d.newWorld(t)
	for _, s := range setups() {
		t.Run(s.String(), func(t *testing.T) {
			db := s.open(t, d)
			before := statements(t)
			require.Positive(t, before, "the log can be read")
			for _, way := range append(reads, writes...) {
				t.Run(way.name, func(t *testing.T) {
					err := way.run(db.WithContext(context.Background()), w)
					require.ErrorIs(t, err, tenancy.ErrNoTenant)
				})
			}
			require.Equal(t, before, statements(t), "statements in the server's log")
		})
	}
}

var statementInLog = regexp.MustCompile(`(?m) LOG:  (statement|execute .*|parse .*|bind .*): `)

// statements is how many statements the server has logged.
func statements(t testing.TB) int {
	t.Helper()
	log, err := pgserver.Shared(t).Logs(context.Background())
	require.NoError(t, err)
	return len(statementInLog.FindAllString(log, -1))
}
