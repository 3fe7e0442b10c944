package compat

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// arrangement is an order in which plugins are registered, and whether GORM prepares statements.
type arrangement struct {
	tenancyFirst bool
	prepare      bool
}

func (a arrangement) String() string {
	order := "after"
	if a.tenancyFirst {
		order = "before"
	}
	return fmt.Sprintf("tenancy %s, PrepareStmt %t", order, a.prepare)
}

var arrangements = []arrangement{{false, false}, {false, true}, {true, false}, {true, true}}

// open registers the other plugins before tenancy or after it.
func (a arrangement) open(t testing.TB, dsn string, cfg tenancy.Config, others ...gorm.Plugin) *gorm.DB {
	t.Helper()
	db := open(t, postgres.Open(dsn), gorm.Config{PrepareStmt: a.prepare})
	plugins := append(others, tenancy.New(cfg)) //nolint:gocritic // the caller's slice is used up
	if a.tenancyFirst {
		slices.Reverse(plugins)
	}
	for _, plugin := range plugins {
		require.NoError(t, db.Use(plugin), plugin.Name())
	}
	return db
}

// resolve makes a dbresolver whose pools end with the test.
func resolve(t testing.TB, config dbresolver.Config, data ...any) *dbresolver.DBResolver {
	t.Helper()
	resolver := dbresolver.Register(config, data...)
	t.Cleanup(func() { closeAll(t, resolver) })
	return resolver
}

// closeAll is how an application ends the pools that dbresolver has opened.
func closeAll(t testing.TB, resolver *dbresolver.DBResolver) {
	t.Helper()
	require.NoError(t, resolver.Call(func(pool gorm.ConnPool) error { return pool.(*sql.DB).Close() }))
}

// place asks where a statement runs: on the replica or at the source.
type place struct {
	name    string
	replica bool
	ask     func(db *gorm.DB, here string) (bool, error)
}

var places = []place{
	{"Find", true, pluck},
	{"Raw", true, func(db *gorm.DB, here string) (at bool, err error) {
		return at, db.Raw("SELECT " + here + " FROM notes LIMIT 1").Scan(&at).Error
	}},
	{"Row", true, func(db *gorm.DB, here string) (at bool, err error) {
		return at, db.Model(&Note{}).Select(here).Limit(1).Row().Scan(&at)
	}},
	{"Rows", true, func(db *gorm.DB, here string) (at bool, err error) {
		rows, err := db.Model(&Note{}).Select(here).Limit(1).Rows()
		if err != nil {
			return false, err
		}
		defer rows.Close()
		for rows.Next() {
			err = rows.Scan(&at)
		}
		return at, err
	}},
	{"Session with PrepareStmt", true, func(db *gorm.DB, here string) (bool, error) {
		return pluck(db.Session(&gorm.Session{PrepareStmt: true}), here)
	}},
	{"dbresolver.Write", false, func(db *gorm.DB, here string) (bool, error) {
		return pluck(db.Clauses(dbresolver.Write), here)
	}},
	{"FOR UPDATE", false, func(db *gorm.DB, here string) (bool, error) {
		return pluck(db.Clauses(clause.Locking{Strength: "UPDATE"}), here)
	}},
	{"INSERT in SQL", false, func(db *gorm.DB, here string) (at bool, err error) {
		tenant, _ := tenancy.TenantFromContext(db.Statement.Context)
		return at, db.Raw("INSERT INTO notes (tenant_id, text) VALUES (?, 'raw') RETURNING "+here, tenant).Scan(&at).Error
	}},
	{"Transaction", false, func(db *gorm.DB, here string) (at bool, err error) {
		return at, db.Transaction(func(tx *gorm.DB) error { at, err = pluck(tx, here); return err })
	}},
	{"Transaction with dbresolver.Write", false, func(db *gorm.DB, here string) (at bool, err error) {
		return at, db.Clauses(dbresolver.Write).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Note{Text: "in a transaction"}).Error; err != nil {
				return err
			}
			at, err = pluck(tx, here)
			return err
		})
	}},
	{"Transaction with dbresolver.Read", true, func(db *gorm.DB, here string) (at bool, err error) {
		return at, db.Clauses(dbresolver.Read).Transaction(func(tx *gorm.DB) error { at, err = pluck(tx, here); return err })
	}},
	{"read-only transaction with dbresolver.Read", true, func(db *gorm.DB, here string) (at bool, err error) {
		return at, db.Clauses(dbresolver.Read).Transaction(func(tx *gorm.DB) error {
			var readOnly string
			if err := tx.Raw("SHOW transaction_read_only").Scan(&readOnly).Error; err != nil {
				return err
			}
			at, err = pluck(tx, here)
			return cmpErr(err, readOnly, "on")
		}, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	}},
	{"Bypass", false, func(db *gorm.DB, here string) (at bool, err error) {
		return pluck(tenancy.Bypass(db, "test"), here)
	}},
}

