package testdb

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// Database is a database of its own for one test. The logins of its owner, of the application and of the admin are those
// of pgserver.
type Database struct {
	*pgserver.Database

	// OwnerDB and AdminDB are GORM without the plugin, as the owner, which is bound by all policies, and as the admin's
	// role, which sees and changes all tenants' rows. They connect when they are used.
	OwnerDB, AdminDB *gorm.DB

	signed     *signed // nil where policies go by the setting alone
	tenantKeys bool
	partition  []rls.Partitioned
}

// New makes a database on the shared server, and migrates it for the models with Isolation. Without models it is empty. Within InBothForms
// it does what NewSigned does where that says so.
func New(t testing.TB, models ...any) *Database {
	t.Helper()
	if InSignedForm(t) {
		return NewSigned(t, models...)
	}
	return Of(t, pgserver.New(t), models...)
}

// NewTenantKeys does what New does for a database whose primary keys begin with the tenant column: Isolation has TenantKeys.
func NewTenantKeys(t testing.TB, models ...any) *Database {
	t.Helper()
	d := New(t)
	d.tenantKeys = true
	if len(models) > 0 {
		d.Migrate(t, d.Isolation(), models...)
	}
	return d
}

// NewPartitioned does what NewTenantKeys does, with the tables of the models that are named partitioned as p says, of any model.
func NewPartitioned(t testing.TB, p rls.Partitioned, partitioned []any, models ...any) *Database {
	t.Helper()
	d := NewTenantKeys(t)
	for _, p.Model = range partitioned {
		d.partition = append(d.partition, p)
	}
	if len(models) > 0 {
		d.Migrate(t, d.Isolation(), models...)
	}
	return d
}

// TenantKeys reports whether primary keys begin with the tenant column, so that tenants can have the same ids.
func (d *Database) TenantKeys() bool { return d.tenantKeys }

// Of does what New does, with a database of any server.
func Of(t testing.TB, database *pgserver.Database, models ...any) *Database {
	t.Helper()
	d := &Database{
		Database: database,
		OwnerDB:  OpenPlain(t, database.Owner.DSN, withoutPing),
		AdminDB:  OpenPlain(t, database.Admin.DSN, withoutPing),
	}
	if len(models) > 0 {
		d.Migrate(t, d.Isolation(), models...)
	}
	return d
}

func withoutPing(s *setup) { s.gorm.DisableAutomaticPing = true }

// Isolation has the database's roles, and the default of everything else.
func (d *Database) Isolation() rls.Isolation {
	i := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role, TenantKeys: d.tenantKeys, Partition: d.partition}
	if d.signed != nil {
		i.Signed, i.SignerRole = true, d.signed.signer
	}
	return i
}

// Config has the admin's role or, with a key, its login, and the default of everything else.
func (d *Database) Config() tenancy.Config {
	if d.signed != nil {
		admin, err := d.AdminDB.DB()
		if err != nil {
			panic("testdb: " + err.Error())
		}
		return tenancy.Config{AdminDB: admin, SigningKeys: tenancy.FixedSigningKeys(d.signed.key), Logger: Quiet}
	}
	return tenancy.Config{AdminRole: d.Admin.Role, Logger: Quiet}
}

// Migrate migrates as the owner, and returns the changes.
func (d *Database) Migrate(t testing.TB, isolation rls.Isolation, models ...any) []rls.Change {
	t.Helper()
	result, err := isolation.Migrate(t.Context(), d.OwnerDB, models...)
	changes := result.Changes
	require.NoError(t, err)
	return changes
}

// AsOwner runs statements as the owner, on a connection of OwnerDB.
func (d *Database) AsOwner(t testing.TB, statements ...string) {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	for _, statement := range statements {
		_, err := pool.ExecContext(context.WithoutCancel(t.Context()), statement)
		require.NoError(t, err, statement)
	}
}

// AsSuperuser runs statements in one session of the superuser. It also works while the test is cleaned up.
func (d *Database) AsSuperuser(t testing.TB, statements ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, d.SuperuserDSN(t))
	require.NoError(t, err)
	defer conn.Close(ctx)
	for _, statement := range statements {
		_, err := conn.Exec(ctx, statement)
		require.NoError(t, err, statement)
	}
}

// SuperuserDSN leads to this database on the shared server, with the login that made the server's roles: a superuser,
// unless TENANCY_DSN names another.
func (d *Database) SuperuserDSN(t testing.TB) string {
	t.Helper()
	dsn, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	dsn.Path = "/" + d.Name
	return dsn.String()
}
