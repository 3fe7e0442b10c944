// Package tenanttest_test tests package tenanttest against a real PostgreSQL.
package tenanttest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tenanttest"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

type Patient struct {
	ID       int64
	TenantID string
	Name     string
}

type Invoice struct {
	ID       int64
	TenantID string
}

// recorder is the test of an application: it keeps what it is told.
type recorder struct {
	testing.TB
	errors, logs []string
}

func (*recorder) Helper() {}

func (r *recorder) Error(args ...any) { r.errors = append(r.errors, fmt.Sprint(args...)) }

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) Log(args ...any) { r.logs = append(r.logs, fmt.Sprint(args...)) }

func open(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

// recent leaves the errors of the server that the tests happen to run on out of account.
const recent = 190000

func TestCheck(t *testing.T) {
	d := pgserver.New(t)
	owner, app := open(t, d.Owner.DSN), open(t, d.App.DSN)
	isolation := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}
	run := func(db *gorm.DB, i rls.Isolation, opts ...check.Option) *recorder {
		r := &recorder{TB: t}
		tenanttest.Check(r, db, i, append(opts, check.ServerVersion(recent))...)
		return r
	}

	empty := run(owner, isolation)
	require.Len(t, empty.errors, 1, "nothing is proved")
	require.Contains(t, empty.errors[0], "no table has the tenant column")

	_, err := isolation.Migrate(t.Context(), owner, &Patient{}, &Invoice{})
	require.NoError(t, err)
	require.NoError(t, app.Use(tenancy.New(tenancy.Config{})))
	for _, db := range []*gorm.DB{owner, app} {
		require.Equal(t, &recorder{TB: t}, run(db, isolation, check.Models(&Patient{})))
	}

	require.NoError(t, owner.Exec("ALTER TABLE patients DISABLE ROW LEVEL SECURITY").Error)
	require.NoError(t, owner.Exec("ALTER TABLE invoices ALTER COLUMN tenant_id DROP NOT NULL").Error)
	holes := run(owner, isolation)
	require.Len(t, holes.errors, 2, "one for each hole")
	require.True(t, strings.HasPrefix(holes.errors[0], "critical: table-not-enabled: public.patients: "), holes.errors[0])
	require.Contains(t, holes.errors[0], "\n\tALTER TABLE ")
	require.Contains(t, holes.errors[1], "tenant-column-nullable: public.invoices")
	allowed := run(owner, isolation, check.Allow(check.TableNotEnabled, "public.patients", "for this test"),
		check.Allow(check.TenantColumnNullable, "public.invoices", "for this test"))
	require.Empty(t, allowed.errors)

	isolation.AppRole = "nobody_here"
	failed := run(owner, isolation)
	require.Len(t, failed.errors, 1)
	require.Contains(t, failed.errors[0], `could not be checked: rls: role "nobody_here" does not exist`)
}

// What cannot be seen is logged, and is no reason to fail.
func TestCheckLogsWhatItCannotSee(t *testing.T) {
	d := pgserver.New(t)
	owner := open(t, d.Owner.DSN)
	isolation := rls.Isolation{AppRole: d.App.Role}
	_, err := isolation.Migrate(t.Context(), owner, &Patient{})
	require.NoError(t, err)
	dsn, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	dsn.Path = "/" + d.Name
	super := open(t, dsn.String())
	require.NoError(t, super.Exec("REVOKE SELECT ON pg_publication FROM PUBLIC").Error)
	r := &recorder{TB: t}
	tenanttest.Check(r, owner, isolation, check.ServerVersion(recent))
	require.Empty(t, r.errors)
	require.Len(t, r.logs, 1)
	require.Contains(t, r.logs[0], "publications")
}
