package placement

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// put writes a placement.
func (f *fixture) put(t *testing.T, tenant, server string) {
	t.Helper()
	f.databases[0].AsOwner(t, fmt.Sprintf(`INSERT INTO tenant_placements (tenant, server) VALUES ('%s', '%s')
		ON CONFLICT (tenant) DO UPDATE SET server = EXCLUDED.server`, tenant, server))
}

// where returns the server that places name.
func (f *fixture) where(t *testing.T, places *placement.Places, tenant string) string {
	t.Helper()
	pool, err := places.Place(t.Context(), tenant)
	require.NoError(t, err)
	for name, p := range f.pools {
		if p == pool {
			return name
		}
	}
	return "elsewhere"
}

func (f *fixture) placesWith(t *testing.T, change func(cfg *placement.Config)) *placement.Places {
	t.Helper()
	cfg := placement.Config{Catalog: f.catalog, Servers: f.pools, TTL: time.Hour}
	change(&cfg)
	places, err := placement.New(cfg)
	require.NoError(t, err)
	return places
}

func TestPlaceIsCachedUntilInvalidated(t *testing.T) {
	f := newFixture(t)
	places := f.placesWith(t, func(*placement.Config) {})
	f.put(t, acme, "second")
	require.Equal(t, "second", f.where(t, places, acme))
	f.put(t, acme, "third")
	require.Equal(t, "second", f.where(t, places, acme), "an answer is used until TTL")
	places.Invalidate(globex)
	require.Equal(t, "second", f.where(t, places, acme))
	places.Invalidate(acme)
	require.Equal(t, "third", f.where(t, places, acme))
}

// TestPlaceIsAskedAgainAfterTTL, and refuses tenants when the catalog cannot be read, although it knew them.
func TestPlaceIsAskedAgainAfterTTL(t *testing.T) {
	f := newFixture(t)
	f.put(t, acme, "second")
	require.Equal(t, "second", f.at(t, acme))
	f.put(t, acme, "third")
	require.Eventually(t, func() bool { return f.at(t, acme) == "third" }, waitFor, pollEvery)

	require.NoError(t, f.catalog.Close())
	require.Eventually(t, func() bool { return f.as(acme).Find(&[]Person{}).Error != nil }, waitFor, pollEvery)
	for range 20 {
		require.ErrorIs(t, f.as(acme).Find(&[]Person{}).Error, placement.ErrCatalog)
		require.ErrorIs(t, f.as(globex).Exec(`SELECT 1`).Error, placement.ErrCatalog)
	}
}

func TestPlaceRefuses(t *testing.T) {
	f := newFixture(t)
	f.put(t, acme, "fourth")
	strict := f.placesWith(t, func(*placement.Config) {})
	_, err := strict.Place(t.Context(), acme)
	require.ErrorIs(t, err, placement.ErrNoServer, "a server that is not configured")
	require.ErrorIs(t, f.as(acme).Find(&[]Person{}).Error, placement.ErrNoServer, "and not the default")
	_, err = strict.Place(t.Context(), globex)
	require.ErrorIs(t, err, placement.ErrNoServer, "no placement, and no default")
	lax := f.placesWith(t, func(cfg *placement.Config) { cfg.Default = "second" })
	require.Equal(t, "second", f.where(t, lax, globex))

	f.databases[0].AsOwner(t, `UPDATE tenant_placements SET server = 'second', state = 'moving', other = 'third'`)
	_, err = strict.Place(t.Context(), acme)
	require.ErrorIs(t, err, placement.ErrMoving)
	f.databases[0].AsOwner(t, `UPDATE tenant_placements SET state = 'copying'`)
	require.Equal(t, "second", f.where(t, strict, acme), "that it is refused was not kept")

	writer := f.placesWith(t, func(cfg *placement.Config) { cfg.Catalog = f.owners["first"] })
	_, err = writer.Place(t.Context(), acme)
	require.ErrorIs(t, err, placement.ErrCatalog)
	require.ErrorContains(t, err, "can only read it")
}

func TestPlaceConfigIsRefused(t *testing.T) {
	pool, other := &sql.DB{}, &sql.DB{}
	for text, cfg := range map[string]placement.Config{
		"Catalog is nil":     {Servers: map[string]*sql.DB{"a": pool}},
		"Servers is empty":   {Catalog: pool},
		"cannot be negative": {Catalog: pool, Servers: map[string]*sql.DB{"a": other}, TTL: -1},
		"does not have":      {Catalog: pool, Servers: map[string]*sql.DB{"a": other}, Default: "b"},
		"no name or no pool": {Catalog: pool, Servers: map[string]*sql.DB{"a": nil}},
		"open another pool":  {Catalog: pool, Servers: map[string]*sql.DB{"a": pool}},
	} {
		_, err := placement.New(cfg)
		require.ErrorContains(t, err, text)
	}
}

