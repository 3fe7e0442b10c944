package compat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"
	"gorm.io/plugin/opentelemetry/tracing"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// installation is a way to install the plugin more than once, or not by Use. It returns the clients that must be guarded.
type installation struct {
	name string
	open func(t *testing.T, d *database, config gorm.Config) []*gorm.DB
}

var installations = []installation{
	{"Use twice", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		db := open(t, postgres.Open(d.dsn), config)
		plugin := tenancy.New(d.Config())
		require.NoError(t, db.Use(plugin))
		require.ErrorIs(t, db.Use(plugin), gorm.ErrRegistered)
		require.ErrorIs(t, db.Use(tenancy.New(d.Config())), gorm.ErrRegistered)
		return []*gorm.DB{db}
	}},
	{"Initialize again", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		db := open(t, postgres.Open(d.dsn), config)
		plugin := tenancy.New(d.Config())
		require.NoError(t, db.Use(plugin))
		before := db.Config.ConnPool
		require.NoError(t, plugin.Initialize(db))
		require.NoError(t, tenancy.New(d.Config()).Initialize(db))
		require.Equal(t, before, db.Config.ConnPool)
		return []*gorm.DB{db}
	}},
	{"Config.Plugins", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		config.Plugins = map[string]gorm.Plugin{"tenancy": tenancy.New(d.Config())}
		db := open(t, postgres.Open(d.dsn), config)
		require.ErrorIs(t, db.Use(tenancy.New(d.Config())), gorm.ErrRegistered)
		return []*gorm.DB{db}
	}},
	{"Config.Plugins with others, in no order", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		resolver := resolve(t, dbresolver.Config{Replicas: []gorm.Dialector{postgres.Open(d.dsn)}})
		config.Plugins = map[string]gorm.Plugin{
			"tenancy":       tenancy.New(d.Config()),
			resolver.Name(): resolver,
			"otelgorm":      tracing.NewPlugin(tracing.WithoutMetrics()),
		}
		return []*gorm.DB{open(t, postgres.Open(d.dsn), config)}
	}},
	{"one plugin for two clients of one pool", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		plugin, dialect := tenancy.New(d.Config()), sqlPool(t, d)
		one, two := open(t, dialect, config), open(t, dialect, config)
		require.NoError(t, one.Use(plugin))
		require.NoError(t, two.Use(plugin))
		onePool, err := one.DB()
		require.NoError(t, err)
		twoPool, err := two.DB()
		require.NoError(t, err)
		require.Same(t, onePool, twoPool)
		return []*gorm.DB{one, two}
	}},
	{"two plugins for two clients of one pool", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		dialect := sqlPool(t, d)
		one, two := open(t, dialect, config), open(t, dialect, config)
		require.NoError(t, one.Use(tenancy.New(d.Config())))
		require.NoError(t, two.Use(tenancy.New(d.Config())))
		return []*gorm.DB{one, two}
	}},
	{"a client of a pool that is guarded", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		one := open(t, postgres.Open(d.dsn), config)
		require.NoError(t, one.Use(tenancy.New(d.Config())))
		guarded, err := one.DB()
		require.NoError(t, err)
		two := open(t, postgres.New(postgres.Config{Conn: guarded}), config)
		require.NoError(t, two.Use(tenancy.New(d.Config())))
		return []*gorm.DB{one, two}
	}},
	{"a pool that is guarded before GORM sees it", func(t *testing.T, d *database, config gorm.Config) []*gorm.DB {
		connector, err := stdlib.GetDefaultDriver().(*stdlib.Driver).OpenConnector(d.dsn)
		require.NoError(t, err)
		cfg := d.Config()
		db := open(t, postgres.New(postgres.Config{Conn: tenancy.OpenDB(connector, cfg)}), config)
		require.NoError(t, db.Use(tenancy.New(cfg)))
		return []*gorm.DB{db}
	}},
}

