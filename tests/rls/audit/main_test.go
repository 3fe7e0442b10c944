// Package audit_test tests the records that rls.Isolation.Audits makes, against a real PostgreSQL.
package audit_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

type (
	account struct {
		ID       int64
		TenantID string
		Name     string `gorm:"uniqueIndex"`
		Secret   string
		Hash     string
		Balance  int64
		Entries  []entry `gorm:"constraint:OnDelete:CASCADE,OnUpdate:CASCADE"`
	}
	entry struct {
		ID        int64
		TenantID  string
		AccountID int64
		Amount    int64
	}
)

// database has audited tables.
type database struct {
	*testdb.Database
	isolation rls.Isolation
	app       *gorm.DB // of the application, with the plugin
}

var models = []any{&account{}, &entry{}}

func newDatabase(t *testing.T) database {
	t.Helper()
	d := database{Database: testdb.New(t)}
	d.isolation = d.Isolation()
	d.isolation.Audits = []rls.Audit{{Model: &account{}, Omit: []string{"secret"}, Mask: []string{"hash"}}, {Model: &entry{}}}
	d.Migrate(t, d.isolation, models...)
	d.app = d.Open(t, d.Config())
	return d
}

// of returns the application's client for a tenant.
func (d database) of(t *testing.T, tenant string) *gorm.DB {
	return d.app.WithContext(tenancy.WithTenant(t.Context(), tenant))
}

// run runs SQL of the application for a tenant.
func (d database) run(t *testing.T, tenant, sql string) {
	t.Helper()
	require.NoError(t, d.of(t, tenant).Exec(sql).Error, sql)
}

const summary = `SELECT concat_ws(' ', tenant_id, operation, table_name, key, 'from', coalesce(before::text, '-'), 'to', coalesce(after::text, '-'))
	FROM tenancy_audit ORDER BY id`

// records returns all records, in their order, as the admin's role sees them.
func (d database) records(t *testing.T, query string) []string {
	t.Helper()
	return list(t, d.AdminDB, query)
}

func list(t *testing.T, db *gorm.DB, query string) []string {
	t.Helper()
	found := []string{}
	require.NoError(t, db.Raw(query).Scan(&found).Error, query)
	return found
}

// requireCode requires an error of PostgreSQL with this SQLSTATE.
func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var pg interface{ SQLState() string }
	require.ErrorAs(t, err, &pg)
	require.Equal(t, code, pg.SQLState(), fmt.Sprint(err))
}

const insufficientPrivilege = "42501"

func (d database) version(t *testing.T) (version int) {
	t.Helper()
	require.NoError(t, d.OwnerDB.Raw("SELECT current_setting('server_version_num')::int").Scan(&version).Error)
	return version
}

// copy runs COPY as a superuser, which no policy binds, and returns how many rows it has copied.
func (d database) copy(t *testing.T, sql, rows string) int64 {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.SuperuserDSN(t))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	tag, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(rows), sql)
	require.NoError(t, err)
	return tag.RowsAffected()
}

// named puts the name of the application's role into a statement that says app.
func (d database) named(statement string) string {
	return strings.ReplaceAll(statement, " TO app", " TO "+d.App.Role)
}
