package compat

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/plugin/optimisticlock"
	"gorm.io/plugin/soft_delete"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/compat/replica"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
	"github.com/gormtenancy/tenancy/tests/wire"
)

// The models are a tenant's, all of them.
type (
	Note struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Text     string
	}

	Order struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Item     string
	}

	// Account is guarded by optimisticlock.
	Account struct {
		ID       int64
		TenantID string `gorm:"not null"`
		Balance  int
		Version  optimisticlock.Version
	}

	// Flagged, Timed and Stamped are what soft_delete makes of a column.
	Flagged struct {
		ID        int64
		TenantID  string `gorm:"not null"`
		Name      string
		IsDeleted soft_delete.DeletedAt `gorm:"softDelete:flag"`
	}

	Timed struct {
		ID        int64
		TenantID  string `gorm:"not null"`
		Name      string
		DeletedAt soft_delete.DeletedAt `gorm:"softDelete:milli"`
	}

	Stamped struct {
		ID        int64
		TenantID  string `gorm:"not null"`
		Name      string
		RemovedAt int64
		IsDeleted soft_delete.DeletedAt `gorm:"softDelete:flag,DeletedAtField:RemovedAt"`
	}
)

var models = []any{&Note{}, &Order{}, &Account{}, &Flagged{}, &Timed{}, &Stamped{}}

// database is a migrated database behind a proxy that counts, and a plain client that sees and changes everything.
type database struct {
	*testdb.Database

	dsn     string // of the application, through the proxy
	traffic *wire.Proxy
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{Database: testdb.New(t, models...)}
	d.serve(t)
	return d
}

func (d *database) serve(t testing.TB) {
	t.Helper()
	d.traffic, d.dsn = wire.Start(t, d.App.DSN)
}

// replicated is a database that has a replica, behind a proxy of its own.
type replicated struct {
	*database
	replica        *replica.Replica
	replicaDSN     string
	replicaTraffic *wire.Proxy
}

func newReplicated(t testing.TB) *replicated {
	t.Helper()
	d := &replicated{database: &database{Database: testdb.New(t, models...)}}
	d.replica = replica.Of(t, d.Database.Database)
	d.serve(t)
	d.replicaTraffic, d.replicaDSN = wire.Start(t, d.replica.DSN(t, d.App.DSN))
	return d
}

// pair is two tenants that no other test uses, with the same kind of rows.
type pair struct {
	me, other    string
	mine, theirs []Note
}

var pairs atomic.Int64

func (d *database) newPair(t testing.TB) *pair {
	t.Helper()
	n := pairs.Add(1)
	two := &pair{me: fmt.Sprintf("me-%d", n), other: fmt.Sprintf("other-%d", n)}
	two.mine, two.theirs = notesOf(two.me), notesOf(two.other)
	for _, rows := range []any{
		two.mine, two.theirs,
		[]Order{{TenantID: two.me, Item: "mine"}, {TenantID: two.other, Item: "theirs"}},
	} {
		require.NoError(t, d.AdminDB.Create(rows).Error)
	}
	return two
}

func notesOf(tenant string) []Note {
	return []Note{{TenantID: tenant, Text: "one"}, {TenantID: tenant, Text: "two"}, {TenantID: tenant, Text: "three"}}
}

func (two *pair) ctx() context.Context { return tenancy.WithTenant(context.Background(), two.me) }

// state is all rows of a tenant, as text.
func (d *database) state(t testing.TB, tenant string) (rows []string) {
	t.Helper()
	for _, table := range []string{"notes", "orders", "accounts", "flaggeds", "timeds", "stampeds"} {
		var some []string
		require.NoError(t, d.AdminDB.Raw(
			"SELECT '"+table+" ' || t::text FROM "+table+" t WHERE tenant_id = ? ORDER BY 1", tenant).Scan(&some).Error)
		rows = append(rows, some...)
	}
	return rows
}

func ids(notes []Note) (ids []int64) {
	for _, n := range notes {
		ids = append(ids, n.ID)
	}
	slices.Sort(ids)
	return ids
}

// newBare is a database with the tables, and without policies.
func newBare(t testing.TB) *testdb.Database {
	t.Helper()
	d := testdb.New(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(models...))
	d.AsOwner(t, "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO "+d.App.Role)
	return d
}

// superuser is a superuser's login at the database, or "" where TENANCY_DSN names a login that is none.
func (d *database) superuser(t testing.TB) string {
	t.Helper()
	dsn := d.SuperuserDSN(t)
	var is bool
	require.NoError(t, testdb.OpenPlain(t, dsn).Raw("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&is).Error)
	if !is {
		return ""
	}
	return dsn
}
