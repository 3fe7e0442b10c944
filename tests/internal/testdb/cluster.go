package testdb

import (
	"net/url"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
)

// clusterDSN names the variable with the DSN of a cluster of Citus: a superuser of an empty database of its coordinator. The nodes must let
// the coordinator in as the roles that Cluster makes.
const clusterDSN = "TENANCY_CITUS_DSN"

// Cluster is the coordinator of a cluster of Citus.
type Cluster struct {
	DSN, AppDSN string // of a superuser, who owns the tables, and of the application
	OwnerDB     *gorm.DB
	Isolation   rls.Isolation
}

// HasCluster reports whether there is one.
func HasCluster() bool { return os.Getenv(clusterDSN) != "" }

// NewCluster makes the roles, and drops the tables of the models.
func NewCluster(t testing.TB, models []any, opts ...Option) Cluster {
	t.Helper()
	const app, admin, password = "tenancy_citus_app", "tenancy_citus_admin", "tenancy"
	c := Cluster{
		DSN:       os.Getenv(clusterDSN),
		Isolation: rls.Isolation{Engine: rls.Citus, TenantKeys: true, AppRole: app, AdminRole: admin},
	}
	c.OwnerDB = OpenPlain(t, c.DSN, opts...)
	_, down, err := c.Isolation.SQL(c.OwnerDB, models...)
	require.NoError(t, err)
	roles := `DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '` + app + `') THEN
			CREATE ROLE ` + admin + ` LOGIN PASSWORD '` + password + `';
			CREATE ROLE ` + app + ` LOGIN NOINHERIT PASSWORD '` + password + `' IN ROLE ` + admin + `;
		END IF; END $$`
	for _, sql := range []string{down, roles} {
		require.NoError(t, c.OwnerDB.Exec(sql).Error)
	}
	as, err := url.Parse(c.DSN)
	require.NoError(t, err)
	as.User = url.UserPassword(app, password)
	c.AppDSN = as.String()
	return c
}
