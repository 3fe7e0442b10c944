// Package placement tests where tenants live, and how they move. Three databases on one server are three servers to the plugin.
package placement

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(killedMove); job != "" {
		os.Exit(killed(job))
	}
	pgserver.Main(m)
}

// How long conditions are waited for, and how often they are looked at.
const (
	waitFor   = time.Minute
	pollEvery = 10 * time.Millisecond
)

// Org is the table of tenants.
type Org struct {
	ID   string `gorm:"primaryKey"`
	Name string
}

func (Org) TenantOwnRows() {}

// Country is shared.
type Country struct {
	ID   int64
	Name string
}

func (Country) TenantShared() {}

// Person refers to shared rows, and to rows of the same table.
type Person struct {
	ID        int64
	TenantID  string `gorm:"uniqueIndex:one_place"`
	Name      string
	Place     *int64 `gorm:"uniqueIndex:one_place"` // which rows may exchange
	CountryID *int64
	Country   *Country
	BossID    *int64
	Boss      *Person
	Tags      []byte
}

// Letter is a child of a person, with a UUID.
type Letter struct {
	ID       string `gorm:"primaryKey;type:uuid;default:gen_random_uuid()"`
	TenantID string
	PersonID int64
	Person   Person
	Text     string
	Sent     time.Time
}

// Word has a text for a key.
type Word struct {
	TenantID string `gorm:"primaryKey"`
	Word     string `gorm:"primaryKey"`
	Count    int64
}

var models = []any{&placement.Placement{}, &Org{}, &Country{}, &Person{}, &Letter{}, &Word{}}

const (
	acme   = testdb.Acme
	globex = testdb.Globex
	ttl    = placement.DefaultTTL
)

var (
	as    = testdb.As
	names = [3]string{"first", "second", "third"}
)

// fixture is an application whose tenants live in three databases.
type fixture struct {
	databases [3]*testdb.Database
	pools     map[string]*sql.DB // of the application
	owners    map[string]*sql.DB
	catalog   *sql.DB // which reads
	places    *placement.Places
	db        *gorm.DB
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{pools: map[string]*sql.DB{}, owners: map[string]*sql.DB{}}
	for n, name := range names {
		d := testdb.New(t, models...)
		f.databases[n] = d
		d.AsOwner(t, `INSERT INTO countries (id, name) SELECT i, 'country ' || i FROM generate_series(1, 5) i`,
			fmt.Sprintf(`ALTER SEQUENCE people_id_seq RESTART %d`, 1+n*1_000_000_000))
		f.pools[name] = testdb.OpenSQL(t, d.App.DSN)
		f.owners[name] = testdb.OpenSQL(t, d.Owner.DSN)
	}
	f.catalog = testdb.OpenSQL(t, f.databases[0].App.DSN)
	f.places = f.newPlaces(t)
	cfg := f.databases[0].Config()
	cfg.Place = f.places.Place
	f.db = f.databases[0].Open(t, cfg, testdb.Pool(f.pools["first"]))
	return f
}

func (f *fixture) newPlaces(t *testing.T) *placement.Places {
	t.Helper()
	places, err := placement.New(placement.Config{Catalog: f.catalog, Servers: f.pools, Default: "first", TTL: ttl})
	require.NoError(t, err)
	return places
}

// mover moves without a pause.
func (f *fixture) mover() placement.Mover {
	return placement.Mover{
		Catalog: f.owners["first"], Servers: f.owners, Default: "first", TTL: ttl, Grace: time.Nanosecond, StopTimeout: 2 * time.Minute,
		Isolation: f.databases[0].Isolation(), Actor: "a test", Logger: testdb.Quiet,
	}
}

// as returns the client of a tenant.
func (f *fixture) as(tenant string) *gorm.DB { return f.db.WithContext(as(tenant)) }

// sign signs a tenant up, with some rows.
func (f *fixture) signUp(t *testing.T, tenant string, people int) {
	t.Helper()
	db := f.as(tenant)
	require.NoError(t, db.Create(&Org{ID: tenant, Name: "Org"}).Error)
	country := int64(3)
	boss := Person{Name: "boss", CountryID: &country}
	require.NoError(t, db.Create(&boss).Error)
	for n := range people {
		p := Person{Name: fmt.Sprint("person ", n), BossID: &boss.ID, Tags: []byte{0, 0xff, byte(n)}}
		require.NoError(t, db.Create(&p).Error)
		require.NoError(t, db.Create(&Letter{PersonID: p.ID, Text: "a letter with 'quotes', \"more\" and ü", Sent: time.Now()}).Error)
		require.NoError(t, db.Create(&Word{Word: fmt.Sprint("wörd ", n), Count: int64(n)}).Error)
	}
}

// rows returns how many rows a tenant has on each server, and a checksum of them.
func (f *fixture) rows(t *testing.T, tenant string) (counts [3]int, sums [3]string) {
	t.Helper()
	for n, d := range f.databases {
		require.NoError(t, d.AdminDB.Raw(`SELECT count(*), coalesce(md5(string_agg(x, E'\n' ORDER BY x)), '') FROM (
			SELECT 'org ' || o::text x FROM orgs o WHERE id = @t UNION ALL SELECT 'person ' || p::text FROM people p WHERE tenant_id = @t
			UNION ALL SELECT 'letter ' || l::text FROM letters l WHERE tenant_id = @t UNION ALL SELECT 'word ' || w::text FROM words w WHERE tenant_id = @t) all_rows`,
			sql.Named("t", tenant)).Row().Scan(&counts[n], &sums[n]))
	}
	return counts, sums
}

// state returns the placement of a tenant.
func (f *fixture) state(t *testing.T, tenant string) (p placement.Placement) {
	t.Helper()
	require.NoError(t, f.databases[0].OwnerDB.Where("tenant = ?", tenant).Limit(1).Find(&p).Error)
	return p
}

func (f *fixture) at(t *testing.T, tenant string) (database string) {
	t.Helper()
	require.NoError(t, f.as(tenant).Raw(`SELECT current_database()`).Scan(&database).Error)
	for n, d := range f.databases {
		if d.Name == database {
			return names[n]
		}
	}
	return "elsewhere"
}

// without returns a context for statements of no tenant.
func without() context.Context { return tenancy.WithoutTenant(context.Background()) }
