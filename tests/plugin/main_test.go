// Package plugin_test tests package tenancy against a real PostgreSQL: what the plugin asks it, and what it answers.
package plugin_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
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
	acme   = testdb.Acme
	globex = testdb.Globex
)

var as = testdb.As

// database has two tenants, each with one doctor of one patient.
type database struct{ *testdb.Database }

func newDatabase(t *testing.T) database {
	t.Helper()
	d := database{testdb.New(t, &Doctor{}, &Patient{}, &Country{}, &Membership{})}
	db := d.Open(t, tenancy.Config{})
	for _, tenant := range []string{acme, globex} {
		require.NoError(t, db.WithContext(as(tenant)).Create(&Patient{
			Name: tenant + "'s patient", Doctor: &Doctor{Name: tenant + "'s doctor"},
		}).Error)
	}
	return d
}

// login returns the DSN of another role, whose password is its name.
func (d database) login(role string) string { return testdb.WithLogin(d.App.DSN, role, role) }

// logins counts those that were made.
var logins atomic.Int64

// newLogin makes a login that inherits the rights of the application's role, and returns its name, which is its password.
func (d database) newLogin(t *testing.T, attributes string) string {
	t.Helper()
	name := fmt.Sprintf("%s_login_%d", d.Name, logins.Add(1))
	d.AsSuperuser(t, fmt.Sprintf("CREATE ROLE %s LOGIN %s PASSWORD '%s' IN ROLE %s", name, attributes, pgserver.Verifier(name), d.App.Role))
	t.Cleanup(func() { d.AsSuperuser(t, "DROP ROLE "+name) })
	return name
}

// eachMode runs test with a client of every execution mode of pgx, with and without GORM's prepared statements.
func (d database) eachMode(t *testing.T, cfg tenancy.Config, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	for _, mode := range d.Modes() {
		for name, prepare := range map[string]bool{"plain": false, "prepared": true} {
			t.Run(testdb.ModeName(mode)+"/"+name, func(t *testing.T) {
				test(t, d.Open(t, cfg, testdb.Mode(mode), testdb.Prepared(prepare)))
			})
		}
	}
}
