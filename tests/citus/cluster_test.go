package citus

import (
	"net/url"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// clusterDSN names the variable with the DSN of a cluster: a superuser of an empty database of its coordinator. The nodes must let the
// coordinator in as the roles that the test makes, tenancy_citus_app and tenancy_citus_admin.
const clusterDSN = "TENANCY_CITUS_DSN"

// coordinators are where an application is tried: the fake, and the cluster if there is one.
func coordinators() map[string]func(t *testing.T) *gorm.DB {
	all := map[string]func(t *testing.T) *gorm.DB{
		"fake": func(t *testing.T) *gorm.DB { return newDistributed(t, models...).client(t) },
	}
	if dsn := os.Getenv(clusterDSN); dsn != "" {
		all["cluster"] = func(t *testing.T) *gorm.DB { return openCluster(t, dsn) }
	}
	return all
}

// openCluster distributes the tables again, and opens GORM as the application.
func openCluster(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	const app, admin, password = "tenancy_citus_app", "tenancy_citus_admin", "tenancy"
	owner := testdb.OpenPlain(t, dsn)
	i := rls.Isolation{Engine: rls.Citus, TenantKeys: true, AppRole: app, AdminRole: admin}
	_, down, err := i.SQL(owner, models...)
	require.NoError(t, err)
	roles := `DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '` + app + `') THEN
			CREATE ROLE ` + admin + ` LOGIN PASSWORD '` + password + `';
			CREATE ROLE ` + app + ` LOGIN NOINHERIT PASSWORD '` + password + `' IN ROLE ` + admin + `;
		END IF; END $$`
	for _, sql := range []string{down, roles, "BEGIN;" + script(t, i, models...) + "COMMIT;"} {
		require.NoError(t, owner.Exec(sql).Error)
	}
	as, err := url.Parse(dsn)
	require.NoError(t, err)
	as.User = url.UserPassword(app, password)
	db, err := testdb.OpenGuarded(t, as.String(), tenancy.Config{Engine: tenancy.Citus, AdminRole: admin})
	require.NoError(t, err)
	return db
}

func TestApplicationWorksOnCoordinators(t *testing.T) {
	for name, open := range coordinators() {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			seed(t, db)
			for _, op := range operations {
				require.NoError(t, op.do(db.WithContext(as(acme))), op.name)
			}
			require.NoError(t, found(db.WithContext(as(globex)).Find(&[]Task{}), 2))
			require.NoError(t, found(db.WithContext(as(globex)).Create(&Project{ID: 1, Name: "the same key"}), 1), "keys are the tenant's own")
			require.NoError(t, db.WithContext(as(globex)).Transaction(func(tx *gorm.DB) error {
				require.NoError(t, tx.Exec(`SET LOCAL app.tenant_id = 'acme'`).Error)
				var others int
				require.NoError(t, tx.Raw(`SELECT count(*) FROM projects WHERE tenant_id <> 'globex'`).Scan(&others).Error)
				require.Zero(t, others)
				return nil
			}))
			require.NoError(t, found(tenancy.Bypass(db, "test").Where("tenant_id IN ?", []string{acme, globex}).Find(&[]Project{}), 3))
			for range 5 {
				for kind := range 5 {
					require.NoError(t, turn(db, acme, globex, kind))
				}
			}
		})
	}
}
