package plans

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

type document[T any] struct {
	ID        int64
	TenantID  T
	Title     string
	Body      string `gorm:"type:jsonb"`
	CreatedAt time.Time
}

type comment[T any] struct {
	ID         int64
	TenantID   T
	DocumentID int64
	Document   document[T]
	Text       string
}

func (document[T]) TableName() string { return "documents" }
func (comment[T]) TableName() string  { return "comments" }

var tables = []string{"documents", "comments"}

// uuid is a string that GORM keeps in a column of type uuid.
type uuid string

func (uuid) GormDataType() string { return "uuid" }

// column is a type of tenant column.
type column struct {
	name   string
	models []any
	tenant string // SQL for the tenant of row i
}

var columns = []column{
	{"text", []any{&document[string]{}, &comment[string]{}}, "'tenant-' || i %% %d"},
	{"uuid", []any{&document[uuid]{}, &comment[uuid]{}}, "md5((i %% %d)::text)::uuid"},
	{"bigint", []any{&document[int64]{}, &comment[int64]{}}, "i %% %d"},
}

// fixture is a database of two tables that hold the rows of all tenants in turn, so that each row of a tenant is on a page of
// its own: what an application has whose tenants work at the same time, and the worst for an index.
type fixture struct {
	column
	owner  *gorm.DB
	app    *pgx.Conn // the application, with the tenant set for its session
	admin  *pgx.Conn
	roles  rls.Isolation
	tenant string // whose rows are read
	id     int64  // of one of its documents
}

func newFixture(t *testing.T, c column) *fixture {
	t.Helper()
	d := pgserver.New(t)
	owner, err := gorm.Open(postgres.Open(d.Owner.DSN), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := owner.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	w := &fixture{
		column: c, owner: owner, id: 42 + 7*tenants,
		app: connect(t, d.App.DSN, ""), admin: connect(t, d.App.DSN, d.Admin.Role),
		roles: rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role},
	}
	w.isolate(t)
	w.fill(t)
	sql := fmt.Sprintf("SELECT tenant_id::text FROM documents WHERE id = %d", w.id)
	require.NoError(t, w.admin.QueryRow(t.Context(), sql).Scan(&w.tenant))
	w.setTenant(t, w.tenant)
	return w
}

// connect opens a session that plans alike on every machine: neither the number of processors nor a compiler decides.
func connect(t *testing.T, dsn, role string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.RuntimeParams["jit"] = "off"
	config.RuntimeParams["max_parallel_workers_per_gather"] = "0"
	if role != "" {
		config.RuntimeParams["role"] = role
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}

// isolate makes the policies, or makes them again.
func (w *fixture) isolate(t *testing.T) {
	t.Helper()
	_, err := w.roles.Migrate(t.Context(), w.owner, w.models...)
	require.NoError(t, err)
}

// fill makes the rows as the admin, which the policies let.
func (w *fixture) fill(t *testing.T) {
	t.Helper()
	tenant := fmt.Sprintf(w.column.tenant, tenants)
	for _, sql := range []string{
		`INSERT INTO documents (id, tenant_id, title, body, created_at)
			SELECT i, ` + tenant + `, 'Title ' || i, jsonb_build_object('ref', i), timestamptz '2025-01-01' + i * interval '1 s'
			FROM generate_series(1, $1) i`,
		`INSERT INTO comments (id, tenant_id, document_id, text) SELECT i, ` + tenant + `, i, 'Comment ' || i
			FROM generate_series(1, $1) i`,
	} {
		_, err := w.admin.Exec(t.Context(), sql, *rows)
		require.NoError(t, err)
	}
	w.vacuum(t)
}

// vacuum leaves nothing for a later statement or autovacuum to do: neither statistics nor hint bits, nor visibility.
func (w *fixture) vacuum(t *testing.T) {
	t.Helper()
	w.run(t, "VACUUM (ANALYZE) documents", "VACUUM (ANALYZE) comments")
}

// run runs statements as the owner.
func (w *fixture) run(t *testing.T, statements ...string) {
	t.Helper()
	pool, err := w.owner.DB()
	require.NoError(t, err)
	for _, sql := range statements {
		_, err := pool.ExecContext(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

// both runs a statement for each table, as the owner.
func (w *fixture) both(t *testing.T, format string) {
	t.Helper()
	for _, table := range tables {
		w.run(t, fmt.Sprintf(format, table))
	}
}

// setTenant sets the tenant for the session of the application.
func (w *fixture) setTenant(t *testing.T, tenant string) {
	t.Helper()
	_, err := w.app.Exec(t.Context(), "SELECT set_config('app.tenant_id', $1, false)", tenant)
	require.NoError(t, err)
}

// without runs f on the very same tables without row-level security.
func (w *fixture) without(t *testing.T, f func()) {
	t.Helper()
	w.both(t, "ALTER TABLE %s DISABLE ROW LEVEL SECURITY")
	f()
	w.both(t, "ALTER TABLE %s ENABLE ROW LEVEL SECURITY")
}

// pages is the number of pages of the documents, which a full scan reads.
func (w *fixture) pages(t *testing.T) int {
	t.Helper()
	var pages int
	sql := "SELECT relpages FROM pg_class WHERE oid = 'documents'::regclass"
	require.NoError(t, w.app.QueryRow(t.Context(), sql).Scan(&pages))
	return pages
}
