// Package servers tests tenants that live on several PostgreSQL servers.
package servers

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// Note is a tenant's.
type Note struct {
	ID       int64
	TenantID string
	Text     string
}

// Remark is one, too.
type Remark struct {
	ID       int64
	TenantID string
	Text     string
}

// Country is shared.
type Country struct {
	ID   int64
	Name string
}

const (
	acme   = testdb.Acme
	globex = testdb.Globex
)

var as = testdb.As

// fixture is a client whose tenants live in three databases. To the plugin a pool is a server.
type fixture struct {
	databases [3]*testdb.Database
	pools     [3]*sql.DB
	places    sync.Map // error or index of a database, by tenant
	db        *gorm.DB // on the first
}

// newFixture places acme on the second server and globex on the third.
func newFixture(t *testing.T, change func(f *fixture, cfg *tenancy.Config)) *fixture {
	t.Helper()
	return newFixtureOf(t, testdb.New, change)
}

func newFixtureOf(t *testing.T, newDatabase func(testing.TB, ...any) *testdb.Database, change func(f *fixture, cfg *tenancy.Config)) *fixture {
	t.Helper()
	f := &fixture{}
	for n := range f.databases {
		f.databases[n] = newDatabase(t, &Note{}, &Remark{}, &Country{})
		f.databases[n].AsOwner(t, `INSERT INTO countries (name) VALUES (current_database())`)
	}
	return f.again(t, change)
}

// again is another client of the same databases.
func (f *fixture) again(t *testing.T, change func(f *fixture, cfg *tenancy.Config)) *fixture {
	t.Helper()
	f = &fixture{databases: f.databases}
	for n := range f.databases {
		f.pools[n] = testdb.OpenSQL(t, f.databases[n].App.DSN)
	}
	f.places.Store(acme, 1)
	f.places.Store(globex, 2)
	cfg := f.databases[0].Config()
	cfg.AdminDB = nil // which is one server
	cfg.Place = f.place
	if change != nil {
		change(f, &cfg)
	}
	f.db = f.databases[0].Open(t, cfg, testdb.Pool(f.pools[0]))
	return f
}

func (f *fixture) place(_ context.Context, tenant string) (*sql.DB, error) {
	switch at, _ := f.places.Load(tenant); at := at.(type) {
	case int:
		return f.pools[at], nil
	case error:
		return nil, at
	default:
		return f.pools[0], nil
	}
}

// notes returns the texts of a tenant's notes on each server.
func (f *fixture) notes(t *testing.T, tenant string) (on [3][]string) {
	t.Helper()
	for n, d := range f.databases {
		require.NoError(t, d.AdminDB.Model(&Note{}).Where("tenant_id = ?", tenant).Order("id").Pluck("text", &on[n]).Error)
	}
	return on
}

// where returns the name of the database that a statement of db reaches.
func where(t *testing.T, db *gorm.DB) (name string) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT current_database()`).Scan(&name).Error)
	return name
}