func pluck(db *gorm.DB, expression string) (bool, error) {
	var at []bool
	if err := db.Model(&Order{}).Limit(1).Pluck("("+expression+") IS TRUE", &at).Error; err != nil {
		return false, err
	}
	return len(at) == 1 && at[0], cmpErr(nil, len(at), 1)
}

// TestResolver has one source and one replica.
func TestResolver(t *testing.T) { testdb.InBothForms(t, testResolver) }

func testResolver(t *testing.T) {
	d := newReplicated(t)
	t.Logf("the replica is a standby: %t", d.replica.Standby)
	for _, a := range arrangements {
		t.Run(a.String(), func(t *testing.T) {
			resolver := resolve(t, dbresolver.Config{Replicas: []gorm.Dialector{postgres.Open(d.replicaDSN)}})
			db := a.open(t, d.dsn, d.Config(), resolver)
			resolver.SetMaxOpenConns(10).SetMaxIdleConns(5)
			requireGuarded(t, d.database, db, d.replica.CatchUp)

			two := d.newPair(t)
			d.replica.CatchUp(t)
			for _, p := range places {
				at, err := p.ask(db.WithContext(two.ctx()), d.replica.Here)
				require.NoError(t, err, p.name)
				require.Equal(t, p.replica, at, p.name)
			}

			// A tenant sees on the replica what is its own, and nothing goes there without one.
			d.replica.CatchUp(t)
			foreign := tenancy.WithTenant(context.Background(), two.other)
			var n int64
			require.NoError(t, db.WithContext(foreign).Model(&Note{}).Count(&n).Error)
			require.EqualValues(t, len(two.theirs), n)
			require.NoError(t, db.WithContext(tenancy.WithoutTenant(context.Background())).Model(&Note{}).Count(&n).Error)
			require.Zero(t, n)
			sent := d.replicaTraffic.RoundTrips()
			for _, p := range places {
				_, err := p.ask(db.WithContext(context.Background()), d.replica.Here)
				if p.name != "Bypass" {
					require.ErrorIs(t, err, tenancy.ErrNoTenant, p.name)
				}
			}
			require.Equal(t, sent, d.replicaTraffic.RoundTrips(), "round trips to the replica")

			err := db.WithContext(two.ctx()).Clauses(dbresolver.Read).Transaction(func(tx *gorm.DB) error {
				err := tx.WithContext(foreign).First(&Note{}).Error
				require.ErrorIs(t, err, tenancy.ErrTenantMismatch)
				return tx.Create(&Note{}).Error
			})
			var pgErr *pgconn.PgError
			require.ErrorAs(t, err, &pgErr)
			require.Equal(t, "25006", pgErr.Code, "read_only_sql_transaction")
		})
	}
}

// resolveSeveral makes a resolver of two sources and two replicas, which take turns, and one for a table and a name. The
// connections of each pool have its name.
func resolveSeveral(t *testing.T, dsn string) *dbresolver.DBResolver {
	t.Helper()
	dialect := func(name string) gorm.Dialector {
		return postgres.Open(testdb.WithParam(dsn, "application_name", name))
	}
	return resolve(t, dbresolver.Config{
		Sources:  []gorm.Dialector{dialect("source-1"), dialect("source-2")},
		Replicas: []gorm.Dialector{dialect("replica-1"), dialect("replica-2")},
		Policy:   dbresolver.StrictRoundRobinPolicy(),
	}).Register(dbresolver.Config{
		Sources:  []gorm.Dialector{dialect("orders")},
		Replicas: []gorm.Dialector{dialect("orders-replica")},
	}, &Order{}, "by name")
}

// poolName is SQL for the name of the pool whose connection it is.
const poolName = "current_setting('application_name')"

