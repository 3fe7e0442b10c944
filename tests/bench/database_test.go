package bench

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// Patient is a row of the table that policies protect, Unprotected the same row of a table without any.
type (
	Patient struct {
		ID        int64  `gorm:"index:,composite:of_tenant,priority:2"`
		TenantID  string `gorm:"index:,composite:of_tenant,priority:1;not null"`
		Name      string
		Email     string
		Age       int
		CreatedAt time.Time
		UpdatedAt time.Time
	}

	Unprotected Patient
)

// row is either.
type row interface{ Patient | Unprotected }

const (
	tenants = 50
	each    = 100 // rows of a tenant
	tenant  = "tenant-25"
	someID  = 25 + 40*tenants // of one of its rows
)

// newDatabase has the same rows and the same indexes in both tables.
func newDatabase(t testing.TB) *pgserver.Database {
	t.Helper()
	d := pgserver.New(t)
	owner := open(t, d.Owner.DSN, true)
	_, err := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}.Migrate(context.Background(), owner, &Patient{})
	require.NoError(t, err)
	require.NoError(t, owner.AutoMigrate(&Unprotected{}))
	for _, sql := range []string{
		"GRANT SELECT, INSERT ON unprotecteds TO " + d.App.Role,
		"GRANT SELECT ON unprotecteds TO " + d.Admin.Role,
		"GRANT USAGE ON SEQUENCE unprotecteds_id_seq TO " + d.App.Role,
		"ALTER TABLE patients NO FORCE ROW LEVEL SECURITY",
		`INSERT INTO patients (tenant_id, name, email, age, created_at, updated_at)
		 SELECT 'tenant-' || t, 'Patient ' || n, 'patient' || n || '@example.com', n, now(), now()
		 FROM generate_series(1, ` + strconv.Itoa(each) + `) n, generate_series(1, ` + strconv.Itoa(tenants) + `) t ORDER BY n, t`,
		`INSERT INTO unprotecteds (tenant_id, name, email, age, created_at, updated_at)
		 SELECT tenant_id, name, email, age, created_at, updated_at FROM patients ORDER BY id`,
		"ALTER TABLE patients FORCE ROW LEVEL SECURITY",
		"VACUUM ANALYZE patients",
		"VACUUM ANALYZE unprotecteds",
	} {
		require.NoError(t, owner.Exec(sql).Error)
	}
	return d
}

// open is GORM without the plugin. Writes begin a transaction unless they are to skip it.
func open(t testing.TB, dsn string, skipTx bool) *gorm.DB {
	t.Helper()
	return openPool(t, postgres.Config{DSN: dsn}, skipTx)
}

func openPool(t testing.TB, cfg postgres.Config, skipTx bool) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.New(cfg), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: skipTx})
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}