func sqlPool(t *testing.T, d *database) gorm.Dialector {
	t.Helper()
	pool, err := sql.Open("pgx", d.dsn)
	require.NoError(t, err)
	return postgres.New(postgres.Config{Conn: pool})
}

// TestPluginInstalledAgain installs the plugin more than once, or not by Use.
func TestPluginInstalledAgain(t *testing.T) {
	d := newDatabase(t)
	for _, s := range installations {
		for _, c := range configs[:2] {
			t.Run(s.name+", "+c.name, func(t *testing.T) {
				for _, db := range s.open(t, d, c.config) {
					requireGuarded(t, d, db, nothing)
				}
			})
		}
	}
}

// TestPreparedStatementsShared sends the same SQL through the tenants' clients and the admin's, all with GORM's one store of
// prepared statements.
func TestPreparedStatementsShared(t *testing.T) { testdb.InBothForms(t, testPreparedStatementsShared) }

func testPreparedStatementsShared(t *testing.T) {
	d := newDatabase(t)
	for _, prepare := range []bool{false, true} {
		for _, limit := range []int{0, 1} { // with one connection all meet the same server-side statements
			t.Run(fmt.Sprintf("PrepareStmt %t, %d connections", prepare, limit), func(t *testing.T) {
				shareStatements(t, d, prepare, limit)
			})
		}
	}
}

// sharer is a client, and the notes that it may see.
type sharer struct {
	name string
	db   *gorm.DB
	want []int64
}

func (c sharer) find(two *pair, transaction bool) error {
	var notes []Note
	find := func(tx *gorm.DB) error {
		return tx.Where("tenant_id IN ?", []string{two.me, two.other}).Order("id").Find(&notes).Error
	}
	var err error
	if transaction {
		err = c.db.Transaction(find)
	} else {
		err = find(c.db)
	}
	if err := cmpErr(err, ids(notes), c.want); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

func shareStatements(t *testing.T, d *database, prepare bool, limit int) {
	t.Helper()
	db := open(t, postgres.Open(d.dsn), gorm.Config{PrepareStmt: prepare})
	// Statements that the store has from before the plugin run on the pool below it.
	early := db.Session(&gorm.Session{PrepareStmt: true})
	require.NoError(t, early.Find(&[]Note{}).Error)
	require.NoError(t, db.Use(tenancy.New(d.Config())))
	below, err := tenancy.UnguardedPool(db)
	require.NoError(t, err)
	below.SetMaxOpenConns(limit)

	two := d.newPair(t)
	foreign := tenancy.WithTenant(context.Background(), two.other)
	everyone := append(ids(two.mine), ids(two.theirs)...)
	session := &gorm.Session{PrepareStmt: true}
	clients := []sharer{
		{"me", db.WithContext(two.ctx()).Session(session), ids(two.mine)},
		{"bypass", tenancy.Bypass(db, "test").Session(session), everyone},
		{"other", db.Session(session).WithContext(foreign), ids(two.theirs)},
		{"bypass of a session", tenancy.Bypass(db.Session(session), "test"), everyone},
		{"bypass for me", tenancy.Bypass(db.Session(session), "test").Session(session).WithContext(two.ctx()), everyone},
		{"no tenant", db.Session(session).WithContext(tenancy.WithoutTenant(context.Background())), nil},
	}
	ask := func(i int) error { return clients[i%len(clients)].find(two, i%4 == 3) }
	for i := range 5 * len(clients) {
		require.NoError(t, ask(i))
	}
	require.ErrorIs(t, db.Session(session).Find(&[]Note{}).Error, tenancy.ErrNoTenant)
	require.ErrorIs(t, early.Find(&[]Note{}).Error, tenancy.ErrNoTenant, "the session from before the plugin")

	errs := make([]error, 8)
	var all sync.WaitGroup
	for g := range errs {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range 5 * len(clients) {
				errs[g] = errors.Join(errs[g], ask(g+i))
			}
		}()
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
}