// poolOfInsert is the name of the pool that inserts a row.
func poolOfInsert(t *testing.T, db *gorm.DB, table, tenant string) (pool string) {
	t.Helper()
	require.NoError(t, db.Raw("INSERT INTO "+table+" (tenant_id) VALUES (?) RETURNING "+poolName, tenant).Scan(&pool).Error)
	return pool
}

// poolOfFind is the name of the pool that reads a model's rows.
func poolOfFind(t *testing.T, db *gorm.DB, model any) (pool string) {
	t.Helper()
	require.NoError(t, db.Model(model).Limit(1).Pluck(poolName, &pool).Error)
	return pool
}

// poolsInTurn are the names of the pools that four statements used, of which the last two repeat the first two.
func poolsInTurn(t *testing.T, next func() string) []string {
	t.Helper()
	all := []string{next(), next(), next(), next()}
	require.Equal(t, all[:2], all[2:])
	slices.Sort(all)
	return slices.Compact(all)
}

// TestResolverOfSeveralSources has two sources, which take turns, and resolvers for a table and a name.
func TestResolverOfSeveralSources(t *testing.T) { testdb.InBothForms(t, testResolverOfSeveralSources) }

func testResolverOfSeveralSources(t *testing.T) {
	d := newDatabase(t)
	for _, a := range arrangements {
		t.Run(a.String(), func(t *testing.T) {
			db := a.open(t, testdb.WithParam(d.dsn, "application_name", "main"), d.Config(), resolveSeveral(t, d.dsn))
			requireGuarded(t, d, db, nothing)

			two := d.newPair(t)
			tx := db.WithContext(two.ctx())
			requireTurns(t, tx, two)
			require.Equal(t, "orders", poolOfInsert(t, tx, "orders", two.me))
			require.Equal(t, "orders-replica", poolOfFind(t, tx, &Order{}))
			require.Equal(t, "orders-replica", poolOfFind(t, tx.Clauses(dbresolver.Use("by name")), &Note{}))
			require.Equal(t, "orders", poolOfFind(t, tx.Clauses(dbresolver.Use("by name"), dbresolver.Write), &Note{}))
			require.NoError(t, tx.Clauses(dbresolver.Use("by name"), dbresolver.Write).Transaction(func(tx *gorm.DB) error {
				require.Equal(t, "orders", poolOfFind(t, tx, &Note{}))
				return nil
			}))
			if !d.Signed() { // where AdminDB is another pool
				require.Equal(t, "main", poolOfFind(t, tenancy.Bypass(tx, "test"), &Order{}), "the admin's pool is the main one")
			}

			err := db.Clauses(dbresolver.Use("by name"), dbresolver.Write).Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Note{}).Error })
			require.ErrorIs(t, err, tenancy.ErrNoTenant)
			require.NoError(t, tenancy.ForEachTenant(t.Context(), db, []string{two.me, two.other}, func(_ context.Context, tx *gorm.DB) error {
				var n int64
				err := tx.Model(&Order{}).Where("item <> ''").Count(&n).Error
				return cmpErr(err, n, 1)
			}))
		})
	}
}

// requireTurns requires that sources and replicas take turns, and that a transaction stays at its source.
func requireTurns(t *testing.T, tx *gorm.DB, two *pair) {
	t.Helper()
	insert := func() string { return poolOfInsert(t, tx, "notes", two.me) }
	require.Equal(t, []string{"source-1", "source-2"}, poolsInTurn(t, insert))
	find := func() string { return poolOfFind(t, tx, &Note{}) }
	require.Equal(t, []string{"replica-1", "replica-2"}, poolsInTurn(t, find))
	require.Equal(t, []string{"source-1", "source-2"}, poolsInTurn(t, func() (pool string) {
		require.NoError(t, tx.Clauses(dbresolver.Write).Transaction(func(tx *gorm.DB) error {
			pool = poolOfInsert(t, tx, "notes", two.me)
			require.Equal(t, pool, poolOfFind(t, tx, &Note{}))
			require.Equal(t, pool, poolOfFind(t, tx, &Order{}))
			return nil
		}))
		return pool
	}))
}

