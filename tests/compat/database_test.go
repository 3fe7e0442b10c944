package compat

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/optimisticlock"
	"gorm.io/plugin/soft_delete"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/compat/replica"
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
	*pgserver.Database
	admin *gorm.DB

	dsn     string // of the application, through the proxy
	traffic *wire.Proxy
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{Database: pgserver.New(t)}
	d.migrate(t)
	d.serve(t)
	return d
}

func (d *database) migrate(t testing.TB) {
	t.Helper()
	owner := plain(t, d.Owner.DSN)
	_, err := d.isolation().Migrate(t.Context(), owner, models...)
	require.NoError(t, err)
	closePool(t, owner)
}

func (d *database) serve(t testing.TB) {
	t.Helper()
	d.admin = plain(t, d.Admin.DSN)
	d.traffic, d.dsn = wire.Start(t, d.App.DSN)
}

func (d *database) isolation() rls.Isolation {
	return rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}
}

// config is the plugin's.
func (d *database) config() tenancy.Config {
	return tenancy.Config{AdminRole: d.Admin.Role, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
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
	d := &replicated{database: &database{Database: pgserver.New(t)}}
	d.migrate(t)
	d.replica = replica.Of(t, d.Database)
	d.serve(t)
	d.replicaTraffic, d.replicaDSN = wire.Start(t, d.replica.DSN(t, d.App.DSN))
	return d
}

// plain is GORM without the plugin.
func plain(t testing.TB, dsn string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	t.Cleanup(func() { closePool(t, db) })
	return db
}

// closePool does what an application does.
func closePool(t testing.TB, db *gorm.DB) {
	t.Helper()
	pool, err := db.DB()
	require.NoError(t, err)
	require.NoError(t, pool.Close())
}

// named gives the sessions of a DSN a name that SQL can ask for.
func named(t testing.TB, dsn, name string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	q.Set("application_name", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// world is two tenants that nobody else uses, with the same kind of rows.
type world struct {
	me, other    string
	mine, theirs []Note
}

var worlds atomic.Int64

func (d *database) newWorld(t testing.TB) *world {
	t.Helper()
	n := worlds.Add(1)
	w := &world{me: fmt.Sprintf("me-%d", n), other: fmt.Sprintf("other-%d", n)}
	w.mine, w.theirs = notesOf(w.me), notesOf(w.other)
	for _, rows := range []any{
		w.mine, w.theirs,
		[]Order{{TenantID: w.me, Item: "mine"}, {TenantID: w.other, Item: "theirs"}},
	} {
		require.NoError(t, d.admin.Create(rows).Error)
	}
	return w
}

func notesOf(tenant string) []Note {
	return []Note{{TenantID: tenant, Text: "one"}, {TenantID: tenant, Text: "two"}, {TenantID: tenant, Text: "three"}}
}

func (w *world) ctx() context.Context { return tenancy.WithTenant(context.Background(), w.me) }

// state is all rows of a tenant, as text.
func (d *database) state(t testing.TB, tenant string) (rows []string) {
	t.Helper()
	for _, table := range []string{"notes", "orders", "accounts", "flaggeds", "timeds", "stampeds"} {
		var some []string
		require.NoError(t, d.admin.Raw(
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
func newBare(t testing.TB) *pgserver.Database {
	t.Helper()
	d := pgserver.New(t)
	owner := plain(t, d.Owner.DSN)
	require.NoError(t, owner.AutoMigrate(models...))
	require.NoError(t, owner.Exec("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO "+d.App.Role).Error)
	closePool(t, owner)
	return d
}

// superuser is a superuser's login at the database, or "" where TENANCY_DSN names a login that is none.
func (d *database) superuser(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	u.Path = "/" + d.Name
	var is bool
	require.NoError(t, plain(t, u.String()).Raw("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&is).Error)
	if !is {
		return ""
	}
	return u.String()
}