// TestPlaceIsAskedOnceAtATime: many statements of one tenant are one question; one that is cancelled does not wait, and cancels it for no other.
func TestPlaceIsAskedOnceAtATime(t *testing.T) {
	f := newFixture(t)
	f.put(t, acme, "second")
	places := f.placesWith(t, func(*placement.Config) {})
	tx, err := f.owners["first"].Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`LOCK TABLE tenant_placements IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)

	impatient, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := places.Place(impatient, acme); first <- err }()
	require.Eventually(t, func() bool { return f.catalog.Stats().InUse == 1 }, waitFor, pollEvery)
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)

	var all sync.WaitGroup
	answers := make(chan error, 50)
	for range 50 {
		all.Go(func() { _, err := places.Place(context.Background(), acme); answers <- err })
	}
	require.Equal(t, 1, f.catalog.Stats().InUse)
	require.NoError(t, tx.Rollback())
	all.Wait()
	close(answers)
	for err := range answers {
		require.NoError(t, err)
	}
	require.LessOrEqual(t, f.catalog.Stats().OpenConnections, 1, "one question")
}

// TestPlaceDoesNotUseLateAnswers: a catalog that answers after TTL has said nothing.
func TestPlaceDoesNotUseLateAnswers(t *testing.T) {
	f := newFixture(t)
	f.put(t, acme, "second")
	places := f.placesWith(t, func(cfg *placement.Config) { cfg.TTL = 50 * time.Millisecond })
	tx, err := f.owners["first"].Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`LOCK TABLE tenant_placements IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	_, err = places.Place(t.Context(), acme)
	require.ErrorIs(t, err, placement.ErrCatalog)
	require.NoError(t, tx.Rollback())
}

// TestPlaceNeedsNoConnectionOfServers: with one connection each, statements that hold one ask, and none waits for itself.
func TestPlaceNeedsNoConnectionOfServers(t *testing.T) {
	f := newFixture(t)
	f.put(t, globex, "second")
	f.catalog.SetMaxOpenConns(1)
	for _, pool := range f.pools {
		pool.SetMaxOpenConns(1)
	}
	var all sync.WaitGroup
	errs := make(chan error, 40)
	for n := range 20 {
		for _, tenant := range []string{acme, globex} {
			all.Go(func() {
				f.places.Invalidate(tenant)
				errs <- f.as(tenant).Create(&Word{Word: fmt.Sprint(n)}).Error
			})
		}
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil { // a question that waited for the catalog's one connection for too long
			require.ErrorIs(t, err, placement.ErrCatalog)
		}
	}
	counts, _ := f.rows(t, acme)
	require.Zero(t, counts[1])
	require.Zero(t, f.catalog.Stats().InUse)
}

// TestTenantCannotMoveItself: raw SQL of a tenant writes no placement, and its temporary tables are not asked.
func TestTenantCannotMoveItself(t *testing.T) {
	f := newFixture(t)
	f.put(t, acme, "first")
	f.put(t, globex, "second")
	pool, err := f.db.DB()
	require.NoError(t, err)
	for _, statement := range []string{
		`UPDATE tenant_placements SET server = 'second'`,
		`UPDATE tenant_placements SET server = 'second' WHERE tenant = 'globex'`,
		`INSERT INTO tenant_placements (tenant, server) VALUES ('new', 'third')`,
		`INSERT INTO tenant_placements (tenant, server) VALUES ('acme', 'third') ON CONFLICT (tenant) DO UPDATE SET server = EXCLUDED.server`,
		`DELETE FROM tenant_placements`,
		`TRUNCATE tenant_placements`,
		`SELECT * FROM tenant_placements FOR UPDATE`,
		`DO 'BEGIN LOCK TABLE tenant_placements IN ACCESS EXCLUSIVE MODE; END'`,
		`CREATE TRIGGER t BEFORE UPDATE ON tenant_placements FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
		`ALTER TABLE tenant_placements DISABLE ROW LEVEL SECURITY`,
		`DROP TABLE tenant_placements`,
	} {
		require.ErrorContains(t, f.as(acme).Exec(statement).Error, "42501", statement)
		_, err := pool.ExecContext(as(acme), statement)
		require.ErrorContains(t, err, "42501", statement)
		require.ErrorContains(t, f.db.WithContext(without()).Exec(statement).Error, "42501", statement)
	}
	require.Error(t, f.as(acme).Save(&placement.Placement{Tenant: acme, Server: "third"}).Error)
	require.Error(t, f.as(acme).Create(&placement.Placement{Tenant: "new", Server: "third"}).Error)

	// What the name means is not up to a session, even if one of the catalog's were a tenant's.
	f.catalog.SetMaxOpenConns(1)
	for _, statement := range []string{
		`CREATE TEMPORARY TABLE tenant_placements AS SELECT 'acme'::text AS tenant, 'third'::text AS server, 'placed'::text AS state`,
		`SET search_path = pg_temp, public`,
	} {
		_, err := f.catalog.Exec(statement)
		require.NoError(t, err)
	}
	f.places.Invalidate(acme)
	require.Equal(t, "first", f.where(t, f.places, acme))
	require.Equal(t, "first", f.state(t, acme).Server)
	require.Equal(t, "second", f.state(t, globex).Server)
}

// TestSQLMakesTable for a login that tenants do not have: the application cannot even read it.
func TestSQLMakesTable(t *testing.T) {
	d := testdb.New(t, &Org{})
	d.AsOwner(t, placement.SQL(d.Admin.Role), placement.SQL(d.Admin.Role), `INSERT INTO tenant_placements (tenant, server) VALUES ('acme', 'first')`)
	app := testdb.OpenSQL(t, d.App.DSN)
	_, err := app.Exec(`SELECT * FROM tenant_placements`)
	require.ErrorContains(t, err, "42501")
	places, err := placement.New(placement.Config{Catalog: testdb.OpenSQL(t, d.Admin.DSN), Servers: map[string]*sql.DB{"first": app}})
	require.NoError(t, err)
	found, err := places.Place(t.Context(), acme)
	require.NoError(t, err)
	require.Same(t, app, found)
}
