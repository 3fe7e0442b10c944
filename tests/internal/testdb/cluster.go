package testdb

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
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
	c.AsOwner(t, down, "-- +goose StatementBegin\n"+roles)
	as, err := url.Parse(c.DSN)
	require.NoError(t, err)
	as.User = url.UserPassword(app, password)
	c.AppDSN = as.String()
	return c
}

// AsOwner runs scripts as the superuser, each in a transaction and statement by statement.
func (c Cluster) AsOwner(t testing.TB, scripts ...string) {
	t.Helper()
	for _, script := range scripts {
		RunScript(t, c.DSN, script)
	}
}

// RunScript runs a script in a transaction and statement by statement, as tools do for which package rls marks the blocks in it.
func RunScript(t testing.TB, dsn, script string) {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer conn.Close(ctx)
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	for n, part := range blocks.Split(script, -1) {
		statements := []string{part}
		if block := n%2 == 1; !block {
			statements = strings.Split(part, ";\n")
		}
		for _, sql := range statements {
			_, err := tx.Exec(ctx, sql)
			require.NoError(t, err, sql)
		}
	}
	require.NoError(t, tx.Commit(ctx))
}

var blocks = regexp.MustCompile(`-- \+goose Statement(?:Begin|End)`)