// TestReplicaNotIsolatedIsRefused has a replica whose tables are not isolated, for want of policies or because its login is exempt.
func TestReplicaNotIsolatedIsRefused(t *testing.T) {
	testdb.InBothForms(t, testReplicaNotIsolatedIsRefused)
}

func testReplicaNotIsolatedIsRefused(t *testing.T) {
	d := newDatabase(t)
	bare := newBare(t) // another database plays the replica, for a standby could not differ
	cfg := d.Config()
	cfg.AdminRole = "" // the owner cannot take it, and would be refused for that
	replicas := map[string]string{"a table without policies": bare.App.DSN}
	if !d.Signed() { // it reads the keys, so that its role is unsafe
		replicas["an owner who is exempt"] = bare.Owner.DSN
	}
	for name, dsn := range replicas {
		for _, a := range arrangements {
			t.Run(name+", "+a.String(), func(t *testing.T) {
				resolver := resolve(t, dbresolver.Config{Replicas: []gorm.Dialector{postgres.Open(dsn)}})
				db := a.open(t, d.dsn, cfg, resolver)
				tx := db.WithContext(d.newPair(t).ctx())
				for range 2 {
					require.ErrorIs(t, tx.First(&Note{}).Error, tenancy.ErrNotIsolated, "a read")
					require.NoError(t, tx.Create(&Note{}).Error, "a write, at the source")
					require.NoError(t, tx.Clauses(dbresolver.Write).First(&Note{}).Error, "a read at the source")
				}
			})
		}
	}
}

// TestReplicaOfUnsafeRole has a replica whose login sees every tenant's rows: the admin's, which the proof of a table does not
// notice, for policies apply to it, and a superuser's.
func TestReplicaOfUnsafeRole(t *testing.T) { testdb.InBothForms(t, testReplicaOfUnsafeRole) }

func testReplicaOfUnsafeRole(t *testing.T) {
	d := newDatabase(t)
	logins := map[string]string{"the admin": d.Admin.DSN}
	if d.Signed() {
		logins["the owner, who reads the keys"] = d.Owner.DSN
	}
	if dsn := d.superuser(t); dsn != "" {
		logins["a superuser"] = dsn
	}
	for name, dsn := range logins {
		connector, err := stdlib.GetDefaultDriver().(*stdlib.Driver).OpenConnector(dsn)
		require.NoError(t, err)
		for _, a := range arrangements {
			t.Run(name+", "+a.String(), func(t *testing.T) {
				// When Use fails, only this test can close the pool.
				pool := tenancy.OpenDB(connector, d.Config())
				if !a.tenancyFirst {
					require.NoError(t, pool.Close())
					pool = sql.OpenDB(connector)
				}
				t.Cleanup(func() { require.NoError(t, pool.Close()) })
				resolver := dbresolver.Register(dbresolver.Config{
					Replicas: []gorm.Dialector{postgres.New(postgres.Config{Conn: pool})},
				})
				if a.tenancyFirst {
					db := a.open(t, d.dsn, d.Config())
					require.ErrorIs(t, db.Use(resolver), tenancy.ErrUnsafeRole)
					return
				}
				// The replica is seen for the first time when dbresolver chooses it.
				var refused []string
				cfg := d.Config()
				cfg.OnRefuse = func(_ context.Context, r tenancy.Refusal) { refused = append(refused, r.Operation) }
				tx := a.open(t, d.dsn, cfg, resolver).WithContext(d.newPair(t).ctx())
				for range 2 {
					refused = nil
					require.ErrorIs(t, tx.First(&Note{}).Error, tenancy.ErrUnsafeRole)
					require.ErrorIs(t, tx.Raw("SELECT count(*) FROM notes").Scan(new(int)).Error, tenancy.ErrUnsafeRole)
					require.ErrorIs(t, tx.Raw("SELECT count(*) FROM notes").Row().Scan(new(int)), tenancy.ErrUnsafeRole)
					err := tx.Clauses(dbresolver.Read).Transaction(func(tx *gorm.DB) error {
						return tx.Raw("SELECT count(*) FROM notes").Scan(new(int)).Error
					})
					require.ErrorIs(t, err, tenancy.ErrUnsafeRole)
					require.Equal(t, []string{"resolve", "resolve", "resolve", "resolve"}, refused, "each once")
					require.NoError(t, tx.Create(&Note{}).Error, "a write, at the source")
				}
			})
		}
	}
}
