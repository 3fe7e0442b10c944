// Package plugin_test tests package tenancy against a real PostgreSQL: what the plugin asks it, and what it answers.
package plugin_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

type Doctor struct {
	ID       int64
	TenantID string
	Name     string
	Patients []Patient
}

type Patient struct {
	ID       int64
	TenantID string
	Name     string
	DoctorID *int64
	Doctor   *Doctor
}

type Country struct {
	ID   int64
	Name string
}

type Membership struct {
	ID       int64
	TenantID string
	UserName string
}

func (Membership) TenantShared() {}

const (
	acme   = "acme"
	globex = "globex"
)

func as(tenant string) context.Context { return tenancy.WithTenant(context.Background(), tenant) }

// database is a fresh database with two tenants, each with one doctor of one patient.
type database struct {
	*pgserver.Database
	owner *gorm.DB
}

func newDatabase(t *testing.T) database {
	t.Helper()
	d := database{Database: pgserver.New(t)}
	d.owner = openPlain(t, d.Owner.DSN, &gorm.Config{})
	_, err := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}.
		Migrate(t.Context(), d.owner, &Doctor{}, &Patient{}, &Country{}, &Membership{})
	require.NoError(t, err)
	db := d.open(t, tenancy.Config{})
	for _, tenant := range []string{acme, globex} {
		require.NoError(t, db.WithContext(as(tenant)).Create(&Patient{
			Name: tenant + "'s patient", Doctor: &Doctor{Name: tenant + "'s doctor"},
		}).Error)
	}
	return d
}

// quiet is a log that is enabled, and that no one reads.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// open opens GORM as the application, with the plugin.
func (d database) open(t *testing.T, cfg tenancy.Config, opts ...func(*gorm.Config)) *gorm.DB {
	t.Helper()
	db, err := d.use(t, d.App.DSN, cfg, opts...)
	require.NoError(t, err)
	return db
}

func (d database) use(t *testing.T, dsn string, cfg tenancy.Config, opts ...func(*gorm.Config)) (*gorm.DB, error) {
	t.Helper()
	config := &gorm.Config{}
	for _, opt := range opts {
		opt(config)
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	db := openPlain(t, dsn, config)
	return db, db.Use(tenancy.New(cfg))
}

func openPlain(t *testing.T, dsn string, config *gorm.Config) *gorm.DB {
	t.Helper()
	config.Logger = logger.Discard
	db, err := gorm.Open(postgres.Open(dsn), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

func prepareStmt(c *gorm.Config) { c.PrepareStmt = true }

// own runs statements as the owner.
func (d database) own(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		require.NoError(t, d.owner.Exec(statement).Error, statement)
	}
}

// super runs statements as the superuser, in this database.
func (d database) super(t *testing.T, statements ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, d.superDSN(t))
	require.NoError(t, err)
	defer conn.Close(ctx)
	for _, statement := range statements {
		_, err := conn.Exec(ctx, statement)
		require.NoError(t, err, statement)
	}
}

func (d database) superDSN(t *testing.T) string {
	t.Helper()
	dsn, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	dsn.Path = d.Name
	return dsn.String()
}

// login returns the DSN of another role, whose password is its name.
func (d database) login(t *testing.T, role string) string {
	t.Helper()
	dsn, err := url.Parse(d.App.DSN)
	require.NoError(t, err)
	dsn.User = url.UserPassword(role, role)
	return dsn.String()
}

// logins counts those that were made.
var logins atomic.Int64

// newLogin makes a login that inherits the rights of the application's role, and returns its name, which is its password.
func (d database) newLogin(t *testing.T, attributes string) string {
	t.Helper()
	name := fmt.Sprintf("%s_login_%d", d.Name, logins.Add(1))
	d.super(t, fmt.Sprintf("CREATE ROLE %s LOGIN %s PASSWORD '%[1]s' IN ROLE %[3]s", name, attributes, d.App.Role))
	t.Cleanup(func() { d.super(t, "DROP ROLE "+name) })
	return name
}

// eachMode runs test with a client of every execution mode of pgx, with and without GORM's prepared statements.
func (d database) eachMode(t *testing.T, cfg tenancy.Config, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		for name, prepare := range map[string]bool{"plain": false, "prepared": true} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				db, err := d.use(t, d.App.DSN+"&default_query_exec_mode="+mode, cfg, func(c *gorm.Config) { c.PrepareStmt = prepare })
				require.NoError(t, err)
				test(t, db)
			})
		}
	}
}
