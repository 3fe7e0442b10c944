package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tenanttest"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

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

// recent leaves the errors of the server that the tests happen to run on out of account.
const recent = 190000

func TestTenanttestCheck(t *testing.T) {
	d := testdb.New(t)
	owner, isolation := d.OwnerDB, d.Isolation()
	run := func(db *gorm.DB, i rls.Isolation, opts ...check.Option) *recorder {
		r := &recorder{TB: t}
		tenanttest.CheckWith(r, db, i, append(opts, check.ServerVersion(recent))...)
		return r
	}

	empty := run(owner, isolation)
	require.Len(t, empty.errors, 1, "nothing is proved")
	require.Contains(t, empty.errors[0], "no table has the tenant column")

	d.Migrate(t, isolation, &Patient{}, &Invoice{})
	app := d.Open(t, tenancy.Config{})
	for _, db := range []*gorm.DB{owner, app} {
		require.Equal(t, &recorder{TB: t}, run(db, isolation, check.Models(&Patient{})))
	}

	d.AsOwner(t, "ALTER TABLE patients DISABLE ROW LEVEL SECURITY", "ALTER TABLE invoices ALTER COLUMN tenant_id DROP NOT NULL")
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
	require.Contains(t, failed.errors[0], `could not be checked: tenancy: role "nobody_here" does not exist`)
}

// What cannot be seen is logged, and is no reason to fail.
func TestTenanttestLogsWhatItCannotSee(t *testing.T) {
	d := testdb.New(t)
	isolation := rls.Isolation{AppRole: d.App.Role}
	d.Migrate(t, isolation, &Patient{})
	d.AsSuperuser(t, "REVOKE SELECT ON pg_publication FROM PUBLIC")
	r := &recorder{TB: t}
	tenanttest.CheckWith(r, d.OwnerDB, isolation, check.ServerVersion(recent))
	require.Empty(t, r.errors)
	require.Len(t, r.logs, 1)
	require.Contains(t, r.logs[0], "publications")
}

// The models are the default: a table that lacks the column of its model shows only with them.
func TestTenanttestCheckTakesModels(t *testing.T) {
	d := testdb.New(t)
	isolation := d.Isolation()
	d.Migrate(t, isolation, &Patient{}, &Invoice{})
	check := func(models ...any) []string {
		r := &recorder{TB: t}
		tenanttest.Check(r, d.OwnerDB, isolation, models...)
		return slices.DeleteFunc(r.errors, func(text string) bool { return strings.Contains(text, ": server-") })
	}
	require.Empty(t, check(&Patient{}, &Invoice{}))

	d.AsOwner(t, "DROP TABLE invoices", "CREATE TABLE invoices (id bigint PRIMARY KEY)")
	holes := check(&Patient{}, &Invoice{})
	require.Len(t, holes, 1)
	require.Contains(t, holes[0], "model-column-missing: public.invoices")

	require.Len(t, check(), 1)
	require.Contains(t, check()[0], "no models are given")
	require.Contains(t, check(&Patient{}, allowNothing)[0], "options are for CheckWith")
}

var allowNothing = check.Allow(check.TableNotForced, "public.patients", "for this test")
