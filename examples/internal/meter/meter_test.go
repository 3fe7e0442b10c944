package meter

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

type Owl struct {
	ID       int64
	TenantID string
	Name     string
}

// TestKnownCounts: these are the numbers of the README of the whole project.
func TestKnownCounts(t *testing.T) {
	db := open(t, pgserver.New(t))
	first := func(db *gorm.DB) error { return db.First(&Owl{}).Error }
	create := func(db *gorm.DB) error { return db.Create(&Owl{Name: "Errol"}).Error }
	for _, c := range []struct {
		name                   string
		do                     func(*gorm.DB) error
		statements, roundTrips int64
	}{
		{"First", first, 1, 1},
		{"Create in GORM's default transaction", create, 1, 1},
		{"Transaction of First and Create", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				if err := first(tx); err != nil {
					return err
				}
				return create(tx)
			})
		}, 2, 3},
		{"empty transaction", func(db *gorm.DB) error {
			return db.Transaction(func(*gorm.DB) error { return nil })
		}, 0, 0},
		{"ten statements", func(db *gorm.DB) (err error) {
			for range 10 {
				if err == nil {
					err = first(db)
				}
			}
			return err
		}, 10, 10},
		{"an answer of megabytes", func(db *gorm.DB) error {
			return db.Raw("SELECT n, repeat('owl', 1000) FROM generate_series(1, 1000) n").Scan(&[]map[string]any{}).Error
		}, 1, 1},
		{"as admin", func(db *gorm.DB) error { return first(tenancy.Bypass(db, "to count")) }, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, run := range []string{"cold", "warm"} {
				ctx, counter := WithCounter(tenancy.WithTenant(t.Context(), "hogwarts"))
				require.NoError(t, c.do(db.WithContext(ctx)))
				if run == "warm" {
					require.Equal(t, c.statements, counter.Statements(), "statements")
					require.Equal(t, c.roundTrips, counter.RoundTrips(), "round trips")
				}
			}
		})
	}
}

// TestCountersAreApart: two requests take turns on the same connection, and one that nobody counts.
func TestCountersAreApart(t *testing.T) {
	db := open(t, pgserver.New(t))
	tenant := tenancy.WithTenant(t.Context(), "hogwarts")
	require.NoError(t, db.WithContext(tenant).Find(&[]Owl{}).Error)
	one, first := WithCounter(tenant)
	two, second := WithCounter(tenant)
	for _, ctx := range []context.Context{one, two, tenant, one} {
		require.NoError(t, db.WithContext(ctx).Find(&[]Owl{}).Error)
	}
	require.EqualValues(t, 2, first.RoundTrips())
	require.EqualValues(t, 1, second.RoundTrips())
	require.EqualValues(t, 2, first.Statements())
	require.EqualValues(t, 1, second.Statements())
}

// TestPing: who takes an idle connection waits for its ping.
func TestPing(t *testing.T) {
	before := pingAfter
	pingAfter = -1
	t.Cleanup(func() { pingAfter = before })
	db := open(t, pgserver.New(t))
	tenant := tenancy.WithTenant(t.Context(), "hogwarts")
	for _, run := range []string{"cold", "warm"} {
		ctx, counter := WithCounter(tenant)
		require.NoError(t, db.WithContext(ctx).Find(&[]Owl{}).Error)
		if run == "warm" {
			require.EqualValues(t, 1, counter.Statements())
			require.EqualValues(t, 2, counter.RoundTrips())
		}
	}
}

// TestNewConnection: a connection counts from its first statement on.
func TestNewConnection(t *testing.T) {
	pool, err := Open(pgserver.New(t).App.DSN)
	require.NoError(t, err)
	ctx, counter := WithCounter(t.Context())
	_, err = pool.ExecContext(ctx, "SELECT 1")
	require.NoError(t, err)
	require.NoError(t, pool.Close())
	require.EqualValues(t, 1, counter.Statements())
	require.EqualValues(t, 1, counter.RoundTrips())
}

// TestMalformedDSN: the password is not in the error.
func TestMalformedDSN(t *testing.T) {
	_, err := Open("postgres://app:hunter2@localhost:port/")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

func open(t *testing.T, d *pgserver.Database) *gorm.DB {
	t.Helper()
	db := connect(t, d.Owner.DSN)
	_, err := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}.Migrate(t.Context(), db, &Owl{})
	require.NoError(t, err)
	db = connect(t, d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{AdminRole: d.Admin.Role, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})))
	require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), "hogwarts")).Create(&Owl{Name: "Hedwig"}).Error)
	return db
}

// connect has one connection, so that none is cold when it is counted.
func connect(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	pool, err := Open(dsn)
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}))
	require.NoError(t, err)
	t.Cleanup(func() {
		guarded, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, guarded.Close())
	})
	return db
}
