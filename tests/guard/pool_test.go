package guard_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// wrapping is a connector whose connections wrap pgx's, as those of tracing drivers do.
type wrapping struct {
	driver.Connector
	wrap func(driver.Conn) driver.Conn
}

func (w wrapping) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := w.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return w.wrap(c), nil
}

func (w wrapping) Driver() driver.Driver { return foreignDriver{} }

type foreignDriver struct{}

func (foreignDriver) Open(string) (driver.Conn, error) { return nil, errors.New("not used") }

// transparent shows what it wraps.
type transparent struct{ driver.Conn }

func (t transparent) Raw() driver.Conn { return t.Conn }

// opaque does not.
type opaque struct{ driver.Conn }

// pools are the ways to open a pool, and whether it can be guarded.
func pools(t *testing.T, cfg *pgx.ConnConfig) map[string]struct {
	db        *sql.DB
	supported bool
} {
	t.Helper()
	poolConfig, err := pgxpool.ParseConfig(cfg.ConnString())
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(context.Background(), poolConfig)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	byName, err := sql.Open("pgx", cfg.ConnString())
	require.NoError(t, err)
	connector := stdlib.GetConnector(*cfg)
	wrapped := func(wrap func(driver.Conn) driver.Conn) *sql.DB { return sql.OpenDB(wrapping{connector, wrap}) }
	all := map[string]struct {
		db        *sql.DB
		supported bool
	}{
		"by name":       {byName, true},
		"by connector":  {sql.OpenDB(connector), true},
		"of a pgxpool":  {stdlib.OpenDBFromPool(pool), true},
		"wrapped":       {wrapped(func(c driver.Conn) driver.Conn { return transparent{c} }), true},
		"wrapped twice": {wrapped(func(c driver.Conn) driver.Conn { return transparent{transparent{c}} }), true},
		"opaque":        {wrapped(func(c driver.Conn) driver.Conn { return opaque{c} }), false},
	}
	for _, p := range all {
		t.Cleanup(func() { _ = p.db.Close() })
	}
	return all
}

// TestSupported: what can be guarded is, and what can't be is refused with a reason.
func TestSupported(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for name, pool := range pools(t, config(t, d.App, pgx.QueryExecModeCacheStatement)) {
		t.Run(name, func(t *testing.T) {
			db := guard.Borrow(pool.db, guard.Config{Setting: setting})
			defer db.Close()
			_, isGuarded := guard.Of(pool.db)
			require.False(t, isGuarded)
			_, isGuarded = guard.Of(db)
			require.True(t, isGuarded)
			require.Same(t, pool.db, guard.Inner(db))
			require.Same(t, pool.db, guard.Inner(pool.db))

			err := guard.Supported(t.Context(), pool.db)
			got, queryErr := texts(db.QueryContext(tenant(t, "a"), `SELECT body FROM notes ORDER BY body`))
			if pool.supported {
				require.NoError(t, err)
				require.NoError(t, queryErr)
				require.Equal(t, []string{"a1", "a2"}, got)
			} else {
				for _, err := range []error{err, queryErr} {
					require.ErrorContains(t, err, "guard_test.opaque")
					require.ErrorContains(t, err, "pgx/v5/stdlib")
				}
			}
			require.Zero(t, pool.db.Stats().InUse)
		})
	}
}

// TestOpenForeign: a direct connector is looked at too.
func TestOpenForeign(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	connector := stdlib.GetConnector(*config(t, d.App, pgx.QueryExecModeExec))
	db := guard.Open(wrapping{connector, func(c driver.Conn) driver.Conn { return opaque{c} }}, guard.Config{Setting: setting})
	defer db.Close()
	require.ErrorContains(t, db.PingContext(t.Context()), "guard_test.opaque")
	require.Zero(t, db.Stats().OpenConnections)
	require.Same(t, db, guard.Inner(db))
	cfg, ok := guard.Of(db)
	require.True(t, ok)
	require.Equal(t, setting, cfg.Setting)

	_, err := db.Driver().Open("anything")
	require.ErrorContains(t, err, "tenancy")
}

// TestPoolLimitsOfLenderHold: the lender's limits hold, and its idle connections are used again.
func TestPoolLimitsOfLenderHold(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.app(t, way{mode: pgx.QueryExecModeCacheStatement})
	ctx := tenant(t, "a")
	for range 10 {
		require.Equal(t, []string{"a1", "a2"}, p.notes(ctx, t))
		require.Equal(t, 1, p.inner.Stats().Idle, "kept by the lender")
		require.Zero(t, p.inner.Stats().InUse, "what the guard keeps holds none")
		require.Equal(t, 1, p.Stats().OpenConnections, "and is not made anew each time")
	}
	tx := begin(ctx, t, p, nil)
	short, cancel := context.WithCancel(ctx)
	waiting := make(chan error)
	go func() {
		_, err := p.ExecContext(short, `SELECT 1`)
		waiting <- err
	}()
	cancel()
	require.ErrorIs(t, <-waiting, context.Canceled, "there is only one connection")
	require.NoError(t, tx.Commit())
	p.requireFree(t)

	for idle, kept := range map[int]int{0: 0, 5: 1} { // the lender's setting, too, and none that keeps connections from it
		p.SetMaxIdleConns(idle)
		require.Equal(t, []string{"a1", "a2"}, p.notes(ctx, t))
		require.Equal(t, kept, p.inner.Stats().Idle)
		require.Zero(t, p.inner.Stats().InUse)
	}
	require.NoError(t, p.Close())
	require.NoError(t, p.inner.Ping(), "closing the guarded pool leaves the lender open")
}
